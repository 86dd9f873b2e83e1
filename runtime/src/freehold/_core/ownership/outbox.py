"""What an owner machine wants said and whom it wants woken: its effects.

A list that the shell empties, not a list made by each event: the path of a task makes none.
"""

from __future__ import annotations

from typing import Any

from freehold._core.ids import Address
from freehold._core.messages import Message


class Outbox:
    """Effects since the shell last looked.

    Attributes:
        messages: (to whom, what, whether the receiver waits for it) in order.
        woken: waiters of rows that were resolved, to be told `count_down()`.
        has_deadline: a deadline was set: `Owner.next_deadline` may be sooner than it was. To ask
            for it after each event would be a tenth of an actor call.
    """

    __slots__ = ("has_deadline", "messages", "node_manager", "woken")

    def __init__(self, node_manager: Address) -> None:
        self.node_manager = node_manager
        self.messages: list[tuple[Address, Message, bool]] = []
        self.woken: list[Any] = []
        self.has_deadline = False

    def send(self, target: Address, message: Message, is_urgent: bool = False) -> None:
        """Say `message` to `target`."""
        self.messages.append((target, message, is_urgent))

    def ask_node(self, message: Message, is_urgent: bool = True) -> None:
        """Say `message` to this process's node manager."""
        self.messages.append((self.node_manager, message, is_urgent))
