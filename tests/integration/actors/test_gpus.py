"""Actors with GPUs: indices before the constructor runs, given back when the process is dead."""

from __future__ import annotations

import os

from tests.integration.actors.kit import kill_process

import freehold
from freehold.testing import LocalCluster, eventually


@freehold.remote(num_gpus=1)
class OnGpu:
    seen_early = os.environ.get("CUDA_VISIBLE_DEVICES")

    def __init__(self) -> None:
        self.seen = os.environ.get("CUDA_VISIBLE_DEVICES")

    def devices(self) -> tuple[str | None, list[str]]:
        return self.seen, freehold.get_runtime_context().get_accelerator_ids()["GPU"]

    def pid(self) -> int:
        return os.getpid()


def test_indices_are_exclusive_and_come_back() -> None:
    with LocalCluster(nodes=1, num_cpus=2, num_gpus=2):
        first, second = OnGpu.remote(), OnGpu.remote()
        found = freehold.get([first.devices.remote(), second.devices.remote()], timeout=20)
        assert sorted(found) == [("0", ["0"]), ("1", ["1"])]
        third = OnGpu.options(max_restarts=1).remote()
        waiting = third.devices.remote()
        ready, _ = freehold.wait([waiting], timeout=0.3)
        assert ready == []
        freed = found[0]
        freehold.kill(first)
        assert freehold.get(waiting, timeout=20) == freed
        kill_process(freehold.get(third.pid.remote()))
        eventually(lambda: came_back(third, freed))


def came_back(actor: freehold.actor.ActorHandle, freed: tuple[str, list[str]]) -> bool:
    try:
        return bool(freehold.get(actor.devices.remote(), timeout=20) == freed)
    except freehold.exceptions.ActorUnavailableError:
        return False


def test_two_gpus_and_fractions() -> None:
    with LocalCluster(nodes=1, num_cpus=4, num_gpus=2):  # a CPU each, since they ask for a GPU
        both = OnGpu.options(num_gpus=2).remote()
        assert freehold.get(both.devices.remote(), timeout=20) == ("0,1", ["0", "1"])
        freehold.kill(both)
        halves = [OnGpu.options(num_gpus=0.5).remote() for _ in range(4)]
        found = freehold.get([half.devices.remote() for half in halves], timeout=20)
        assert sorted(device for _, (device,) in found) == ["0", "0", "1", "1"]
