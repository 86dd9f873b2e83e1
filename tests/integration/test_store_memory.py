"""The store's memory in real processes: headroom, touching ahead, ranges with a new owner."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from tests.integration.conftest import FAR, start_cluster

import freehold
from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._core.store import events as ev
from freehold._io.reactor import Reactor
from freehold._io.shm import Arena
from freehold._processes.node.hub import Hub
from freehold._processes.node.memory import MemoryLeft, MemoryReader
from freehold._processes.node.settings import NodeSettings
from freehold._processes.node.storage import StoreDesk
from freehold.testing import eventually

MIB = 1 << 20
WORKER = Address("a" * 32, 1)


class FakeReader:
    """A machine with as much memory left as the test says."""

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.looks = 0

    def left(self) -> MemoryLeft:
        self.looks += 1
        return MemoryLeft(self.budget_bytes, "this machine has little")


class Desk:
    """A StoreDesk over a real arena and a real reactor; what it says is in `sent`."""

    def __init__(self, budget_bytes: int, **settings: Any) -> None:
        self.reactor = Reactor()
        self.sent: list[Any] = []
        self.reader = FakeReader(budget_bytes)
        self.arena = Arena.create(64 * MIB)
        chosen = NodeSettings(object_store_memory=64 * MIB, **settings)
        hub = SimpleNamespace(
            reactor=self.reactor,
            settings=chosen,
            node=WORKER.node,
            send_to=lambda process, message: self.sent.append(message),
        )
        self.store = StoreDesk(cast(Hub, hub), self.arena, cast(MemoryReader, self.reader))
        self.thread = threading.Thread(target=self.reactor.run_forever)
        self.thread.start()

    def create(self, size: int) -> None:
        with self.reactor.lock:
            self.store.handlers()[m.CreateSegment](WORKER, m.CreateSegment(1, size))

    def snapshot(self) -> ev.StoreSnapshot:
        with self.reactor.lock:
            return self.store.machine.snapshot()

    def close(self) -> None:
        self.reactor.stop()
        self.thread.join()
        self.reactor.close()
        self.arena.close()


@pytest.fixture
def make_desk() -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(*args: Any, **settings: Any) -> Desk:
        made.append(Desk(*args, **settings))
        return made[-1]

    yield make
    for desk in made:
        desk.close()


def test_a_producer_waits_until_the_machine_has_memory(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(8 * MIB)
    desk.create(9 * MIB)
    eventually(lambda: desk.reader.looks >= 3)
    assert desk.sent == []
    assert os.fstat(desk.arena.fd).st_blocks == 0, "nothing was committed"
    desk.reader.budget_bytes = 9 * MIB
    eventually(lambda: desk.sent)
    assert isinstance(desk.sent[0], m.SegmentGranted)
    assert os.fstat(desk.arena.fd).st_blocks * 512 == 9 * MIB


def test_without_memory_for_long_the_refusal_says_so(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(MIB, full_timeout_s=0.2)
    desk.create(2 * MIB)
    (refused,) = eventually(lambda: desk.sent)
    assert isinstance(refused, m.SegmentRefused)
    assert "within 0.2 s: this machine has little, which leaves 1048576 bytes" in refused.report


def test_memory_is_touched_in_the_background(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(64 * MIB, touch_ahead=True, touched_free_bytes=12 * MIB)
    desk.create(2 * MIB)
    eventually(lambda: desk.snapshot().touched_free_bytes == 12 * MIB)
    assert os.fstat(desk.arena.fd).st_blocks * 512 == 14 * MIB
    desk.create(12 * MIB)
    assert eventually(lambda: desk.sent[1:])[0].is_warm


def test_touching_does_not_change_what_was_written(make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(64 * MIB)
    desk.arena.write(MIB, [b"x" * MIB])
    desk.arena.touch(0, 4 * MIB)
    assert desk.arena.read(MIB, MIB) == b"x" * MIB
    assert desk.arena.read(0, MIB) == bytes(MIB)
    assert os.fstat(desk.arena.fd).st_blocks * 512 == 4 * MIB


@freehold.remote(num_cpus=0)
class Maker:
    def make(self) -> list[Any]:
        """An object of this process, which its caller owns from the answer on."""
        return [freehold.put(np.full(MIB, 7, dtype=np.uint8))]

    def pid(self) -> int:
        return os.getpid()


@pytest.mark.parametrize("nodes", [1, 2])
def test_an_adopted_object_survives_its_maker(nodes: int) -> None:
    with start_cluster(nodes):
        maker = Maker.options(resources=FAR).remote()
        pid = freehold.get(maker.pid.remote(), timeout=20)
        (ref,) = freehold.get(maker.make.remote(), timeout=20)
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not os.path.exists(f"/proc/{pid}"))
        with pytest.raises(freehold.exceptions.ActorDiedError):
            freehold.get(maker.pid.remote(), timeout=20)
        array = freehold.get(ref, timeout=20)
        assert (int(array[0]), int(array[-1]), array.size) == (7, 7, MIB)
        del array


def test_nodes_tell_of_their_stores() -> None:
    with start_cluster(1, object_store_memory=64 * MIB):
        ref = freehold.put(np.zeros(4 * MIB, dtype=np.uint8))

        def told() -> dict[str, int]:
            (node,) = freehold.nodes()
            return cast(dict[str, int], node["object_store"])

        eventually(lambda: 4 * MIB <= told()["in_use"] < 5 * MIB)
        assert told()["capacity"] == 64 * MIB
        assert told()["pinned_replicas"] == 0
        del ref
        eventually(lambda: told()["in_use"] == 0 and 4 * MIB <= told()["touched_free"] < 5 * MIB)
