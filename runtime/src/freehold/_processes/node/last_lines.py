"""What workers wrote last, for a driver that is about to leave: of this node and of all others.

The driver's node asks each other node, whose lines come over the same connection before its answer,
and answers the driver when all have. The driver waits for a moment only, so that nothing here needs
a deadline; a node that dies meanwhile is not waited for.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._processes.node.hub import Handler, Hub
from freehold._processes.node.outputs import Outputs


class LastLines:
    """The drivers' `FlushLines` that are under way on this node.

    Args:
        other_nodes: the other living nodes of the cluster.
    """

    def __init__(self, hub: Hub, outputs: Outputs, other_nodes: Callable[[], list[str]]) -> None:
        self._hub = hub
        self._outputs = outputs
        self._other_nodes = other_nodes
        self._numbers = itertools.count(1)
        self._open: dict[int, tuple[Address, int, set[str]]] = {}

    def handlers(self) -> dict[type, Handler]:
        """The messages that are this part's."""
        return {m.FlushLines: self._on_flush, m.Explained: self._on_flushed}

    def node_lost(self, node: str) -> None:
        """A node died: it will not answer."""
        for number in list(self._open):
            self._answered(number, node)

    def _on_flush(self, source: Address, message: m.FlushLines) -> None:
        self._outputs.read_all()
        number = next(self._numbers)
        asked: set[str] = set()
        if source.process:
            for node in self._other_nodes():
                if self._hub.send(Address(node, 0), m.FlushLines(number)):
                    asked.add(node)
        self._open[number] = (source, message.request, asked)
        self._answered(number, "")

    def _on_flushed(self, source: Address, message: m.Explained) -> None:
        self._answered(message.request, source.node)

    def _answered(self, number: int, node: str) -> None:
        found = self._open.get(number)
        if found is None:
            return
        source, request, asked = found
        asked.discard(node)
        if not asked:
            del self._open[number]
            self._hub.send(source, m.Explained(request, []))
