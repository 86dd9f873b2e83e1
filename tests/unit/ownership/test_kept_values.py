"""Small values that only a task that may be executed again still needs."""

from __future__ import annotations

from typing import Any

from tests.unit.ownership.owners import (
    DRIVER,
    ROOT,
    WORKER,
    grant,
    location,
    make_owner,
    put,
    row_of,
    said,
    submit,
)

from freehold._core import messages as m
from freehold._core.ownership.arguments import Given
from freehold._core.ownership.owner import Owner
from freehold._core.ownership.reference import ObjectRef, make_reference
from freehold._core.ownership.row import LOST, READY, Row


def put_with(owner: Owner, inside: list[ObjectRef[Any]], index: int = 7) -> ObjectRef[Any]:
    """Put a small value with references inside."""
    return make_reference(owner.put(ROOT, index, b"small", inside))


def run_with(owner: Owner, ref: ObjectRef[Any]) -> tuple[ObjectRef[Any], Row]:
    """A task was given `ref` and ended with a stored value, so that it is kept; its output."""
    (output,) = submit(owner, given=Given(b"x", None, [ref]))
    if WORKER not in owner.leasing.leases:
        grant(owner, WORKER)
    (run,) = said(owner, m.Run)
    done = m.DoneWith(run.key, 0, 5, [m.Output(None, location(9))])
    owner.on_done_with(WORKER, done, 0.0)
    return output, row_of(ref)


def test_what_is_inside_comes_back_with_the_value() -> None:
    owner = make_owner(DRIVER)
    inner = put(owner)
    outer = put_with(owner, [inner, put(owner, location(1), index=1)])
    output, row = run_with(owner, outer)
    del outer, inner
    assert [where.segment for where in said(owner, m.RangeReleased)] == [1]  # values may go
    assert (row.count, row.state, row.value) == (0, READY, b"small")
    owner.check_invariants([row])
    again = owner.table.reference(row, 0)
    assert row.nested is not None
    kept, stored = (row_of(ref) for ref in row.nested[0][1])
    assert (kept.state, kept.value, kept.count, kept.lineage) == (READY, b"value", 1, 0)
    assert (stored.state, stored.count, stored.lineage) == (LOST, 1, 0)
    owner.check_invariants([row])
    del again, output
    owner.settle(0.0)
    assert (owner.table.rows, owner.table.inside_kept) == (0, {})


def test_a_chain_of_values_comes_back() -> None:
    owner = make_owner(DRIVER)
    ref = put(owner)
    for index in range(5000):
        ref = put_with(owner, [ref], index + 7)
    output, row = run_with(owner, ref)
    del ref
    owner.settle(0.0)
    assert len(owner.table.inside_kept) == 5000
    again = owner.table.reference(row, 0)
    assert owner.table.inside_kept == {}
    del again, output
    owner.settle(0.0)
    assert (owner.table.rows, owner.table.inside_kept) == (0, {})


def test_small_values_of_several_outputs_stay() -> None:
    owner = make_owner(DRIVER)
    first, second = submit(owner, num_returns=2, max_retries=0)
    grant(owner, WORKER)
    (run,) = said(owner, m.Run)
    done = m.DoneWith(run.key, 0, 5, [m.Output(b"small"), m.Output(None, location(1))])
    owner.on_done_with(WORKER, done, 0.0)
    output, row = run_with(owner, first)
    del first, second
    assert [where.segment for where in said(owner, m.RangeReleased)] == [1]
    assert (row.count, row.state, row.value) == (0, READY, [b"small", None])
    owner.check_invariants([row])
    assert owner.recovery.is_there(row, 0)
    del output
    owner.settle(0.0)
    assert owner.table.rows == 0


def test_a_value_with_an_actors_handle_inside_goes() -> None:
    """Lineage does not keep actors."""
    owner = make_owner(DRIVER)
    handle = make_reference(owner.table.new_actor(ROOT, 77))
    owner.table.expose(row_of(handle), 0)
    outer = put_with(owner, [handle])
    output, row = run_with(owner, outer)
    del outer, handle
    assert len(said(owner, m.ReleaseActor)) == 1
    assert (row.state, row.value) == (LOST, None)
    del output
    owner.settle(0.0)
    assert owner.table.rows == 0
