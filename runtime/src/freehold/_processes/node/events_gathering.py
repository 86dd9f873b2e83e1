"""Gathers the task events of a cluster's processes for the one that asked.

A node asks its own processes and the other nodes' managers, and answers once with all that came,
when all have answered or ended, or after `GATHER_S`: a task in a C loop answers nothing.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._processes.node.hub import Handler, Hub

GATHER_S = 2.0


class _Gathering:
    __slots__ = ("events", "request", "source", "waiting")

    def __init__(self, source: Address, request: int) -> None:
        self.source = source
        self.request = request
        self.waiting: set[Address] = set()
        self.events: list[tuple[int, str, str, str, str]] = []


class EventsGathering:
    """The questions for task events that are under way on this node."""

    def __init__(self, hub: Hub, other_nodes: Callable[[], list[str]]) -> None:
        self._hub = hub
        self._other_nodes = other_nodes
        self._numbers = itertools.count(1)
        self._open: dict[int, _Gathering] = {}

    def handlers(self) -> dict[type, Handler]:
        """The messages that are this part's."""
        return {m.TaskEventsWanted: self._on_wanted, m.TaskEvents: self._on_events}

    def process_gone(self, address: Address) -> None:
        """A process ended: it will not answer."""
        for number, gathering in list(self._open.items()):
            gathering.waiting.discard(address)
            self._end_if_complete(number)

    def _on_wanted(self, source: Address, message: m.TaskEventsWanted) -> None:
        number = next(self._numbers)
        gathering = _Gathering(source, message.request)
        for process in self._hub.processes.registered():
            if process.address != source:
                gathering.waiting.add(process.address)
        if source.process != 0:
            gathering.waiting |= {Address(node, 0) for node in self._other_nodes()}
        self._open[number] = gathering
        for address in sorted(gathering.waiting):
            if not self._hub.send(address, m.TaskEventsWanted(number)):
                gathering.waiting.discard(address)
        self._hub.reactor.call_later(GATHER_S, lambda: self._end(number))
        self._end_if_complete(number)

    def _on_events(self, source: Address, message: m.TaskEvents) -> None:
        gathering = self._open.get(message.request)
        if gathering is None or source not in gathering.waiting:
            return
        gathering.events += message.events
        gathering.waiting.discard(source)
        self._end_if_complete(message.request)

    def _end_if_complete(self, number: int) -> None:
        gathering = self._open.get(number)
        if gathering is not None and not gathering.waiting:
            self._end(number)

    def _end(self, number: int) -> None:
        gathering = self._open.pop(number, None)
        if gathering is not None:
            answer = m.TaskEvents(
                gathering.request, self._hub.address, os.getpid(), gathering.events, True
            )
            self._hub.send(gathering.source, answer)
