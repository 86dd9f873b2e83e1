"""The threads that a worker runs calls on, and how they end."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

from freehold._io.reactor import Reactor
from freehold._processes.worker.loops import ThreadedLoop


class EndsMeanwhile:
    """A worker whose actor leaves on a call's thread just after the loop has looked whether it
    ends, and before the loop has said that it is idle."""

    def __init__(self, reactor: Reactor) -> None:
        self.core = SimpleNamespace(reactor=reactor, running={})
        self.loop: ThreadedLoop | None = None
        self.looks = 0

    @property
    def is_ending(self) -> bool:
        self.looks += 1
        if self.looks > 1:
            return True
        assert self.loop is not None
        with self.core.reactor.lock:
            self.loop.stop()
        return False


def test_an_actor_that_leaves_before_its_loop_waits_ends() -> None:
    reactor = Reactor()
    service: Any = EndsMeanwhile(reactor)
    service.loop = ThreadedLoop(service, {"": 1})
    thread = threading.Thread(target=service.loop.run, daemon=True)
    thread.start()
    thread.join(5.0)
    assert not thread.is_alive()
    reactor.close()
