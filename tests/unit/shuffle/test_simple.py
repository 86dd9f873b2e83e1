"""The simple shuffle's contract with the public interface: what it submits, waits for and tells."""

from __future__ import annotations

import pytest
from tests.unit.shuffle.eager_api import EagerApi

from freehold.shuffle import ShuffleOptions, ShuffleProgress, simple_shuffle


def spread(numbers: list[int]) -> list[list[int]]:
    return [[n for n in numbers if n % 3 == r] for r in range(3)]


def gather(partition: int, *blocks: list[int]) -> tuple[int, list[int]]:
    return partition, [n for block in blocks for n in block]


def test_every_block_reaches_its_partition_in_the_inputs_order(api: EagerApi) -> None:
    refs = simple_shuffle([[5, 3, 4], [0, 1, 2], [6]], spread, gather, 3)
    assert api.get(refs) == [(0, [3, 0, 6]), (1, [4, 1]), (2, [5, 2])]


def test_one_partition_takes_the_only_block(api: EagerApi) -> None:
    refs = simple_shuffle([[2], [1]], lambda numbers: [numbers], gather, 1)
    assert api.get(refs) == [(0, [2, 1])]


def test_no_input_still_gives_every_partition(api: EagerApi) -> None:
    assert api.get(simple_shuffle([], spread, gather, 3)) == [(0, []), (1, []), (2, [])]


def test_options_reach_the_tasks(api: EagerApi) -> None:
    options = ShuffleOptions(map_options={"num_cpus": 2}, reduce_options={"max_retries": 9})
    simple_shuffle([[1], [2]], spread, gather, 3, options)
    assert api.submitted[:2] == [({"num_returns": 3, "num_cpus": 2}, 1)] * 2
    assert api.submitted[2:] == [({"max_retries": 9}, 3)] * 3


def test_progress_is_told_from_none_to_all_of_each_stage(api: EagerApi) -> None:
    seen: list[ShuffleProgress] = []
    options = ShuffleOptions(on_progress=seen.append)
    simple_shuffle([[1], [2]], spread, gather, 3, options)
    assert [(p.stage, p.done, p.total) for p in seen] == [
        *(("map", done, 2) for done in range(3)),
        *(("reduce", done, 3) for done in range(4)),
    ]


def test_unfinished_maps_are_bounded(api: EagerApi) -> None:
    options = ShuffleOptions(max_unfinished_maps=2)
    simple_shuffle([[n] for n in range(6)], spread, gather, 3, options)
    maps_waited = api.waits[:-3]
    assert max(maps_waited) == 2
    assert len(maps_waited) == 6


@pytest.mark.parametrize("partitions", [1, 3])
def test_blocks_are_let_go_once_the_reduces_have_them(api: EagerApi, partitions: int) -> None:
    alive: list[int] = []

    def look(progress: ShuffleProgress) -> None:
        if progress.stage == "reduce":
            alive.append(api.refs_alive())

    def cut(numbers: list[int]) -> list[list[int]]:
        return [numbers] * partitions

    simple_shuffle([[1], [2], [3]], cut, gather, partitions, ShuffleOptions(on_progress=look))
    assert alive == [partitions] * (partitions + 1)


def test_the_first_failure_is_raised_and_the_rest_cancelled(api: EagerApi) -> None:
    def broken(numbers: list[int]) -> list[list[int]]:
        if numbers == [2]:
            raise LookupError("this map is broken")
        return spread(numbers)

    with pytest.raises(LookupError, match="this map is broken"):
        simple_shuffle([[1], [2], [3], [4]], broken, gather, 3)
    assert len(api.cancelled) == 2 + 3


def test_a_failed_reduce_is_raised(api: EagerApi) -> None:
    def broken(partition: int, *blocks: list[int]) -> None:
        raise LookupError(f"reduce {partition} is broken")

    with pytest.raises(LookupError, match="reduce 0 is broken"):
        simple_shuffle([[1]], spread, broken, 3)


def test_an_interrupt_cancels_what_has_not_ended(api: EagerApi) -> None:
    api.interrupt_after_waits = 1
    with pytest.raises(KeyboardInterrupt):
        simple_shuffle([[1], [2], [3]], spread, gather, 3)
    assert len(api.cancelled) == 2 + 3


def test_no_partition_is_refused(api: EagerApi) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        simple_shuffle([], spread, gather, 0)
