"""What dead owners owned: made again by whoever owns the tasks that made it.

A worker owns what the task it executes submits and puts. When it dies, whoever owns that task, the
*supervisor*, executes it again: its children come out under the same ids, so references to them go
on working (Ownership, NSDI'21, §4.3). If the supervisor has died with it, its own supervisor does
it one level further up, and so on.

- The answer of a task tells whether others hold what it made (`is_owning`). Its owner then keeps
  its spec, as lineage is kept and within the same budget, until the worker says `OwningEnded`, or
  for a grace after the worker's death.
- Who borrows from a dead owner tells the nearest living supervisor (`Orphaned`) and goes on as if
  that were the owner. There the object is a row that is *being made again*: pending, and known to
  the record of the task that must be executed.
- Only when somebody waits for it is the task executed again (a *replay*, in a row of its own, so
  that the outputs it gave are not disturbed), or, if it is running again anyway because its worker
  died, told what is wanted (`Want`). The worker says when it makes it (`Recreated`), and from then
  on the supervisor borrows the object from there.

Rejected: redirecting borrowers to the new worker (the supervisor must count them first anyway, and
with its row it is a place that stays the same whatever dies next); executing at the death (work for
values that nobody may read). What a task makes in other threads than its own, and all that an
actor's methods make, is not numbered by its flow of control and so is not made again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold._core.ids import PUT_INDEX_BASE, Address, Location
from freehold._core.limits import LATE_BORROW_S, RECONSTRUCTION_ATTEMPTS, SUPERVISORS
from freehold._core.messages import Orphaned, OwnerInfo, Return, Run, Supervisor, Want, Wanted
from freehold._core.ownership.borrowing import orphan_error, split_ids
from freehold._core.ownership.row import (
    FAILED,
    FOLLOWING,
    PENDING,
    READY,
    RECREATING,
    Row,
    Task,
    unresolve,
)
from freehold._core.ownership.supervised import Supervised
from freehold._core.ownership.takeover import Kept
from freehold.errors import OwnerDiedError

if TYPE_CHECKING:
    from freehold._core.messages import DoneWith
    from freehold._core.ownership.owner import Owner


class Supervision:
    """One owner as the supervisor of the workers that execute its tasks, and as a borrower whose
    owners die."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self.records: dict[bytes, list[Supervised]] = {}
        """By the task's id: several if it was submitted again, when its parent was executed again
        here."""
        self.by_row: dict[Row, Supervised] = {}
        """The same by the task's row, and by a replay's while it runs."""
        self._owning: dict[tuple[Address, int], Supervised] = {}
        """Workers that own what a task made, with the key under which they know it."""
        self._graces: list[tuple[float, Supervised]] = []

    # ---- keeping specs -------------------------------------------------------------------------

    def on_finished(
        self,
        task: Task,
        source: Address,
        message: DoneWith,
        adopted: dict[Row, tuple[Supervisor, ...] | None],
        keep: bool,
    ) -> bool:
        """A task ended well; `adopted` are objects that are ours from now on, with what leads from
        each up to this task, if it had them made.

        Called before its row is resolved. Returns whether its spec is to be kept.
        """
        record = self.by_row.get(task.row)
        if record is None:
            is_needed = message.is_owning or any(below is not None for below in adopted.values())
            if not is_needed or task.actor is not None:
                return keep
            if not keep and not self._owner.recovery.may_keep(task):
                return False
            record = self._record(task)
        is_replay = record.task is not task
        place = (source, task.row.key)
        if message.is_owning and place not in self._owning:
            self._owning[place] = record
            record.owning += 1
        if is_replay:
            return False
        for row, below in adopted.items():
            if below is not None and row.info is None and row not in self._owner.table.holders:
                self._owner.table.hold(row, record)
                record.rows[row] = below
        keep = keep or self._owner.recovery.may_keep(task)
        if keep and not record.has_spec:
            record.has_spec = True
            self._owner.table.supervise(task.row)
        return keep

    def has_spec_of(self, task: Task) -> bool:
        """Whether a task that has just ended was kept before, and must be: what it made is held."""
        record = self.by_row.get(task.row)
        return record is not None and record.task is task and record.has_spec

    def on_crashed(self, task: Task, now: float) -> None:
        """The worker died that had begun `task`: what it made may be asked for."""
        if task.actor is None and task.may_repeat:
            record = self.by_row.get(task.row)
            self._give_grace(record if record is not None else self._record(task), now)

    def on_owning_ended(self, source: Address, key: int) -> None:
        """A worker's word that nobody holds any more what a task made there."""
        record = self._owning.pop((source, key), None)
        if record is not None:
            record.owning -= 1
            self.end_if_unused(record)

    def note_owning(self, source: Address, task: bytes, key: int) -> None:
        """Another process has taken over what a task of ours made: its spec is kept for that one.

        Nothing if it is not kept any more.
        """
        place = (source, key)
        for record in self.records.get(task, ()):
            if record.task.row.key == key and place not in self._owning:
                self._owning[place] = record
                record.owning += 1

    def keep(self, row: Row, line: tuple[Supervisor, ...], at: int) -> bool:
        """A row that was taken over can be made again by a task of ours, if its spec is kept."""
        record = self._find(line[at])
        if record is None:
            return False
        self._owner.table.hold(row, record)
        record.rows[row] = line[:at]
        return True

    def on_died(self, source: Address, now: float) -> None:
        """A worker died: for a grace, who holds what it owned may ask for it."""
        for place in [place for place in self._owning if place[0] == source]:
            record = self._owning.pop(place)
            record.owning -= 1
            self._give_grace(record, now)

    def on_node_died(self, node: str, now: float) -> None:
        """A node died with its workers."""
        for address in {address: None for address, _ in self._owning if address.node == node}:
            self.on_died(address, now)

    def _record(self, task: Task) -> Supervised:
        owner = self._owner
        table = owner.table
        maker = table.makers.get(task.message.parent)
        info = owner.borrowing.own
        if maker is not None:
            # It must stay known to our own supervisor, too, for as long as this record is.
            me = Supervisor(owner.address, task.row.task_id(), task.row.key)
            info = OwnerInfo(owner.address, (me, *maker.info.supervisors)[:SUPERVISORS])
            if task.row not in table.holders:
                table.hold(task.row, maker)
        record = Supervised(task, info)
        self.records.setdefault(record.id, []).append(record)
        self.by_row[task.row] = record
        table.emptied.append(record)  # looked at in a moment: it may be that nothing needs it
        return record

    def _give_grace(self, record: Supervised, now: float) -> None:
        record.graces += 1
        self._graces.append((now + LATE_BORROW_S, record))
        self._owner.outbox.has_deadline = True

    def next_deadline(self) -> float | None:
        """When a grace is over."""
        return self._graces[0][0] if self._graces else None

    def on_deadline(self, now: float) -> None:
        """Graces that are over."""
        while self._graces and self._graces[0][0] <= now:
            record = self._graces.pop(0)[1]
            record.graces -= 1
            self.end_if_unused(record)

    def end_if_unused(self, record: Supervised) -> None:
        """Let a task's spec go that nobody can want to be executed again."""
        if record.rows or record.owning or record.graces or record.replay is not None:
            return
        if self.by_row.get(record.task.row) is record:
            del self.by_row[record.task.row]
            of_task = self.records[record.id]
            of_task.remove(record)
            if not of_task:
                del self.records[record.id]
            if record.has_spec:
                self._owner.table.unsupervise(record.task.row)

    # ---- objects without an owner ----------------------------------------------------------------

    def rescue(self, rows: list[Row], cause: str, above: Address | None = None) -> list[Row]:
        """Turn to the supervisors of a dead owner's objects; returns those that have none.

        `above`: one of them that was asked and has nothing any more, nor have those below it.
        """
        owner = self._owner
        groups: dict[tuple[tuple[Supervisor, ...], int], list[Row]] = {}
        inherited: dict[Address, list[Row]] = {}
        lost = []
        for row in rows:
            assert row.info is not None
            if row in owner.table.made_here:
                self.follow(row)
                continue
            heir = owner.heirs.of(row.info.address)
            if heir is not None:
                inherited.setdefault(heir, []).append(row)
                continue
            line = row.info.supervisors
            at = self._nearest(line, above, row.info.address)
            if at is None:
                lost.append(row)
            else:
                groups.setdefault((line, at), []).append(row)
        for heir, those in inherited.items():
            owner.heirs.turn_to(those, heir)
        for (line, at), orphans in groups.items():
            if line[at].address == owner.address:
                record = self._find(line[at])
                for row in orphans:
                    if record is None:
                        lost.append(row)
                    else:
                        record.reason = cause
                        self._take(record, row, line, at)
            else:
                self._ask(orphans, line, at, cause)
        return lost

    def nearest(self, line: tuple[Supervisor, ...]) -> Supervisor | None:
        """The nearest supervisor that lives."""
        at = self._nearest(line)
        return None if at is None else line[at]

    def _nearest(
        self,
        line: tuple[Supervisor, ...],
        above: Address | None = None,
        asked: Address | None = None,
    ) -> int | None:
        """Who is to be asked: the first that lives.

        But `asked` if that is one of them: it may own the object by now, given to it by a nearer
        one that leaves.
        """
        is_dead = self._owner.borrowing.is_dead
        places = [supervisor.address for supervisor in line]
        if above is None and asked in places and not is_dead(asked):
            return places.index(asked)
        first = places.index(above) + 1 if above in places else 0
        return next((at for at in range(first, len(line)) if not is_dead(places[at])), None)

    def _may_ask(self, line: tuple[Supervisor, ...]) -> bool:
        at = self._nearest(line)
        if at is None:
            return False
        return line[at].address != self._owner.address or self._find(line[at]) is not None

    def _ask(self, rows: list[Row], line: tuple[Supervisor, ...], at: int, cause: str) -> None:
        owner = self._owner
        target = line[at].address
        for row in rows:
            row.info = OwnerInfo(target, line)
            unresolve(row)
        ids = owner.borrowing.turn_to(target, rows)
        owner.outbox.send(target, Orphaned(ids, line, at, cause))
        for row in rows:
            if row.waiters:
                owner.borrowing.need(row)

    def on_orphaned(self, source: Address, message: Orphaned) -> None:
        """A borrower of a dead owner's turns to us."""
        owner = self._owner
        line, at = message.supervisors, message.at
        if at >= len(line) or owner.borrowing.is_dead(source):
            return
        record = self._find(line[at])
        if record is not None:
            record.reason = message.reason or record.reason
        taken = []
        for id_ in split_ids(message.ids):
            known = owner.table.by_id.get(id_)
            if known is None and record is not None:
                taken.append(owner.table.borrowed(id_, OwnerInfo(owner.address, line))[0])
            elif known is not None and _is_asked_of(known[0], source):
                # Or each of us would wait for the other: it let go of what it owned.
                taken.append(known[0])
        owner.borrowing.register(source, message.ids)
        for row in taken:
            if record is not None:
                self._take(record, row, line, at)
            else:
                owner.fail(row, orphan_error(row, message.reason), 0.0)

    def supervise(
        self, id_: bytes, task: Task, line: tuple[Supervisor, ...], at: int
    ) -> tuple[Row, int] | None:
        """A task of ours that was just submitted leads to a wanted object: the object's row."""
        owner = self._owner
        if task.actor is not None:
            return None
        record = self.by_row.get(task.row)
        if record is None:
            record = self._record(task)
        row, index, is_new = owner.table.borrowed(id_, OwnerInfo(owner.address, line))
        is_open = row.info is not None and row.state == PENDING and row.registration != FOLLOWING
        if is_new or (is_open and owner.table.holders.get(row) is not record):
            # New, or waited for here from further up, where our own answer is waited for.
            self._take(record, row, line, at)
        return row, index

    def _find(self, me: Supervisor) -> Supervised | None:
        """The record of a task of ours, made if the task runs just now."""
        if me.task in self.records:
            return self.records[me.task][-1]
        for lease in self._owner.leasing.leases.values():
            task = lease.inflight.get(me.key)
            if task is not None and task.row.task_id() == me.task and task.may_repeat:
                return self._record(task)
        return None

    def _take(self, record: Supervised, row: Row, line: tuple[Supervisor, ...], at: int) -> None:
        """An object is to be made again by the record's task, if anybody waits for it."""
        owner = self._owner
        self._give_back(row)
        unresolve(row)
        row.info = OwnerInfo(owner.address, line)
        row.registration = RECREATING
        owner.table.hold(row, record)
        record.rows[row] = line[:at]
        running = record.replay if record.replay is not None else record.task
        if _is_executing(running):
            self._watch(record, running)
        if row.waiters:
            self.need(row)

    def _give_back(self, row: Row) -> None:
        """Whoever owned the row so far counts us no longer."""
        if row.info is not None and row.borrow_count:
            owner = self._owner
            if not owner.borrowing.is_dead(row.info.address):
                back = Return(row.object_id(0) * row.borrow_count)
                owner.outbox.send(row.info.address, back)
            row.borrow_count = 0

    def recover_put(self, row: Row) -> bool:
        """A stored object is lost that no task of ours makes; returns whether it will come back.

        One that a task executed here put, and that was let go when kept tasks alone needed it, our
        supervisors have made again, as if we had died.
        """
        table = self._owner.table
        record = table.holders.get(row)
        if type(record) is Supervised:
            self._recover_adopted(record, row)
            return True
        is_ours = type(record) is not Kept and row.first_index < PUT_INDEX_BASE
        if (
            record is None
            or is_ours
            or row.counts is not None
            or not self._may_ask(record.info.supervisors)
        ):
            return False
        table.unhold(row)
        table.borrowed_rows += 1
        row.info = record.info
        self.rescue([row], "its value was let go")
        return True

    def _recover_adopted(self, record: Supervised, row: Row) -> None:
        """One that we took over from a worker is lost: its maker's task can make it.

        Others of the same task that are lost too come back with it.
        """
        table = self._owner.table
        dead = {node for node, _ in self._owner.borrowing.dead_nodes}
        for other in list(record.rows):
            where = getattr(other.value, "node", None)
            if other is row or (other.info is None and other.state == READY and where in dead):
                table.lose(other)
                table.borrowed_rows += 1
                below = record.rows[other] or ()
                self._take(record, other, (*below, *record.info.supervisors), len(below))

    # ---- executing again -------------------------------------------------------------------------

    def want(self, record: Supervised, task: Task) -> Want:
        """What the execution of a supervised task is asked to keep."""
        wanted = [
            Wanted(row.object_id(0), below or ())
            for row, below in record.rows.items()
            if self._is_waiting(row)
        ]
        return Want(task.row.key, wanted)

    def need(self, row: Row) -> None:
        """Somebody waits for an object that is to be made again."""
        if row.registration == FOLLOWING:
            self._copy(row, 0.0)
            return
        if row in self._owner.table.made_here:
            self.follow(row)
            return
        record: Supervised = self._owner.table.holders[row]
        if record.replay is None:
            self._go_on(record, 0.0)

    def _watch(self, record: Supervised, task: Task) -> None:
        """Have an execution under way make what is wanted, and hear of its end."""
        owner = self._owner
        if not record.is_watched:
            record.is_watched = True
            row = task.row
            row.waiters = [*(row.waiters or ()), record]
        if task.lease is not None and not owner.borrowing.is_dead(task.lease.worker):
            owner.outbox.send(task.lease.worker, self.want(record, task), True)

    def on_ended(self, record: Supervised, now: float) -> None:
        """An execution of the task is over."""
        record.is_watched = False
        ended = record.task
        if record.replay is not None:
            ended, record.replay = record.replay, None
            del self.by_row[ended.row]
            drops = self._owner.table.drops
            drops.extend((ended.row, index) for index in range(ended.row.outputs))
        if ended.row.state == FAILED:
            self._give_up(record, "executing the task that made it again failed", now)
        else:
            self._go_on(record, now)
        self.end_if_unused(record)

    def _go_on(self, record: Supervised, now: float) -> None:
        """Execute the task again if somebody waits for what it did not bring back."""
        waiting = [row for row in record.rows if self._is_waiting(row) and row.waiters]
        if not waiting:
            return
        task = record.task
        if _is_executing(task):
            self._watch(record, task)  # it is executed again anyway, for an output that was lost
            return
        if task.row.task is not task:
            reason = "the task that made it is not kept: it has max_retries=0, or its spec was"
            self._give_up(record, f"{reason} dropped to stay within the lineage budget", now)
            return
        attempts = self._owner.recovery.attempts
        for row in waiting:
            id_ = row.object_id(0)
            attempts[id_] = attempts.get(id_, 0) + 1
            if attempts[id_] > RECONSTRUCTION_ATTEMPTS:
                self._fail(
                    row, record, "executing the task that made it did not make it again", now
                )
        if any(self._is_waiting(row) for row in waiting):
            self._replay(record, now)

    def _replay(self, record: Supervised, now: float) -> None:
        owner = self._owner
        kept = record.task
        old = kept.message
        assert type(old) is Run
        row = owner.table.new_task(old.parent, old.index, kept.row.outputs)
        old.attempt += 1
        owner.borrowing.rename(old)
        message = Run(
            row.key, old.attempt, old.function, old.parent, old.index, old.payload,
            old.num_returns, None, old.nested, old.options,
        )  # fmt: skip
        task = Task(row, message, kept.entry, kept.retries_left, kept.retries_left != 0)
        task.retry_exceptions = kept.retry_exceptions
        task.queue = kept.queue
        task.spec_bytes = kept.spec_bytes
        task.top_level = kept.top_level
        task.arguments = None if kept.arguments is None else list(kept.arguments)
        task.handles = kept.handles
        owner.table.give_handles(task)
        record.replay = task
        self.by_row[row] = record
        owner.table.attach(row, task)
        self._watch(record, task)
        if owner.arguments.await_missing(task, now) == 0:
            owner.ready_to_run(task, now)

    def _is_waiting(self, row: Row) -> bool:
        """Whether the row is to be made again and has not been yet."""
        is_asked_here = row.info is not None and row.registration == RECREATING
        return is_asked_here and row.state == PENDING

    # ---- made again by this process --------------------------------------------------------------

    def follow(self, row: Row) -> None:
        """This process has made a borrowed object itself: others who ask for it get that one.

        It may be that it was to be made again, or that its owner died.
        """
        assert row.info is not None
        if row.state == FAILED or row.registration == FOLLOWING:
            return
        self._give_back(row)
        unresolve(row)  # if it had a value, that was the other owner's
        row.info = OwnerInfo(self._owner.address, row.info.supervisors)
        row.registration = FOLLOWING
        self._copy(row, 0.0)

    def on_followed(self, row: Row, now: float) -> None:
        """What a row follows is resolved."""
        if row.registration == FOLLOWING and row in self._owner.table.made_here:
            self._copy(row, now)

    def _copy(self, row: Row, now: float) -> None:
        owner = self._owner
        ref = owner.table.made_here[row][0]
        made, index = ref._row, ref._index
        if made.state == FAILED:
            owner.fail(row, made.value, now)
        elif not owner.recovery.is_there(made, index):
            owner.await_row(made, row, now)
        elif row.state == PENDING:
            inside = made.nested.get(index) if made.nested is not None else None
            nested = {0: inside} if inside is not None else None
            waiters = owner.table.complete_with(row, [made.output(index)], nested, keep_task=False)
            owner.wake(waiters or [], now)

    def is_unreadable(self, row: Row, location: Location, now: float) -> bool:
        """The value of a row that follows another could not be read: the other's is lost."""
        if row.registration != FOLLOWING:
            return False
        ref = self._owner.table.made_here[row][0]
        unresolve(row)
        self._owner.recovery.lose_location(ref._row, ref._index, location)
        self._copy(row, now)
        return True

    def _give_up(self, record: Supervised, why: str, now: float) -> None:
        for row in [row for row in record.rows if self._is_waiting(row)]:
            self._fail(row, record, why, now)

    def _fail(self, row: Row, record: Supervised, why: str, now: float) -> None:
        cause = f" ({record.reason})" if record.reason else ""
        error = OwnerDiedError(
            object_id=row.object_id(0).hex(),
            owner=str(row.info.address if row.info is not None else self._owner.address),
            reason=f"its owner died{cause}, and {why}",
        )
        self._owner.fail(row, error, now)


def _is_executing(task: Task) -> bool:
    """Whether a task is under way. One whose row was given to another owner has ended."""
    return task.row.info is None and task.row.state == PENDING


def _is_asked_of(row: Row, process: Address) -> bool:
    """Whether what is known of an object comes, or is to come, from `process`."""
    if row.info is None or row.info.address != process:
        return False
    return row.state == PENDING or type(row.value) is Location
