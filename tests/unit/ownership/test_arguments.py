"""Where a task had rather run: by the bytes of its arguments that each node holds."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.unit.ownership.owners import make_owner, put, submit

from freehold._core.ids import Location
from freehold._core.ownership.arguments import NEAR_BYTES, Given
from freehold._core.ownership.owner import Owner

ONE, TWO, THREE = "1" * 32, "2" * 32, "3" * 32
TASKS = 6


@pytest.fixture
def owner() -> Owner:
    return make_owner()


def nearest(owner: Owner, held: dict[str, int]) -> Counter[str]:
    """Which nodes some tasks had rather run on, all with one argument on each of these nodes."""
    refs = [
        put(owner, Location(node, 1, 0, size), at) for at, (node, size) in enumerate(held.items())
    ]
    given = Given(b"x", top_level=list(enumerate(refs)))
    rows = [submit(owner, given=given)[0]._row for _ in range(TASKS)]
    return Counter(row.task.near for row in rows)


def test_where_the_bytes_are(owner: Owner) -> None:
    assert nearest(owner, {ONE: NEAR_BYTES, TWO: 5 * NEAR_BYTES}) == {TWO: TASKS}


def test_nowhere_for_a_few_bytes(owner: Owner) -> None:
    assert nearest(owner, {ONE: NEAR_BYTES - 1}) == {"": TASKS}


def test_those_that_hold_about_as_much_take_turns(owner: Owner) -> None:
    """A shuffle's reduces: not all to the node that happens to have made a block more."""
    held = {ONE: 6 * NEAR_BYTES, TWO: 7 * NEAR_BYTES, THREE: NEAR_BYTES}
    assert nearest(owner, held) == {ONE: TASKS / 2, TWO: TASKS / 2}
