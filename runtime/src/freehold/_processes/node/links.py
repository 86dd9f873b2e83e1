"""Messages between node manager and control service when both live in one process."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from freehold._core.messages import Message
from freehold._io.reactor import Reactor


class LocalLink:
    """Delivers messages at the reactor's next flush, so that no machine is entered from itself."""

    def __init__(self, reactor: Reactor, deliver: Callable[[Message], None]) -> None:
        self._reactor = reactor
        self._deliver = deliver
        self._messages: deque[Message] = deque()
        self.is_dirty = False

    def send(self, message: Message) -> None:
        """Queue a message."""
        self._messages.append(message)
        if not self.is_dirty:
            self.is_dirty = True
            self._reactor.dirty.append(self)

    def flush(self) -> None:
        """Deliver what is queued."""
        self.is_dirty = False
        messages = self._messages
        while messages:
            self._deliver(messages.popleft())
