"""The simple shuffle: every map returns one block a partition, every reduce takes its column.

The strategy of Exoshuffle's section 3.1 ("simple shuffle": Luan et al., SIGCOMM'23, listing 1;
MapReduce's and Spark's with the roles of scheduler and store given to the runtime)::

    blocks  = [map.options(num_returns=R).remote(part) for part in inputs]     M × R futures
    outputs = [reduce.remote(r, *column r of blocks)   for r in range(R)]      R futures

Blocks go from map to reduce through the object store; the driver sees references only. A reduce
is submitted as soon as its maps are, waits for its column without holding a worker, and its blocks
are freed when it ends. It is the right strategy while M × R blocks are few and not small; merging
blocks before they travel is another module's work. Only `freehold`'s public names are used here.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import freehold as fh


@dataclasses.dataclass(frozen=True, slots=True)
class ShuffleProgress:
    """How far a stage is, told to `on_progress` when it starts and after each of its tasks.

    Args:
        stage: its name: "map" and "reduce" here; a sort has more.
        done: tasks that ended.
        total: tasks in all.
        elapsed_s: seconds since the stage began; both stages of a shuffle are counted from the
            end of the one before.

    Example:
        >>> from freehold.shuffle import ShuffleProgress
        >>> seen = ShuffleProgress(stage="map", done=3, total=4, elapsed_s=0.5)
        >>> f"{seen.stage}: {seen.done} of {seen.total}"
        'map: 3 of 4'
    """

    stage: str
    done: int
    total: int
    elapsed_s: float


OnProgress = Callable[[ShuffleProgress], None]


@dataclasses.dataclass(frozen=True, slots=True)
class ShuffleOptions:
    """How a shuffle's tasks are run.

    Args:
        map_options: for `.options(…)` of each map, e.g. ``{"num_cpus": 2}``.
        reduce_options: the same of each reduce.
        max_unfinished_maps: maps submitted but not finished at any time; None for no limit, which
            is right unless the inputs themselves are large arguments.
        on_progress: called in the caller's thread.

    Example:
        >>> import freehold
        >>> from freehold.shuffle import ShuffleOptions, simple_shuffle
        >>> stages = []
        >>> options = ShuffleOptions(
        ...     map_options={"num_cpus": 0.5}, on_progress=lambda seen: stages.append(seen.stage)
        ... )
        >>> refs = simple_shuffle([3, 4], lambda n: [n], lambda r, *blocks: sum(blocks), 1, options)
        >>> freehold.get(refs), stages
        ([7], ['map', 'map', 'map', 'reduce', 'reduce'])
    """

    map_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reduce_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    max_unfinished_maps: int | None = None
    on_progress: OnProgress | None = None


def simple_shuffle(
    inputs: Sequence[Any],
    map_fn: Callable[[Any], Sequence[Any]],
    reduce_fn: Callable[..., Any],
    num_partitions: int,
    options: ShuffleOptions | None = None,
) -> list[Any]:
    """Shuffle: map each input into num_partitions blocks, reduce block r of all maps together.

    Args:
        inputs: one value or reference a map task.
        map_fn: ``map_fn(input)`` returns a sequence of num_partitions blocks.
        reduce_fn: ``reduce_fn(r, *blocks)`` gets block r of every input, in the inputs' order.
        num_partitions: how many reduces.
        options: how to run the tasks.

    Returns:
        References to the reduces' results, in order of partition, all finished.

    Raises:
        ValueError: num_partitions is less than 1.
        FreeholdError: of the first task seen to have failed (`TaskError` if its function raised);
            what has not ended is cancelled.

    Example:
        >>> import freehold
        >>> from freehold.shuffle import simple_shuffle
        >>> def by_length(text):
        ...     return [[word for word in text.split() if len(word) % 2 == r] for r in range(2)]
        >>> def joined(r, *blocks):
        ...     return sorted(sum(blocks, []))
        >>> refs = simple_shuffle(["to be", "or not", "to be"], by_length, joined, 2)
        >>> freehold.get(refs)
        [['be', 'be', 'or', 'to', 'to'], ['not']]
    """
    if num_partitions < 1:
        raise ValueError(f"num_partitions is {num_partitions}; give at least 1")
    options = options or ShuffleOptions()
    mapper = fh.remote(_first_of(map_fn) if num_partitions == 1 else map_fn)
    mapper = mapper.options(num_returns=num_partitions, **options.map_options)
    reducer = fh.remote(reduce_fn).options(**options.reduce_options)

    maps = StageProgress("map", len(inputs), options.on_progress)
    outputs: list[Any] = []
    try:
        returned: Any = None
        blocks: list[Sequence[Any]] = []
        for part in inputs:
            returned = mapper.remote(part)
            blocks.append([returned] if num_partitions == 1 else returned)
            maps.add(blocks[-1][0], options.max_unfinished_maps)
        outputs = [reducer.remote(r, *(row[r] for row in blocks)) for r in range(num_partitions)]
        # From here on blocks live as long as the reduces that take them, and no longer.
        del blocks, returned
        maps.wait_all()
        reduces = StageProgress("reduce", num_partitions, options.on_progress, outputs)
        reduces.wait_all()
    except BaseException:
        maps.cancel_rest()
        for ref in outputs:
            fh.cancel(ref)
        raise
    return outputs


class StageProgress:
    """Waits for the tasks of one stage and tells of each that ends."""

    def __init__(
        self,
        stage: str,
        total: int,
        on_progress: OnProgress | None,
        refs: Iterable[Any] = (),
    ) -> None:
        self._stage, self._total, self._on_progress = stage, total, on_progress
        self._unfinished = list(refs)
        self._done = 0
        self._began = time.monotonic()
        self._tell()

    def add(self, ref: Any, limit: int | None) -> None:
        """Add a task, then wait until fewer than limit are unfinished (None: do not wait)."""
        self._unfinished.append(ref)
        while limit is not None and len(self._unfinished) >= max(1, limit):
            self._wait_one()

    def wait_all(self) -> None:
        """Wait until every task has ended, or raise the error of the first seen to fail."""
        while self._unfinished:
            self._wait_one()

    def cancel_rest(self) -> None:
        """Give up: cancel what has not ended."""
        for ref in self._unfinished:
            fh.cancel(ref)

    def _wait_one(self) -> None:
        ended, failed, self._unfinished = fh.wait(
            self._unfinished, num_returns=1, fetch_local=False, separate_failures=True
        )
        if failed:
            fh.get(failed[0])  # raises its error
        self._done += len(ended)
        self._tell()

    def _tell(self) -> None:
        if self._on_progress is not None:
            elapsed_s = time.monotonic() - self._began
            self._on_progress(ShuffleProgress(self._stage, self._done, self._total, elapsed_s))


def _first_of(map_fn: Callable[[Any], Sequence[Any]]) -> Callable[[Any], Any]:
    """With one partition a task returns its only block, not a sequence of it."""

    def map_to_one(part: Any) -> Any:
        (block,) = map_fn(part)
        return block

    return map_to_one
