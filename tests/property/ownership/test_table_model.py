"""One owner against a naive model: hypothesis plays user, workers and borrowers.

The model counts in the plainest way: for each object a bag of reasons why somebody can still reach
it. Safety: a value that has a reason is never let go, and a stored range is released exactly once.
Liveness: when every reason is gone and every task has ended, nothing of the table is left.
"""

from __future__ import annotations

from array import array
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from freehold._core import messages as m
from freehold._core.ids import Address, Location, root_task_id
from freehold._core.interface import FunctionEntry, TaskOptions
from freehold._core.ownership.arguments import Given
from freehold._core.ownership.borrowing import split_ids
from freehold._core.ownership.owner import Owner
from freehold._core.ownership.reference import ObjectRef, make_reference
from freehold._core.ownership.row import FAILED, LOST, PENDING, READY, Row

ME = Address("n" * 32, 1)
NODE = Address("n" * 32, 0)
BORROWERS = [Address("n" * 32, 90), Address("n" * 32, 91)]
ROOT = root_task_id("model", "1")
SHAPE = (("CPU", 10_000),)


class OwnerModel(RuleBasedStateMachine):
    """Rules are what a user, a node manager, workers and borrowers may do in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.owner = Owner(ME, NODE)
        self.owner.error_blob = lambda error: b"error"  # type: ignore[method-assign]
        self.entry = FunctionEntry(len, "len")
        self.entry.number, self.entry.blob = 0, b"code"
        self.now = 0.0
        self.children = 0
        self.puts = 0
        self.segments = 0
        self.leases = 0
        self.workers = 1
        self.refs: list[ObjectRef[Any]] = []
        self.rows: dict[int, Row] = {}
        self.sent: dict[int, tuple[Address, m.Run, Row]] = {}
        """Tasks that a worker has, by key."""
        self.arguments: dict[int, list[ObjectRef[Any] | tuple[Row, int]]] = {}
        self.lost: dict[Row, None] = {}
        """Rows whose stored value a worker could not read."""
        self.lasting: dict[Row, bool] = {}
        """Rows whose task has ended: whether all that it needs can be had again."""
        self.unused: set[tuple[int, int, bytes]] = set()
        """(key, attempt, id) of arguments that the running worker has no use for any more."""
        self.let_go: set[tuple[int, int, bytes]] = set()
        """Those of them that the owner had no reason to go on holding for the task."""
        self.borrows: list[tuple[Address, bytes, Row, int]] = []
        self.stored: dict[tuple[str, int], str] = {}

    # ---- carrying out --------------------

    def _carry_out(self) -> None:
        self.owner.settle(self.now)
        messages, self.owner.outbox.messages = self.owner.outbox.messages, []
        for target, message, _ in messages:
            if isinstance(message, m.RangeReleased):
                place = (target.node, message.segment)
                assert self.stored.get(place) == "held", f"{place} was {self.stored.get(place)}"
                self.stored[place] = "released"
            elif isinstance(message, m.Run):
                assert message.key not in self.sent, "a task was sent to two workers"
                row = next(row for row in self.rows.values() if row.key == message.key)
                self.sent[message.key] = (target, message, row)
                for arg in message.args or ():
                    if arg.location is not None:
                        where = (arg.location.node, arg.location.segment)
                        assert self.stored[where] == "held", "sent a place already released"
        self.owner.outbox.woken.clear()

    def _store(self, node: str = NODE.node) -> Location:
        self.segments += 1
        self.stored[node, self.segments] = "held"
        return Location(node, self.segments, 0, 64)

    def _pick(self, data: Any, things: list[Any]) -> Any:
        return things[data.draw(st.integers(0, len(things) - 1))]

    # ---- the user --------------------

    @rule(
        data=st.data(),
        outputs=st.sampled_from([1, 1, 1, 2, 3]),
        retries=st.sampled_from([0, 1, 3]),
    )
    def submit(self, data: Any, outputs: int, retries: int) -> None:
        """Submit a task with some references at the top level and nested."""
        top, nested = [], []
        if self.refs:
            for bag in (top, nested):
                count = data.draw(st.integers(0, 2))
                bag += [self._pick(data, self.refs) for _ in range(count)]
        given = Given(b"payload", list(enumerate(top)) or None, nested or None)
        options = TaskOptions(shape=SHAPE, num_returns=outputs, max_retries=retries)
        row = self.owner.submit(self.entry, options, ROOT, self.children, given, self.now)
        self.children += 1
        self.rows[id(row)] = row
        self.refs += [make_reference(row, index) for index in range(outputs)]
        self.arguments[row.key] = [(ref._row, ref._index) for ref in (*top, *nested)]
        self._carry_out()

    @rule(data=st.data(), is_stored=st.booleans())
    def put(self, data: Any, is_stored: bool) -> None:
        """Put a value, maybe holding a reference."""
        value: Any = self._store() if is_stored else b"value"
        row = self.owner.table.new_put(ROOT, self.puts, value)
        self.puts += 1
        if is_stored:
            self.owner.recovery.note_stored(row)
        if self.refs and data.draw(st.booleans()):
            inside = [self._pick(data, self.refs)]
            row.nested = {0: (self.owner.borrowing.describe(inside), inside)}
        self.rows[id(row)] = row
        self.refs.append(make_reference(row))
        self._carry_out()

    @precondition(lambda self: self.refs)
    @rule(data=st.data())
    def drop(self, data: Any) -> None:
        """Let go of a reference."""
        self.refs.pop(data.draw(st.integers(0, len(self.refs) - 1)))
        self._carry_out()

    @precondition(lambda self: self.refs)
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        """Cancel a task."""
        ref = self._pick(data, self.refs)
        self.owner.cancel(ref._row, False, False, self.now)
        self._carry_out()

    @precondition(lambda self: self.refs)
    @rule(data=st.data())
    def want(self, data: Any) -> None:
        """Get a reference: a lost value is brought back."""
        ref = self._pick(data, self.refs)
        if ref._row.state in (PENDING, LOST):
            self.owner.await_row(ref._row, object(), self.now)
            self._carry_out()

    # ---- node manager and workers --------------------

    @precondition(lambda self: len(self.owner.leasing.leases) < 3)
    @rule()
    def grant(self) -> None:
        """A worker is leased."""
        if not self.owner.leasing.by_key:
            return
        self.leases += 1
        self.workers += 1
        worker = Address(NODE.node, self.workers)
        granted = m.LeaseGranted(0, self.leases, worker, self.leases)
        self.owner.leasing.on_lease_granted(NODE, granted, self.now)
        self._carry_out()

    def _oldest(self, worker: Address) -> int:
        return next(key for key, (at, _, _) in self.sent.items() if at == worker)

    @precondition(lambda self: self.sent)
    @rule(
        data=st.data(),
        how=st.sampled_from(["inline", "stored", "packed", "kept", "fail", "retriable"]),
    )
    def answer(self, data: Any, how: str) -> None:
        """A worker ends its oldest task."""
        worker = self._pick(data, sorted({at for at, _, _ in self.sent.values()}))
        key = self._oldest(worker)
        _, run, row = self.sent.pop(key)
        self.lasting[row] = all(self._lasts(needed) for needed, _ in self.arguments[key])
        count = run.num_returns
        if how in ("fail", "retriable"):
            failed = m.Failed(key, run.attempt, 5, "user", b"error", how == "retriable")
            self.owner.on_failed(worker, failed, self.now)
        elif how == "inline" and count == 1:
            self.owner.on_done(worker, m.Done(key, run.attempt, 5, b"value"), self.now)
        elif how == "packed" and count > 1:
            ends = array("Q", [64 * (i + 1) for i in range(count)]).tobytes()
            done = m.DoneWith(key, run.attempt, 5, packed=self._store(), ends=ends)
            self.owner.on_done_with(worker, done, self.now)
        else:
            outputs = [
                m.Output(location=self._store()) if how != "inline" else m.Output(b"value")
                for _ in range(count)
            ]
            kept = None
            if how == "kept" and run.nested is not None:
                ids = split_ids(b"".join(part[:20] for part in _entries(run.nested)))
                kept = [x for x in ids if (key, run.attempt, x) not in self.unused][:1] or None
            done = m.DoneWith(key, run.attempt, 5, outputs, kept=kept)
            if kept is not None:
                known = self.owner.table.by_id[kept[0]]
                self.borrows.append((worker, kept[0], *known))
            self.owner.on_done_with(worker, done, self.now)
        self._carry_out()

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), is_stale=st.booleans(), times=st.integers(1, 2))
    def drop_arguments(self, data: Any, is_stale: bool, times: int) -> None:
        """User code in a worker's oldest task lets go of some arguments, and the caller hears."""
        worker = self._pick(data, sorted({at for at, _, _ in self.sent.values()}))
        key = self._oldest(worker)
        ids = [id_ for id_ in self._references(key) if data.draw(st.booleans())]
        self._drop(key, ids, is_stale, times)

    def _references(self, key: int) -> list[bytes]:
        """What a worker watches of a task's arguments: stored ones and references in values."""
        _, run, _ = self.sent[key]
        given = [arg.ref.packed[:20] for arg in run.args or () if arg.location is not None]
        if run.nested is not None:
            given += [part[:20] for part in _entries(run.nested)]
        return list(dict.fromkeys(given))

    def _drop(self, key: int, ids: list[bytes], is_stale: bool, times: int) -> None:
        worker, run, row = self.sent[key]
        attempt = run.attempt - 1 if is_stale else run.attempt
        if not is_stale:
            told = {(key, attempt, id_) for id_ in ids}
            self.unused |= told
            self.let_go |= {place for place in told if self._is_free(row, place[2])}
        for _ in range(times):
            dropped = m.ArgumentsDropped(key, attempt, b"".join(ids))
            self.owner.eager.on_dropped(worker, dropped, self.now)
            self._carry_out()

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def give_back_tasks(self, data: Any) -> None:
        """A worker blocks and returns what it has not started."""
        worker = self._pick(data, sorted({at for at, _, _ in self.sent.values()}))
        first = self._oldest(worker)
        keys = [key for key, (at, _, _) in self.sent.items() if at == worker and key != first]
        for key in keys:
            del self.sent[key]
        self.owner.on_tasks_returned(worker, m.TasksReturned(keys), self.now)
        self._carry_out()

    @precondition(lambda self: self.owner.leasing.leases)
    @rule(data=st.data())
    def crash(self, data: Any) -> None:
        """A leased worker dies."""
        self._crash(self._pick(data, list(self.owner.leasing.leases)))

    def _crash(self, worker: Address) -> None:
        lease = self.owner.leasing.leases[worker]
        self.sent = {key: entry for key, entry in self.sent.items() if entry[0] != worker}
        cause = m.ExitCause(None, 9)
        self.owner.leasing.on_lease_revoked(m.LeaseRevoked(lease.id, worker, cause), self.now)
        self.owner.on_process_died(worker, cause, self.now)
        self._carry_out()
        self.borrows = [entry for entry in self.borrows if entry[0] != worker]

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def argument_lost(self, data: Any) -> None:
        """A worker cannot read a stored argument of its oldest task."""
        worker = self._pick(data, sorted({at for at, _, _ in self.sent.values()}))
        key = self._oldest(worker)
        _, run, _ = self.sent[key]
        if any(place[:2] == (key, run.attempt) for place in self.unused):
            return  # user code has begun: it has its arguments
        lost = [arg for arg in run.args or () if arg.location is not None]
        if lost:
            del self.sent[key]
            id_ = lost[0].ref.packed[:20]
            self.lost[self.owner.table.by_id[id_][0]] = None
            failed = m.Failed(key, run.attempt, 5, "lost", b"lost", lost=id_)
            self.owner.on_failed(worker, failed, self.now)
            self._carry_out()

    # ---- borrowers --------------------

    @precondition(lambda self: self.refs)
    @rule(data=st.data(), who=st.sampled_from(BORROWERS))
    def borrow(self, data: Any, who: Address) -> None:
        """A process registers for an object that somebody holds."""
        ref = self._pick(data, self.refs)
        id_ = self.owner.table.expose(ref._row, ref._index)
        self.owner.borrowing.on_borrow(who, m.Borrow(id_))
        self.borrows.append((who, id_, ref._row, ref._index))
        answered = [x for _, x, _ in self.owner.outbox.messages if isinstance(x, m.Borrowed)]
        assert split_ids(answered[-1].ids) == [id_]
        self._carry_out()

    @precondition(lambda self: self.borrows)
    @rule(data=st.data())
    def give_back(self, data: Any) -> None:
        """A borrower lets go."""
        at = data.draw(st.integers(0, len(self.borrows) - 1))
        who, id_, _, _ = self.borrows.pop(at)
        self.owner.borrowing.on_return(who, m.Return(id_))
        self._carry_out()

    # ---- what must hold --------------------

    @invariant()
    def counts_agree(self) -> None:
        """Every reason the model knows is counted, and the table's own rules hold."""
        rows = list(self.rows.values())
        self.owner.check_invariants(rows)
        reasons: dict[int, int] = {}
        for ref in self.refs:
            reasons[id(ref._row)] = reasons.get(id(ref._row), 0) + 1
        for _, _, row, _ in {
            (who, id_, id(row)): (who, id_, row, i) for who, id_, row, i in self.borrows
        }.values():
            reasons[id(row)] = reasons.get(id(row), 0) + 1
        for row in rows:
            assert row.count >= reasons.get(id(row), 0), f"{row!r} is counted too low"

    @invariant()
    def reachable_values_stay(self) -> None:
        """What a reference or a borrower can reach is pending, there, or failed: never let go."""
        held = [(ref._row, ref._index) for ref in self.refs]
        held += [(row, index) for _, _, row, index in self.borrows]
        for row, index in held:
            if row.state == READY:
                value = row.output(index)
                assert value is not None, f"{row!r} lost output {index}"
                if isinstance(value, Location):
                    assert self.stored[value.node, value.segment] == "held"
            elif row.state == LOST:
                assert row.task is not None or row.count, "lost and nobody can tell"

    @invariant()
    def retries_find_their_arguments(self) -> None:
        """What a running task was given is there if it is executed again, or can be made again."""
        for _, run, row in self.sent.values():
            task = row.task
            if task is None or task.retries_left == 0:
                continue
            for argument, index in self.arguments[run.key]:
                assert self._can_be_had(argument, index), f"{row!r} cannot run again: {argument!r}"

    def _can_be_had(self, row: Row, index: int) -> bool:
        """Naively: the value is there, or its task and, in turn, all that it needs."""
        if row in self.lost or row.state in (PENDING, FAILED):
            return True
        if row.state == READY and row.output(index) is not None:
            value = row.output(index)
            if isinstance(value, Location):
                assert self.stored[value.node, value.segment] == "held"
            return True
        if row.task is None:
            return False
        return all(self._can_be_had(*needed) for needed in self.arguments[row.key])

    def _is_free(self, row: Row, id_: bytes) -> bool:
        """Whether a running task's argument need not be held for another attempt."""
        if row.task is None or row.task.retries_left == 0:
            return True
        argument, _ = self.owner.table.by_id[id_]
        was_recovered = argument.object_id(0) in self.owner.recovery.attempts
        return not was_recovered and argument.task is not None and self._lasts(argument)

    def _lasts(self, row: Row) -> bool:
        """Naively: whether it can be had again when nothing but lineage holds it any more."""
        if row.task is not None:
            return self.lasting.get(row, False)
        return row.state == READY and isinstance(row.value, bytes) and row.nested is None

    @invariant()
    def a_task_holds_what_it_may_use_and_no_more(self) -> None:
        """An argument in use is held; eagerly let go of, it is not."""
        for _, run, row in self.sent.values():
            if row.task is None:
                continue
            held = row.task.arguments or []
            for argument, index in self.arguments[run.key]:
                place = (run.key, run.attempt, argument.object_id(index))
                if place not in self.unused:
                    assert (argument, index) in held, f"{row!r} does not hold {argument!r}"
                elif place in self.let_go:
                    assert (argument, index) not in held, f"{row!r} still holds {argument!r}"

    def teardown(self) -> None:
        """Liveness: let everything end; nothing may be left."""
        for who, id_, _, _ in self.borrows:
            self.owner.borrowing.on_return(who, m.Return(id_))
        self.borrows = []
        self.refs = []
        self._carry_out()
        for _ in range(400):
            if not self.owner.leasing.unfinished():
                break
            if not self.sent:
                self.grant()
            for key in list(self.sent):
                worker, run, _ = self.sent.pop(key)
                if run.num_returns == 1:
                    self.owner.on_done(worker, m.Done(key, run.attempt, 5, b"v"), self.now)
                else:
                    outputs = [m.Output(b"v") for _ in range(run.num_returns)]
                    done = m.DoneWith(key, run.attempt, 5, outputs)
                    self.owner.on_done_with(worker, done, self.now)
            self._carry_out()
        self.now += 100.0
        self.owner.on_deadline(self.now)
        self._carry_out()
        table = self.owner.table
        assert not self.owner.leasing.unfinished(), "tasks that never end"
        left = [row for row in self.rows.values() if row.state == PENDING]
        assert not left, f"pending for ever: {left}"
        assert table.rows == 0, f"{table.rows} rows left"
        assert table.by_id == {}
        assert table.lineage_bytes == 0
        assert table.stale == {}
        held = [place for place, state in self.stored.items() if state == "held"]
        assert not held, f"never released: {held}"


def _entries(refs: m.Refs) -> list[bytes]:
    """The references of a message: 20 bytes of id and two for the owner's number, each."""
    return [refs.packed[at : at + 22] for at in range(0, len(refs.packed), 22)]


OwnerModel.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestOwnerModel = OwnerModel.TestCase

__all__ = ["FAILED", "TestOwnerModel"]
