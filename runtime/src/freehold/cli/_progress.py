"""Shows the stages of a job while they run: a bar each on a terminal, a line each anywhere else.

Everything goes to stderr, so that stdout carries results only.
"""

from __future__ import annotations

import dataclasses
import sys
from typing import TYPE_CHECKING, Any

import click

from freehold.cli._sizes import in_bytes

if TYPE_CHECKING:
    from freehold.shuffle import ShuffleProgress


@dataclasses.dataclass(frozen=True, slots=True)
class StageTime:
    """How long a finished stage took, and how many bytes went through it (0: not counted)."""

    stage: str
    seconds: float
    size_bytes: int

    @property
    def gigabytes_per_second(self) -> float:
        """Decimal gigabytes a second."""
        return self.size_bytes / 1e9 / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        if not self.size_bytes:
            return f"{self.stage:<9} {self.seconds:6.2f} s"
        return (
            f"{self.stage:<9} {self.seconds:6.2f} s  {in_bytes(self.size_bytes):>9}  "
            f"{self.gigabytes_per_second:5.2f} GB/s"
        )


class StageDisplay:
    """Takes a shuffle's progress and shows it.

    Args:
        size_bytes: what goes through each stage.
        uncounted: stages that touch little of it; they show no rate.
    """

    def __init__(self, size_bytes: int, uncounted: tuple[str, ...] = ("sample",)) -> None:
        self.finished: list[StageTime] = []
        self._size_bytes = size_bytes
        self._uncounted = uncounted
        self._bar: Any = None
        self._shown = 0

    def __call__(self, progress: ShuffleProgress) -> None:
        """Show one step; a stage begins with done = 0 and ends with done = total."""
        if self._bar is None and sys.stderr.isatty():
            self._open_bar(progress.stage)
        if self._bar is not None:
            now = self._size_bytes * progress.done // max(1, progress.total)
            self._bar.update(now - self._shown)
            self._shown = now
        if progress.done >= progress.total:
            self.close()
            counted = 0 if progress.stage in self._uncounted else self._size_bytes
            self.finished.append(StageTime(progress.stage, progress.elapsed_s, counted))
            click.echo(str(self.finished[-1]), err=True)

    def close(self) -> None:
        """Take the bar away, also when its stage did not end."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def seconds(self, *stages: str) -> float:
        """The time of the finished stages of these names."""
        return sum(time.seconds for time in self.finished if time.stage in stages)

    def _open_bar(self, stage: str) -> None:
        from tqdm import tqdm

        self._shown = 0
        self._bar = tqdm(
            total=self._size_bytes,
            desc=f"{stage:<9}",
            unit="B",
            unit_scale=True,
            leave=False,
            file=sys.stderr,
            dynamic_ncols=True,
        )
