"""Hand-off of rows: who owns, who counts and who is asked, at each step and after each loss."""

from __future__ import annotations

from array import array

from tests.unit.ownership.owners import (
    CRASH,
    DRIVER,
    NODE,
    NODE_MANAGER,
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
    row_of,
    said,
    submit,
)

from freehold._core import messages as m
from freehold._core.ids import Address, Location
from freehold._core.limits import LATE_BORROW_S
from freehold._core.ownership.arguments import Given
from freehold._core.ownership.owner import Owner
from freehold._core.ownership.reference import ObjectRef, make_reference
from freehold._core.ownership.row import FAILED, FOLLOWING, PENDING, READY, REGISTERED, Packed

CLEAN = m.ExitCause(0)
FAR = Address("b" * 32, 1)


def lend(owner: Owner, borrower: Owner, *refs: ObjectRef[object]) -> list[ObjectRef[object]]:
    """The borrower gets references from the owner, which counts it."""
    described = owner.borrowing.describe(list(refs), borrower.address)
    return borrower.borrowing.meet(described, owner.address, is_covered=False)


def hand_off(owner: Owner, target: Address) -> m.HandOff:
    """What an owner that leaves says first."""
    owner.handoff.hand_over(target)
    found: list[m.HandOff] = said(owner, m.HandOff, target)
    assert len(found) == 1
    return found[0]


def given_away(old: Owner, new: Owner, other: Owner) -> tuple[m.Refs, ObjectRef[object]]:
    """What `other` holds goes from `old` to `new`: as `old` told of it, and the reference."""
    ref = put(old)
    described = old.borrowing.describe([ref])
    (held,) = lend(old, other, ref)
    del ref
    old.handoff.hand_over(new.address)
    exchange(old, new, other)
    return described, held


def test_the_target_owns_and_the_borrower_turns_to_it() -> None:
    old, new, other = make_owner(WORKER), make_owner(DRIVER), make_owner(OTHER)
    ref = put(old)
    (held,) = lend(old, other, ref)
    del ref
    old.handoff.hand_over(DRIVER)
    exchange(old, new, other)
    row = row_of(held)
    assert row.info == m.OwnerInfo(DRIVER)
    assert row.registration == REGISTERED
    assert not old.handoff.is_needed
    assert old.table.rows == 0
    (owned, _) = new.table.by_id[held.binary()]
    assert owned.info is None
    assert owned.borrowers == {(OTHER, 0): 1}
    del held, row
    exchange(old, new, other)
    assert new.table.rows == other.table.rows == 0


def test_who_borrowed_it_before_owns_it_in_the_same_row() -> None:
    old, new = make_owner(WORKER), make_owner(DRIVER)
    ref = put(old)
    (held,) = lend(old, new, ref)
    row = row_of(held)
    del ref
    old.handoff.hand_over(DRIVER)
    exchange(old, new)
    assert row.info is None
    assert (row.state, row.value) == (READY, b"value")
    assert not row.borrowers
    assert old.table.rows == 0


def test_a_waiting_borrower_hears_the_value_of_the_new_owner() -> None:
    old, new, other = make_owner(WORKER), make_owner(DRIVER), make_owner(OTHER)
    ref = put(old)
    (held,) = lend(old, other, ref)
    hand = hand_off(old, DRIVER)
    other.await_row(row_of(held), object(), 0.0)
    said(other, m.Resolve)  # lost with the old owner's answer
    deliver(WORKER, new, hand)
    del ref
    exchange(old, new, other)
    assert row_of(held).value == b"value"


def test_until_the_target_has_answered_the_old_owner_owns() -> None:
    old, other = make_owner(WORKER), make_owner(OTHER)
    where = location(7)
    ref = put(old, where)
    (held,) = lend(old, other, ref)
    del ref
    hand_off(old, DRIVER)
    del held
    exchange(other, old)
    assert said(old, m.RangeReleased) == []  # the target may have taken it
    old.on_process_died(DRIVER, CRASH, 0.0)
    assert said(old, m.RangeReleased) == [m.RangeReleased(7, 0, 64)]


def test_another_target_is_chosen_when_the_first_dies() -> None:
    old, other = make_owner(WORKER), make_owner(OTHER)
    ref = put(old)
    (held,) = lend(old, other, ref)
    hand_off(old, DRIVER)
    old.on_process_died(DRIVER, CRASH, 0.0)
    assert old.handoff.find_heir([DRIVER, THIRD]) == THIRD
    hand_off(old, THIRD)
    assert row_of(held).info == m.OwnerInfo(WORKER)


def test_who_leaves_itself_takes_nothing() -> None:
    old, new, other = make_owner(WORKER), make_owner(DRIVER), make_owner(OTHER)
    ref = put(old)
    inner = put(old, b"inner", 1)
    row_of(ref).nested = {0: (old.borrowing.describe([inner]), [inner])}
    (held,) = lend(old, other, ref)
    new.handoff.hand_over(THIRD)  # it leaves, too
    del ref, inner
    old.handoff.hand_over(DRIVER)
    exchange(old, new)
    assert new.table.rows == 0
    assert old.handoff.find_heir([DRIVER, THIRD]) == THIRD
    assert row_of(held).info == m.OwnerInfo(WORKER)


def test_said_again_it_is_taken_once() -> None:
    """The answer was lost with the connection."""
    old, new, other = make_owner(WORKER), make_owner(DRIVER), make_owner(OTHER)
    ref = put(old, location(7))
    (held,) = lend(old, other, ref)
    del ref
    deliver(WORKER, new, hand_off(old, DRIVER))
    assert said(new, m.TakenOver)  # lost
    old.on_disconnected(DRIVER, 0.0)
    new.on_disconnected(WORKER, 0.0)
    deliver(WORKER, new, hand_off(old, DRIVER))
    exchange(old, new, other)
    (owned, _) = new.table.by_id[held.binary()]
    new.on_deadline(LATE_BORROW_S + 1.0)
    assert owned.value == location(7)
    assert owned.borrowers == {(OTHER, 0): 1}
    assert old.table.rows == 0
    del held, owned
    other.settle(0.0)
    (back,) = said(other, m.Return, DRIVER)
    deliver(OTHER, new, back)
    assert said(new, m.RangeReleased) == [m.RangeReleased(7, 0, 64)]


def test_the_store_hears_of_the_new_owner_and_is_released_once() -> None:
    old, new, other = make_owner(WORKER), make_owner(DRIVER), make_owner(OTHER)
    ref = put(old, location(7))
    (held,) = lend(old, other, ref)
    del ref
    deliver(WORKER, new, hand_off(old, DRIVER))
    new.settle(0.0)
    told = [message for _, message, _ in new.outbox.messages]
    assert m.RangeAdopted(7, 0, DRIVER) in told
    exchange(new, old)
    assert said(old, m.RangeReleased) == []
    del held


def test_references_inside_are_held_until_the_target_has_registered() -> None:
    old, new, other, third = map(make_owner, (WORKER, DRIVER, OTHER, THIRD))
    inner = put(third, b"inner", 1)
    (borrowed,) = lend(third, old, inner)
    outer = put(old)
    row_of(outer).nested = {0: (old.borrowing.describe([borrowed]), [borrowed])}
    (held,) = lend(old, other, outer)
    del outer, inner, borrowed
    deliver(WORKER, new, hand_off(old, DRIVER))
    assert not [x for _, x, _ in new.outbox.messages if type(x) is m.TakenOver]
    exchange(new, third, old, other)
    assert old.table.rows == 0
    assert third.table.rows == 1
    (owned, _) = new.table.by_id[held.binary()]
    assert owned.nested is not None
    del held, owned
    exchange(new, old, other, third)
    assert third.table.rows == new.table.rows == 0


def test_several_outputs_stay_one_group() -> None:
    """They lie in one range, which is released with the last of them."""
    old, new, other = make_owner(WORKER), make_owner(DRIVER), make_owner(OTHER)
    refs = submit(old, num_returns=3, max_retries=0)
    grant(old, THIRD)
    whole = Location(NODE, 7, 0, 192)
    ends = array("Q", [64, 128, 192])
    done = m.DoneWith(0, 0, 5, packed=whole, ends=ends.tobytes())
    old.on_done_with(THIRD, done, 0.0)
    first, second = lend(old, other, refs[0], refs[1])
    (mine,) = lend(old, new, refs[1])
    refs.clear()
    old.handoff.hand_over(DRIVER)
    exchange(old, new, other)
    assert old.table.rows == 0
    assert row_of(mine).registration == FOLLOWING
    assert row_of(mine).value == Location(NODE, 7, 64, 64)
    (group, index) = new.table.by_id[first.binary()]
    assert (index, type(group.value)) == (0, Packed)
    assert group.info is None
    del first, second
    exchange(old, new, other)
    assert said(new, m.RangeReleased) == []
    del mine, group
    assert said(new, m.RangeReleased) == [m.RangeReleased(7, 0, 192)]
    assert new.table.rows == 0


def test_an_error_is_handed_over_as_a_value_is() -> None:
    old, new, other = make_owner(WORKER), make_owner(DRIVER), make_owner(OTHER)
    (ref,) = submit(old, max_retries=0)
    grant(old, THIRD)
    old.on_failed(THIRD, m.Failed(0, 0, 5, "user", b"error"), 0.0)
    (held,) = lend(old, other, ref)
    del ref
    old.handoff.hand_over(DRIVER)
    exchange(old, new, other)
    other.await_row(row_of(held), object(), 0.0)
    exchange(old, new, other)
    assert (row_of(held).state, row_of(held).value) == (FAILED, b"error")


def test_the_error_of_a_task_with_several_outputs_is_known_by_each_of_them() -> None:
    old, new, other = make_owner(WORKER), make_owner(DRIVER), make_owner(OTHER)
    refs = submit(old, num_returns=3, max_retries=0)
    grant(old, THIRD)
    old.on_failed(THIRD, m.Failed(0, 0, 5, "user", b"error"), 0.0)
    held = lend(old, other, refs[1], refs[2])
    refs.clear()
    old.handoff.hand_over(DRIVER)
    exchange(old, new, other)
    for ref in held:
        other.await_row(row_of(ref), object(), 0.0)
    exchange(old, new, other)
    assert [row_of(ref).value for ref in held] == [b"error", b"error"]


def test_pending_rows_are_waited_for() -> None:
    old, new, other = make_owner(WORKER), make_owner(DRIVER), make_owner(OTHER)
    (ref,) = submit(old)
    grant(old, THIRD)
    (held,) = lend(old, other, ref)
    old.handoff.hand_over(DRIVER)
    assert said(old, m.HandOff) == []
    assert old.handoff.is_giving
    old.on_done(THIRD, m.Done(0, 0, 5, b"made"), 0.0)
    del ref
    old.handoff.hand_over(DRIVER)
    exchange(old, new, other)
    assert row_of(held).info == m.OwnerInfo(DRIVER)


# ---- who comes late ------------------------------------------------------------------------------


def test_who_asks_a_former_owner_is_sent_on() -> None:
    """The reference came from somebody who had it under the former owner's name."""
    old, new, other, third = map(make_owner, (WORKER, DRIVER, OTHER, THIRD))
    described, held = given_away(old, new, other)
    (late,) = third.borrowing.meet(described, OTHER, is_covered=True)
    counted: list[bool] = []
    third.borrowing.after_registration([late], lambda: counted.append(True))
    (ask,) = said(third, m.Borrow, WORKER)
    deliver(THIRD, old, ask)
    assert not counted
    exchange(old, new, third)
    assert counted  # not before the new owner has counted it
    assert row_of(late).info == m.OwnerInfo(DRIVER)
    assert row_of(late).state == PENDING
    del held


def test_nobody_waits_for_what_was_let_go_before_it_was_sent_on() -> None:
    old, new, other, third = map(make_owner, (WORKER, DRIVER, OTHER, THIRD))
    described, held = given_away(old, new, other)
    (late,) = third.borrowing.meet(described, OTHER, is_covered=True)
    (ask,) = said(third, m.Borrow, WORKER)
    taken: list[bool] = []
    third.borrowing.after_registration([late], lambda: taken.append(True))
    del late
    third.settle(0.0)
    deliver(THIRD, old, ask)
    exchange(old, new, third)
    assert taken
    assert third.table.rows == 0
    del held


def test_after_its_end_the_heir_is_asked() -> None:
    old, new, other, third = map(make_owner, (WORKER, DRIVER, OTHER, THIRD))
    described, held = given_away(old, new, other)
    for process in (new, other, third):
        process.on_process_died(WORKER, CLEAN, 0.0, DRIVER)
    (late,) = third.borrowing.meet(described, OTHER, is_covered=True)
    third.await_row(row_of(late), object(), 0.0)
    exchange(new, third)
    assert row_of(late).value == b"value"
    del held


def left_behind(supervisor: Address) -> tuple[Owner, bytes, ObjectRef[object]]:
    """Who meets a reference after its owner was killed while it handed over to `DRIVER`: it, the
    reference's id, and the reference."""
    third = make_owner(THIRD)
    line = (m.Supervisor(supervisor, ROOT, 3),)
    id_ = put(make_owner(WORKER)).binary()
    third.on_process_died(WORKER, CRASH, 0.0, DRIVER)
    refs = m.Refs([m.OwnerInfo(WORKER, line)], id_ + b"\0\0")
    (held,) = third.borrowing.meet(refs, OTHER, is_covered=True)
    return third, id_, held


def test_an_heir_that_was_not_given_it_leaves_it_to_the_supervisors() -> None:
    """The former owner was killed while it handed over."""
    third, id_, held = left_behind(OTHER)
    assert said(third, m.Borrow, DRIVER) == [m.Borrow(id_)]
    third.borrowing.on_borrowed(DRIVER, m.Borrowed(b"", id_))
    assert [asked.ids for asked in said(third, m.Orphaned, OTHER)] == [id_]
    assert row_of(held).state == PENDING


def test_an_heir_that_has_nothing_yet_can_have_it_made_again() -> None:
    """It is the supervisor, too: what it said before it was told so counts no more."""
    third, id_, held = left_behind(DRIVER)
    third.await_row(row_of(held), object(), 0.0)
    deliver(DRIVER, third, m.Borrowed(b"", id_))
    assert [asked.ids for asked in said(third, m.Orphaned, DRIVER)] == [id_]
    deliver(DRIVER, third, m.Resolved(id_, "gone"))  # an answer to what was asked before that
    assert row_of(held).state == PENDING
    deliver(DRIVER, third, m.Borrowed(id_, b""))
    assert row_of(held).registration == REGISTERED
    deliver(DRIVER, third, m.Resolved(id_, "ready", b"value"))
    assert row_of(held).value == b"value"


def test_a_clean_end_with_an_heir_leaves_late_comers_a_grace() -> None:
    """Who borrowed through it may not have heard yet."""
    old, new, other = make_owner(WORKER), make_owner(DRIVER), make_owner(OTHER)
    ref = put(old)
    (held,) = lend(old, other, ref)
    del ref
    deliver(WORKER, new, hand_off(old, DRIVER))
    new.on_process_died(WORKER, CLEAN, 0.0, DRIVER)
    assert held.binary() in new.table.by_id
    new.on_deadline(LATE_BORROW_S + 1.0)
    new.settle(0.0)
    assert held.binary() not in new.table.by_id


def test_tasks_that_wait_name_the_owner_there_is_when_they_leave() -> None:
    old, other = make_owner(WORKER), make_owner(OTHER)
    ref = put(old)
    (held,) = lend(old, other, ref)
    waiting = submit(other, given=Given(b"x", None, [held]))
    said(other, m.LeaseDemand)
    deliver(WORKER, other, m.OwnerMoved(held.binary(), DRIVER))
    grant(other, THIRD)
    (run,) = said(other, m.Run)
    assert run.nested.owners == [m.OwnerInfo(DRIVER)]
    del waiting


# ---- whom to ask for what was taken over ---------------------------------------------------------


def test_a_supervisor_keeps_the_spec_for_the_new_owner() -> None:
    old, keeper, driver = make_owner(WORKER), make_owner(FAR), make_owner(DRIVER)
    refs = submit(driver)
    grant(driver, WORKER)
    (run,) = said(driver, m.Run)
    task = row_of(refs[0]).task_id()
    old.origins.begin(task, run.parent, DRIVER, run.key)
    made = old.put(task, 0, b"made", [])
    ref = old.table.reference(made, 0)
    old.table.release(made, 0)
    (held,) = lend(old, driver, ref)
    origin = old.table.makers[task]
    answer = old.origins.end(origin, DRIVER, m.Done(run.key, 0, 5, b"result"))
    driver.on_done_with(WORKER, answer, 0.0)
    del ref
    old.handoff.hand_over(FAR)
    exchange(old, keeper, driver)
    driver.on_process_died(WORKER, CLEAN, 0.0, FAR)
    (record,) = driver.supervision.records[task]
    assert record.owning == 1  # the keeper's
    assert row_of(held).info is not None
    keeper_info = row_of(held).info
    assert keeper_info is not None
    assert keeper_info.address == FAR
    assert keeper_info.supervisors[0].address == DRIVER
    del held
    exchange(keeper, driver)
    assert not driver.supervision.records, "the spec is kept though nobody has what it made"
    assert keeper.table.rows == 0


def test_who_gave_it_to_one_that_died_sends_a_borrower_further_up() -> None:
    """Asked as a supervisor of what it has given away, it neither has it nor can make it."""
    middle, third = make_owner(WORKER), make_owner(THIRD)
    id_ = put(make_owner(OTHER)).binary()
    middle.handoff.given[id_] = FAR
    middle.on_process_died(FAR, CRASH, 0.0)
    line = (m.Supervisor(WORKER, ROOT, 3), m.Supervisor(DRIVER, ROOT, 4))
    refs = m.Refs([m.OwnerInfo(FAR, line)], id_ + bytes(2))
    third.on_process_died(FAR, CRASH, 0.0)
    (held,) = third.borrowing.meet(refs, OTHER, is_covered=True)
    (asked,) = said(third, m.Orphaned, WORKER)
    deliver(THIRD, middle, asked)
    (moved,) = said(middle, m.OwnerMoved)
    deliver(WORKER, third, moved)
    (asked,) = said(third, m.Orphaned, DRIVER)
    assert (asked.supervisors, asked.at) == (line, 1)  # the whole line: it leads down again
    assert row_of(held).info == m.OwnerInfo(DRIVER, line)


def test_a_supervisor_that_was_given_it_is_asked_before_nearer_ones() -> None:
    """Else what nobody lost would be made again."""
    third = make_owner(THIRD)
    id_ = put(make_owner(OTHER)).binary()
    line = (m.Supervisor(WORKER, ROOT, 3), m.Supervisor(DRIVER, ROOT, 4))
    refs = m.Refs([m.OwnerInfo(DRIVER, line)], id_ + bytes(2))
    (held,) = third.borrowing.meet(refs, OTHER, is_covered=True)
    (asked,) = said(third, m.Orphaned)
    assert (asked.ids, asked.at) == (held.binary(), 1)
    assert row_of(held).info == m.OwnerInfo(DRIVER, line)


def test_an_actors_handle_goes_with_word_to_the_control_service() -> None:
    old, new, other = make_owner(WORKER), make_owner(DRIVER), make_owner(OTHER)
    row = old.table.new_actor(ROOT, 0)
    old.table.expose(row, 0)
    handle = make_reference(row)
    (held,) = lend(old, other, handle)
    actor = row.task_id()
    del handle, row
    deliver(WORKER, new, hand_off(old, DRIVER))
    new.settle(0.0)
    (taken,) = [x for _, x, _ in new.outbox.messages if type(x) is m.TakenOver]
    deliver(DRIVER, old, taken)
    assert (NODE_MANAGER, m.ActorAdopted(actor, DRIVER), True) in old.outbox.messages
    exchange(old, new, other)
    assert old.table.rows == 0
    del held
    other.settle(0.0)
    (back,) = said(other, m.Return, DRIVER)
    deliver(OTHER, new, back)
    assert said(new, m.ReleaseActor, NODE_MANAGER) == [m.ReleaseActor(actor)]
