"""What a sort lost with a node, and what it may take for that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.ledger import (
    Noted,
    Run,
    allowed_seconds,
    lost_seconds,
    read,
    repeated,
    runs,
    seconds_until_again,
    unfinished,
)

KILLED_AT = 10.0


def _note(what: str, at: float, task: str = "map 1") -> str:
    return json.dumps({"task": task, "node": "a", "what": what, "at": at})


def test_begin_and_end_of_a_task_are_one_run() -> None:
    lines = [_note("began", 1.0), _note("ended", 2.5), _note("began", 3.0, "map 2")]
    assert runs(lines) == [Run("map 1", "a", 1.0, 2.5), Run("map 2", "a", 3.0, None)]


def test_task_that_raised_has_no_end(tmp_path: Path) -> None:
    with Noted(str(tmp_path), "map 1", "a"):
        pass
    with pytest.raises(ValueError, match="broken"), Noted(str(tmp_path), "map 2", "b"):
        raise ValueError("broken")
    first, second = read(tmp_path)
    assert (first.task, first.node, second.task, second.node) == ("map 1", "a", "map 2", "b")
    assert first.ended is not None
    assert second.ended is None


@pytest.mark.parametrize(
    ("known", "lost"),
    [
        ([Run("map", "killed", 7.0, None), Run("map", "other", 11.0, 14.0)], 3.0),
        ([Run("map", "killed", 1.0, 3.0), Run("map", "other", 11.0, 14.0)], 2.0),
        # It ended in the moment between the kill and the end of its own process.
        ([Run("map", "killed", 9.0, 10.1), Run("map", "other", 11.0, 12.0)], 1.0),
        # Nobody needed it any more, or a copy was elsewhere.
        ([Run("map", "killed", 1.0, 3.0)], 0.0),
        # Run again though it had not been there.
        ([Run("map", "other", 1.0, 3.0), Run("map", "other", 11.0, 14.0)], 0.0),
        # Run again before the kill, for another reason.
        ([Run("map", "killed", 1.0, 3.0), Run("map", "other", 4.0, 5.0)], 0.0),
    ],
)
def test_lost_is_what_ran_there_and_had_to_be_run_again(known: list[Run], lost: float) -> None:
    assert lost_seconds(known, "killed", KILLED_AT) == pytest.approx(lost)


def test_runs_beyond_the_first_and_without_an_end_are_counted() -> None:
    known = [Run("a", "x", 1.0, 2.0), Run("a", "y", 3.0, None), Run("b", "x", 2.0, 3.0)]
    assert (repeated(known), unfinished(known)) == (1, 1)
    assert (repeated(known[2:]), unfinished(known[2:])) == (0, 0)


def test_first_run_that_makes_up_for_another_is_found() -> None:
    known = [Run("a", "x", 1.0, 2.0), Run("b", "y", 10.1, 11.0), Run("a", "y", 10.5, 11.0)]
    assert seconds_until_again(known, KILLED_AT) == pytest.approx(0.5)
    assert seconds_until_again(known[:2], KILLED_AT) == 0.0


def test_what_was_lost_is_made_up_for_by_all_that_are_left() -> None:
    assert allowed_seconds(10.0, 0.5, 8.0, 2) == pytest.approx(10.0 + 0.5 + 1.3 * 4.0)
