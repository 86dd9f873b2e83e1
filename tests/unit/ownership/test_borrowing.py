"""References across processes: registering, keeping, handing over, and what a death takes along."""

from __future__ import annotations

from tests.unit.ownership.owners import (
    DRIVER,
    OTHER,
    ROOT,
    THIRD,
    WORKER,
    deliver,
    exchange,
    grant,
    location,
    make_owner,
    put,
    said,
    submit,
)

from freehold._core import messages as m
from freehold._core.ids import Address, child_task_id
from freehold._core.limits import LATE_BORROW_S, LEASE_S
from freehold._core.ownership.arguments import Given
from freehold._core.ownership.row import FAILED, READY, REGISTERED

CRASH = m.ExitCause(None, 9)


def test_a_kept_argument_is_counted_until_it_is_given_back() -> None:
    driver, worker = make_owner(DRIVER), make_owner(WORKER)
    ref = put(driver)
    refs = driver.borrowing.describe([ref])
    met = worker.borrowing.meet(refs, DRIVER, is_covered=True)
    kept = worker.borrowing.kept([(met[0]._row, 0)], DRIVER)
    assert kept == [ref.binary()]
    driver.table.borrow(kept[0], WORKER)
    del ref
    driver.settle(0.0)
    assert driver.table.rows == 1
    del met
    exchange(worker, driver)
    assert (driver.table.rows, worker.table.rows) == (0, 0)


def test_what_is_kept_is_told_as_it_stands_when_the_answer_leaves() -> None:
    """A `Return` of a kept reference must not overtake the answer that registers it."""
    driver, worker, third = make_owner(DRIVER), make_owner(WORKER), make_owner(THIRD)
    ours, foreign = put(driver, index=1), put(third, index=2)
    met = worker.borrowing.meet(driver.borrowing.describe([ours]), DRIVER, is_covered=True)
    met += worker.borrowing.meet(third.borrowing.describe([foreign]), DRIVER, is_covered=True)
    rows = [(ref._row, ref._index) for ref in met]
    answers: list[list[bytes] | None] = []
    worker.borrowing.finish(rows, DRIVER, answers.append)
    assert answers == [], "it waits until the third has counted the worker"
    del met
    exchange(worker, third, driver)
    assert answers == [None]
    assert ours._row.borrowers is None


def test_an_answer_does_not_wait_for_a_dead_owner() -> None:
    worker, third = make_owner(WORKER), make_owner(THIRD)
    refs = third.borrowing.describe([put(third)])
    met = worker.borrowing.meet(refs, DRIVER, is_covered=True)
    answers: list[list[bytes] | None] = []
    worker.borrowing.finish([(met[0]._row, 0)], DRIVER, answers.append)
    worker.on_process_died(THIRD, CRASH, 0.0)
    assert answers == [None]
    assert met[0]._row.state == FAILED


def test_only_the_answer_to_the_last_registration_counts() -> None:
    driver, worker = make_owner(DRIVER), make_owner(WORKER)
    refs = driver.borrowing.describe([put(driver)])
    worker.borrowing.meet(refs, OTHER, is_covered=True)  # and let go at once
    worker.settle(0.0)
    met = worker.borrowing.meet(refs, OTHER, is_covered=True)
    done: list[int] = []
    worker.borrowing.after_registration(met, lambda: done.append(1))
    worker.borrowing.on_borrowed(DRIVER, m.Borrowed(met[0].binary()))
    assert done == []
    worker.borrowing.on_borrowed(DRIVER, m.Borrowed(met[0].binary()))
    assert done == [1]


def test_after_an_unclean_death_the_row_stays_for_a_grace() -> None:
    driver = make_owner(DRIVER)
    ref = put(driver)
    id_ = driver.table.expose(ref._row, 0)
    driver.borrowing.on_borrow(WORKER, m.Borrow(id_))
    del ref
    driver.settle(0.0)
    driver.on_process_died(WORKER, CRASH, 0.0)
    driver.borrowing.on_borrow(OTHER, m.Borrow(id_))  # whom the dead one had passed it to
    driver.on_deadline(LATE_BORROW_S)
    assert driver.table.rows == 1
    driver.borrowing.on_return(OTHER, m.Return(id_))
    driver.settle(0.0)
    assert driver.table.rows == 0


def test_borrowers_of_a_dead_node_are_let_go() -> None:
    driver = make_owner(DRIVER)
    ref = put(driver)
    far = Address("b" * 32, 7)
    driver.borrowing.on_borrow(far, m.Borrow(driver.table.expose(ref._row, 0)))
    del ref
    driver.on_node_died("b" * 32, "its connection closed", 0.0)
    driver.on_deadline(LATE_BORROW_S)
    driver.settle(0.0)
    assert driver.table.rows == 0


def test_an_answer_that_comes_too_late_gives_back_what_is_inside() -> None:
    driver, worker = make_owner(DRIVER), make_owner(WORKER)
    inner, outer = put(driver, index=0), put(driver, index=1)
    outer._row.nested = {0: (driver.borrowing.describe([inner]), [inner])}
    id_ = driver.table.expose(outer._row, 0)
    driver.resolving.on_resolve(WORKER, m.Resolve(id_), 0.0)
    assert inner._row.borrowers == {(WORKER, 0): 1}
    exchange(driver, worker)  # the worker does not hold the outer one any more
    assert inner._row.borrowers == {}


def test_an_owner_that_cannot_be_reached_for_long_is_given_up() -> None:
    worker, third = make_owner(WORKER), make_owner(THIRD)
    met = worker.borrowing.meet(
        third.borrowing.describe([put(third)], WORKER), THIRD, is_covered=False
    )
    for second in range(int(LEASE_S) + 2):
        worker.on_disconnected(THIRD, float(second))
        worker.on_deadline(second + 0.6)
    assert met[0]._row.state == FAILED


def test_a_lost_registration_is_said_again_and_counted_once() -> None:
    driver, worker = make_owner(DRIVER), make_owner(WORKER)
    ref = put(driver)
    met = worker.borrowing.meet(driver.borrowing.describe([ref], WORKER), DRIVER, is_covered=False)
    for side, peer in ((driver, WORKER), (worker, DRIVER)):
        side.on_disconnected(peer, 0.0)
    worker.on_deadline(0.6)
    exchange(worker, driver)
    driver.on_deadline(LATE_BORROW_S + 1.0)
    assert ref._row.borrowers == {(WORKER, 0): 1}
    del met
    exchange(worker, driver)
    assert ref._row.borrowers == {}


def finished(worker: object) -> m.DoneWith:
    return m.DoneWith(0, 0, 5)


def test_a_result_hands_over_what_only_it_refers_to() -> None:
    driver, worker = make_owner(DRIVER), make_owner(WORKER)
    outer = submit(driver)[0]
    grant(driver)
    said(driver, m.Run)
    inner = put(worker, location(3), index=5)
    answer = finished(worker)
    answer.outputs = [m.Output(b"list")]
    answer.outputs[0].nested = worker.handing.describe_result([inner], DRIVER, answer)
    assert [adopted.id for adopted in answer.adopted or ()] == [inner.binary()]
    del inner
    deliver(WORKER, driver, answer)
    exchange(worker, driver)
    assert worker.table.rows == 0
    held = outer._row.nested[0][1][0]
    assert held._row.info is None
    assert held._row.value == location(3)


def test_a_result_does_not_hand_over_what_somebody_else_holds() -> None:
    worker = make_owner(WORKER)
    borrowed, used = put(worker, index=1), put(worker, index=2)
    worker.borrowing.on_borrow(OTHER, m.Borrow(worker.table.expose(borrowed._row, 0)))
    task = submit(worker, given=Given(b"x", None, [used]))
    answer = finished(worker)
    worker.handing.describe_result([borrowed, used], DRIVER, answer)
    assert not answer.adopted
    assert borrowed._row.info is None
    assert task


def test_until_it_is_taken_what_was_handed_over_is_passed_on_as_our_own() -> None:
    """Its new owner may not know yet that it is one."""
    worker = make_owner(WORKER)
    ref = put(worker, index=1)
    answer = finished(worker)
    worker.handing.describe_result([ref], DRIVER, answer)
    assert worker.borrowing.describe([ref], OTHER).owners == [m.OwnerInfo(WORKER)]
    worker.handing.taken(DRIVER, answer.key)
    assert ref._row.registration == REGISTERED
    assert worker.borrowing.describe([ref]).owners == [m.OwnerInfo(DRIVER)]


def test_a_result_is_taken_only_when_all_inside_is_registered() -> None:
    driver, third = make_owner(DRIVER), make_owner(THIRD)
    outer = submit(driver)[0]
    grant(driver)
    said(driver, m.Run)
    refs = third.borrowing.describe([put(third)])
    answer = m.DoneWith(0, 0, 5, [m.Output(b"list", None, refs)], wants_taken=True)
    driver.on_done_with(WORKER, answer, 0.0)
    assert not [x for _, x, _ in driver.outbox.messages if isinstance(x, m.TakenResult)]
    inside = outer._row.nested[0][1][0].binary()
    driver.borrowing.on_borrowed(THIRD, m.Borrowed(inside))
    assert [x.key for x in said(driver, m.TakenResult, WORKER)] == [0]


def test_references_inside_an_argument_live_as_long_as_its_task() -> None:
    """Also if the argument's own row is lost and made again meanwhile."""
    driver = make_owner(DRIVER)
    inner = put(driver, index=1)
    outer = put(driver, location(2), index=2)
    outer._row.nested = {0: (driver.borrowing.describe([inner]), [inner])}
    row = inner._row
    del inner
    task = submit(driver, given=Given(b"x", [(0, outer)]))[0]
    grant(driver)
    assert len(said(driver, m.Run)) == 1
    outer._row.nested = None
    driver.settle(0.0)
    assert row.count > 0
    driver.on_done(WORKER, m.Done(task._row.key, 0, 5, b""), 0.0)
    driver.settle(0.0)
    assert row.count == 0


def test_an_object_made_again_takes_its_id_over_when_the_first_one_ends() -> None:
    """A task that is executed again here makes rows of the same ids while the first ones live."""
    worker = make_owner(WORKER)
    first, second = put(worker, b"old", index=7), put(worker, b"new", index=7)
    id_ = worker.table.expose(first._row, 0)
    assert worker.table.expose(second._row, 0) == id_
    assert worker.table.by_id[id_][0] is first._row
    del first
    worker.settle(0.0)
    assert worker.table.by_id[id_][0] is second._row
    del second
    worker.settle(0.0)
    assert (worker.table.by_id, worker.table.shadows) == ({}, {})


def test_a_place_that_came_with_an_argument_wakes_who_waits_for_it() -> None:
    worker, driver = make_owner(WORKER), make_owner(DRIVER)
    refs = driver.borrowing.describe([put(driver, location(1))], WORKER)
    ref = worker.borrowing.meet(refs, DRIVER, is_covered=False)[0]
    waiter = object()
    worker.await_row(ref._row, waiter, 0.0)
    worker.resolving.learn_argument(ref._row, m.Arg(0, refs, None, location(1)), [], 0.0)
    assert ref._row.state == READY
    assert worker.outbox.woken == [waiter]


def test_references_inside_an_argument_are_found_by_its_reference_too() -> None:
    """A task may be given a value and, elsewhere among its arguments, the reference to it."""
    driver, worker = make_owner(DRIVER), make_owner(WORKER)
    inner, outer = put(driver), put(driver, location(1), index=1)
    arg = m.Arg(0, driver.borrowing.describe([outer]), None, location(1))
    arg.nested = driver.borrowing.describe([inner])
    inside = worker.borrowing.meet(arg.nested, DRIVER, is_covered=True)
    (ref,) = worker.borrowing.meet(arg.ref, DRIVER, is_covered=True)
    worker.resolving.learn_argument(ref._row, arg, inside, 0.0)
    assert ref._row.nested == {0: (arg.nested, inside)}
    del inside, ref
    worker.settle(0.0)
    assert worker.table.rows == 0


def test_ids_of_children_are_derived() -> None:
    driver = make_owner(DRIVER)
    ref = submit(driver)[0]
    assert ref.task_id() == child_task_id(ROOT, 0)
