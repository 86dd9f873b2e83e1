"""References that cross processes: who must know of whom, and when one may let go.

Rules (Ownership, NSDI'21, §4.2, made safe for chains of borrowers):

- A reference that its owner passes as an argument is covered by the task until it ends; the reply
  names those the worker keeps, and the owner counts the worker from then on.
- A reference that its owner passes in a value (a result, an answer to `Resolve`) is counted for the
  receiver by the owner as it sends.
- A reference that a non-owner passes is registered by the receiver with `Borrow`, and the sender
  keeps its own count until the owner has answered.

So at every moment an object somebody can still reach is counted by its owner, and the death of a
process in the middle of a chain takes nobody's reference with it.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import Any

from freehold._core.ids import OBJECT_ID_BYTES, Address
from freehold._core.limits import LATE_BORROW_S, LEASE_S
from freehold._core.messages import (
    Borrow,
    Borrowed,
    Call,
    OwnerInfo,
    Refs,
    Resolve,
    Return,
    Run,
)
from freehold._core.ownership.outbox import Outbox
from freehold._core.ownership.reference import ObjectRef
from freehold._core.ownership.row import (
    FOLLOWING,
    HANDING,
    IMPLICIT,
    PENDING,
    RECREATING,
    REGISTERED,
    REGISTERING,
    Row,
)
from freehold._core.ownership.table import OwnershipTable
from freehold.errors import ObjectLostError, OwnerDiedError

_entry = Struct("<16sIH")

Continuation = Callable[[], None]

_DEAD_KEPT = 4096
_OURS = (HANDING, RECREATING, FOLLOWING)
_OWNERS = 1 << 16
"""Owners, with their supervisors, that one list of references can name."""
RECONNECT_S = 0.5
"""How long after a connection broke the other side is tried again, unless it is known to be
dead."""

ASKED = -2
"""The key of a borrowed row whose owner was asked for the value."""


def split_ids(packed: bytes) -> list[bytes]:
    """The object ids in a packed run of them."""
    return [packed[i : i + OBJECT_ID_BYTES] for i in range(0, len(packed), OBJECT_ID_BYTES)]


class Borrowing:
    """One process's side of the borrowing protocol, as borrower and as owner."""

    def __init__(
        self, table: OwnershipTable, outbox: Outbox, wake: Callable[[list[Any], float], None]
    ) -> None:
        self.table = table
        self.outbox = outbox
        self.wake = wake
        self.give_up: Callable[[Address, float], None] = lambda address, now: None
        """What follows when an owner cannot be reached for good."""
        self.rescue: Callable[[list[Row], str], list[Row]] = lambda rows, cause: rows
        """Turns to the supervisors of a dead owner's objects; returns those that have none."""
        self.recreate: Callable[[Row], None] = lambda row: None
        """Somebody waits for an object that is to be made again."""
        self.dead: dict[Address, None] = {}
        """Processes known to have ended, the last `_DEAD_KEPT` of them."""
        self.dead_nodes: dict[tuple[str, int], None] = {}
        self.given: dict[bytes, Address] = {}
        """What we gave away (`handoff`), …"""
        self.send_on: Callable[[Address, bytes], None] = lambda source, ids: None
        """… and who sends those on who register for it."""
        self.is_wanted: Callable[[Address], bool] = lambda peer: False
        """Whether something else than a registration is waited for from a process."""
        self.is_elsewhere: Callable[[Row, Address], bool] = lambda row, source: False
        """Asks others about a row that `source`, a former owner's heir, does not know."""
        self.moving: dict[tuple[Address, bytes], list[Continuation]] = {}
        """What follows when a certain owner counts us, to whom a row has moved."""
        self._after: dict[bytes, list[Continuation]] = {}
        self._asked: dict[Address, dict[bytes, int]] = {}
        """`Borrow`s under way, by owner; only the answer to the last tells that we are counted."""
        self._late: list[tuple[float, Address, bytes, int]] = []
        self._held: list[tuple[float, list[ObjectRef[Any]]]] = []
        self._reconnect: dict[Address, float] = {}
        self._lost_since: dict[Address, float] = {}
        self.own = OwnerInfo(table.address)

    def is_dead(self, address: Address) -> bool:
        """Whether a process, or its node, is known to have ended."""
        return address in self.dead or (address.node, address.incarnation) in self.dead_nodes

    # ---- describing and meeting references -----------------------------------------------------

    def describe(self, refs: list[ObjectRef[Any]], receiver: Address | None = None) -> Refs:
        """The wire form of references; with `receiver`, count it for those this process owns."""
        owners: dict[OwnerInfo, int] = {}
        packed = bytearray()
        table = self.table
        if receiver is not None and (receiver == table.address or self.is_dead(receiver)):
            receiver = None
        for ref in refs:
            row = ref._row
            # Who is about to own it may not know so yet: until then we answer for it.
            is_ours = row.info is None or row.registration in _OURS
            id_ = table.expose(row, ref._index)
            info = self.info_of(row)
            if len(owners) >= _OWNERS and info not in owners:
                info = OwnerInfo(info.address)  # too many tasks' supervisors for one list
            number = owners.setdefault(info, len(owners))
            packed += id_
            packed += number.to_bytes(2, "little")
            if receiver is not None and is_ours:
                table.borrow(id_, receiver)
        return Refs(list(owners), bytes(packed))

    def info_of(self, row: Row) -> OwnerInfo:
        """Whom others are to ask about a row: its owner, or us."""
        if row.info is not None and row.registration != HANDING:
            return row.info
        holder = self.table.holders.get(row) if self.table.holders else None
        return self.own if holder is None else holder.info_of(row)

    def meet(self, refs: Refs, source: Address, is_covered: bool) -> list[ObjectRef[Any]]:
        """References that came from `source`, counted here, registered where they must be.

        `is_covered`: `source` sent them as arguments, so its task covers those it owns; else it
        has counted this process for them.
        """
        table = self.table
        met: list[ObjectRef[Any]] = []
        unregistered: dict[Address, bytearray] = {}
        orphans: list[Row] = []
        owners = refs.owners
        for task, index, number in _entry.iter_unpack(refs.packed):
            info = owners[number]
            id_ = task + index.to_bytes(4, "little")
            row, output, is_new = table.borrowed(id_, info)
            met.append(table.reference(row, output))
            if row.info is None:
                if info.address == source != table.address and not is_covered:
                    # Another execution of the task that made ours made it, too; ours will do.
                    self.outbox.send(source, Return(id_))
                continue
            if is_new and self.is_dead(info.address):
                if not self.rescue([row], "its process had ended"):
                    continue
                row.registration = REGISTERED  # nobody is left to register with
                self._fail(row, orphan_error(row, "its process had ended"))
                continue
            is_waiting = row.registration in (RECREATING, FOLLOWING)
            if is_waiting or row.info.address != info.address:
                # It was handed over since we met it first, and we go on by way of the first owner,
                # which counts us and is counted. The new one counts us too if it sent this. Or it
                # is to be made again, and we are asked for it ourselves.
                if info.address == source and not is_covered:
                    self.outbox.send(source, Return(id_))
                continue
            if info.address == source:
                if not is_covered:
                    row.registration = REGISTERED
                    row.borrow_count += 1
            elif row.registration == IMPLICIT and is_supervised_by(info, info.address):
                # Others asked it in the dead owner's stead; it may hear of us before it hears them.
                row.registration = REGISTERING
                orphans.append(row)
            elif info.address == table.address:
                # Ours once, out of scope since: a stale copy. Nobody can bring it back.
                self._gone(row)
            elif row.registration == IMPLICIT:
                row.registration = REGISTERING
                row.borrow_count += 1
                unregistered.setdefault(info.address, bytearray()).extend(id_)
        self._register(unregistered)
        for row in self.rescue(orphans, "") if orphans else ():
            row.registration = REGISTERED
            self._fail(row, orphan_error(row, "its process had ended"))
        return met

    def on_recreated(self, source: Address, refs: Refs) -> None:
        """`source` makes again what we asked it for: whom to ask is known now.

        Only this says so. Others may pass on references to the same objects under the name of a
        process that waits for us to have them made.
        """
        table = self.table
        rows = []
        for task, index, number in _entry.iter_unpack(refs.packed):
            known = table.by_id.get(task + index.to_bytes(4, "little"))
            info = refs.owners[number]
            if known is None or known[0].registration != RECREATING or known[0].info is None:
                continue
            if info.address != table.address and not self.is_dead(info.address):
                rows.append(known[0])
                known[0].info = info
                known[0].registration = IMPLICIT
        self.meet(refs, source, is_covered=False)
        for row in rows:
            if row.waiters:
                self.need(row)

    def _register(self, unregistered: dict[Address, bytearray]) -> None:
        for owner, ids in unregistered.items():
            self.await_answer(owner, bytes(ids))
            self.outbox.send(owner, Borrow(bytes(ids)))

    def await_answer(self, owner: Address, ids: bytes) -> None:
        asked = self._asked.setdefault(owner, {})
        for id_ in split_ids(ids):
            asked[id_] = asked.get(id_, 0) + 1

    def asked_in_vain(self, owner: Address, id_: bytes) -> None:
        """A former owner sends us on: what we registered for since it does not answer."""
        asked = self._asked.get(owner)
        if asked is not None:
            asked.pop(id_, None)
            if not asked:
                del self._asked[owner]
        if id_ not in self.table.by_id:  # let go since: nobody registers with the new one
            for then in self._after.pop(id_, ()):
                then()

    def turn_to(self, supervisor: Address, rows: list[Row]) -> bytes:
        """Borrow rows from a supervisor of their dead owner's; their ids, to be told it now."""
        for row in rows:
            row.registration = REGISTERING
            row.borrow_count = 1
        ids = b"".join(row.object_id(0) for row in rows)
        self.await_answer(supervisor, ids)
        return ids

    def after_registration(self, refs: list[ObjectRef[Any]], then: Continuation) -> None:
        """Call `then()` once every owner of `refs` counts this process (at once if all do)."""
        self.after_rows([(ref._row, ref._index) for ref in refs], then)

    def after_rows(self, rows: list[tuple[Row, int]], then: Continuation) -> None:
        """The same for rows met before; those let go since do not matter."""
        waiting = {
            row.object_id(index): row
            for row, index in rows
            if row.registration == REGISTERING and row.count > 0
        }
        if not waiting:
            then()
            return
        left = len(waiting)

        def one_more() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                then()

        for id_ in waiting:
            self._after.setdefault(id_, []).append(one_more)

    def finish(
        self,
        rows: list[tuple[Row, int]],
        source: Address,
        then: Callable[[list[bytes] | None], None],
    ) -> None:
        """A task of `source` that was given `rows` has ended: call `then(kept)` to answer it.

        That waits until the owners of those still held have counted this process, because with the
        answer `source` may let them go. What is kept is told as it stands *then*: a reference that
        is let go while the answer waits was never counted by `source`.
        """
        self.after_rows(rows, lambda: then(self.kept(rows, source)))

    def kept(self, refs: list[tuple[Row, int]], source: Address) -> list[bytes] | None:
        """Which references of a finished task's arguments this process still holds.

        The answer goes into the reply to `source`, which counts us for those it owns.
        """
        kept = []
        for row, _index in refs:
            info = row.info
            if info is None or info.address != source or row.registration != IMPLICIT:
                continue
            if row.count > 0:
                row.registration = REGISTERED
                row.borrow_count += 1
                kept.append(row.object_id(0))
        return kept or None

    def register_kept(self, rows: list[tuple[Row, int]]) -> None:
        """Register for what an actor keeps of its constructor's arguments: no reply names it."""
        by_owner: dict[Address, bytearray] = {}
        for row, _index in rows:
            if row.info is not None and row.count > 0 and row.registration == IMPLICIT:
                row.registration = REGISTERING
                row.borrow_count += 1
                by_owner.setdefault(row.info.address, bytearray()).extend(row.object_id(0))
        self._register(by_owner)

    # ---- as borrower -----------------------------------------------------------------------------

    def need(self, row: Row) -> None:
        """Ask the owner for a borrowed object's value, once."""
        if row.info is not None and row.state == PENDING and row.key != ASKED:
            if row.registration in (RECREATING, FOLLOWING):
                self.recreate(row)
                return
            row.key = ASKED
            self.outbox.send(row.info.address, Resolve(row.object_id(0)), True)

    def on_borrowed(self, source: Address, message: Borrowed) -> None:
        """The owner answered a registration."""
        self.heard_from(source)
        asked = self._asked.get(source, {})
        for id_ in split_ids(message.ids):
            if self._is_last(asked, id_):
                self._registered(id_, source)
        for id_ in split_ids(message.gone):
            if self._is_last(asked, id_):
                known = self.table.by_id.get(id_)
                if (
                    known is not None
                    and known[0].info is not None
                    and not self.is_elsewhere(known[0], source)
                ):
                    self._gone(known[0])
                if id_ not in asked:  # or it is asked again, as a supervisor of its former owner's
                    self._registered(id_, source)
        if not asked:
            self._asked.pop(source, None)

    @staticmethod
    def _is_last(asked: dict[bytes, int], id_: bytes) -> bool:
        left = asked.pop(id_, 0) - 1
        if left > 0:
            asked[id_] = left
        return left == 0

    def _registered(self, id_: bytes, owner: Address) -> None:
        known = self.table.by_id.get(id_)
        if known is not None and known[0].registration == REGISTERING:
            info = known[0].info
            if info is None or info.address == owner:
                known[0].registration = REGISTERED
        for then in self._after.pop(id_, ()):
            then()
        for then in self.moving.pop((owner, id_), ()) if self.moving else ():
            then()

    def _gone(self, row: Row) -> None:
        row.registration = IMPLICIT
        row.borrow_count = 0
        if row.state == PENDING:
            self._fail(row, gone_error(row))

    def _fail(self, row: Row, error: Exception) -> None:
        self.wake(self.table.fail(row, error) or [], 0.0)  # type: ignore[arg-type]

    def fail_orphan(self, row: Row, cause: str) -> None:
        """Nobody can be asked for a borrowed object any more."""
        row.registration = REGISTERED
        self._fail(row, orphan_error(row, cause))

    def rename(self, message: Run | Call) -> None:
        """Have a task that is about to be sent name the owners of its references as they are."""
        refs = message.nested
        if refs is None:
            return
        owners: dict[OwnerInfo, int] = {}
        packed = bytearray()
        for task, index, number in _entry.iter_unpack(refs.packed):
            id_ = task + index.to_bytes(4, "little")
            known = self.table.by_id.get(id_)
            info = refs.owners[number] if known is None else self.info_of(known[0])
            if len(owners) >= _OWNERS and info not in owners:
                info = OwnerInfo(info.address)
            packed += id_ + owners.setdefault(info, len(owners)).to_bytes(2, "little")
        message.nested = Refs(list(owners), bytes(packed))

    def on_owner_gone(self, row: Row) -> None:
        """The owner of a borrowed object has ended: no answer to a registration will come."""
        row.registration = REGISTERED
        row.borrow_count = 0

    def answer_for(self, owners: list[Address]) -> None:
        """Those owners will answer no registration any more: whoever waits for one goes on."""
        for owner in owners:
            for id_ in self._asked.pop(owner, {}):
                self._registered(id_, owner)

    def on_disconnected(self, peer: Address, now: float) -> None:
        """What was said last, either way, may be lost: register anew, and as owner let the other
        side's registrations expire, in the hope of new ones.
        """
        expiring: dict[bytes, int] = {}
        for _, borrower, id_, times in self._late:
            if borrower == peer:
                expiring[id_] = expiring.get(id_, 0) + times
        for id_, (row, index) in self.table.by_id.items():
            if row.borrowers:
                times = row.borrowers.get((peer, index), 0) - expiring.get(id_, 0)
                if times > 0:
                    self._expire(now, peer, id_, times)
        # Not at once: mostly the peer is dead, and word of it is on its way.
        self._reconnect.setdefault(peer, now + RECONNECT_S)
        self.outbox.has_deadline = True
        self._lost_since.setdefault(peer, now)

    def heard_from(self, peer: Address) -> None:
        """An owner answered."""
        self._lost_since.pop(peer, None)

    def _register_anew(self, peer: Address) -> None:
        lost = self._asked.pop(peer, {})
        again: dict[Address, bytearray] = {}
        asked = []
        orphans = []
        for id_, (row, _) in self.table.by_id.items():
            if row.info is not None and row.info.address == peer:
                if row.state == PENDING and is_supervised_by(row.info, peer):
                    orphans.append(row)  # it may not have heard why we ask it
                    continue
                row.registration = REGISTERING
                row.borrow_count = 1
                again.setdefault(peer, bytearray()).extend(id_)
                if row.key == ASKED:
                    row.key = -1
                    asked.append(row)
        if not again and not orphans and not self.is_wanted(peer):
            self._lost_since.pop(peer, None)  # nothing is wanted of it
        self.rescue(orphans, "")
        self._register(again)
        for row in asked:
            self.need(row)
        for id_ in lost:
            if id_ not in self._asked.get(peer, {}):
                self._registered(id_, peer)

    def hold(self, refs: list[ObjectRef[Any]], now: float) -> None:
        """Keep references for a grace."""
        self._held.append((now + LATE_BORROW_S, refs))
        self.outbox.has_deadline = True

    def flush_returned(self) -> None:
        """Tell owners of the borrowed objects that are out of scope here."""
        table = self.table
        by_owner: dict[Address, bytearray] = {}
        for row in table.returned:
            if row.info is not None and row.borrow_count:
                ids = by_owner.setdefault(row.info.address, bytearray())
                ids.extend(
                    row.object_id(0) * row.borrow_count
                    if row.counts is None
                    else table.relayed.pop(row, b"")
                )
                row.borrow_count = 0
        table.returned.clear()
        for owner, packed in by_owner.items():
            self.outbox.send(owner, Return(bytes(packed)))

    # ---- as owner --------------------------------------------------------------------------------

    def on_borrow(self, source: Address, message: Borrow) -> None:
        """A process holds references to our objects."""
        if self.is_dead(source):
            return
        self.register(source, message.ids)

    def register(self, source: Address, ids: bytes) -> None:
        """Count a borrower for what is known of `ids`, and tell it."""
        known, gone = bytearray(), bytearray()
        for id_ in split_ids(ids):
            if self.table.borrow(id_, source):
                known += id_
            elif id_ not in self.given:
                gone += id_
        self.outbox.send(source, Borrowed(bytes(known), bytes(gone)))
        if self.given:
            self.send_on(source, ids)

    def on_return(self, source: Address, message: Return) -> None:
        """A process let go of references to our objects."""
        for id_ in split_ids(message.ids):
            self.table.give_back(id_, source)

    def on_borrower_died(self, borrower: Address, now: float, is_clean: bool) -> None:
        """Let go of what a dead process held; after an unclean death, only after a grace.

        It may have passed references on, and the receivers' `Borrow` may still be under way.
        """
        self.dead[borrower] = None
        self.answer_for([borrower])
        if len(self.dead) > _DEAD_KEPT:
            del self.dead[next(iter(self.dead))]
        held = [
            id_
            for id_, (row, index) in self.table.by_id.items()
            if row.borrowers and (borrower, index) in row.borrowers
        ]
        for id_ in held:
            if is_clean:
                self.table.give_back(id_, borrower, is_dead=True)
            else:
                self._expire(now, borrower, id_, 0)

    def _expire(self, now: float, borrower: Address, id_: bytes, times: int) -> None:
        self._late.append((now + LATE_BORROW_S, borrower, id_, times))
        self.outbox.has_deadline = True

    def on_node_died(self, node: str, incarnation: int, now: float) -> None:
        """All processes of a node have ended."""
        self.dead_nodes[node, incarnation] = None
        self.answer_for([owner for owner in self._asked if owner.node == node])
        borrowers = {
            borrower: None
            for row, _ in self.table.by_id.values()
            for borrower, _index in row.borrowers or ()
            if borrower.node == node
        }
        for borrower in borrowers:
            self.on_borrower_died(borrower, now, is_clean=False)

    def on_deadline(self, now: float) -> None:
        """Graces that are over."""
        while self._late and self._late[0][0] <= now:
            _, borrower, id_, times = self._late.pop(0)
            for _ in range(times):
                self.table.give_back(id_, borrower)
            if not times:
                self.table.give_back(id_, borrower, is_dead=True)
        for peer in [peer for peer, at in self._reconnect.items() if at <= now]:
            del self._reconnect[peer]
            if self.is_dead(peer):
                self._lost_since.pop(peer, None)
            elif now - self._lost_since.get(peer, now) >= LEASE_S:
                self.give_up(peer, now)
            else:
                self._register_anew(peer)
        while self._held and self._held[0][0] <= now:
            del self._held[0]

    def next_deadline(self) -> float | None:
        """When `on_deadline` has something to do."""
        late = [entries[0][0] for entries in (self._late, self._held) if entries]
        late += self._reconnect.values()
        return min(late, default=None)


def gone_error(row: Row) -> ObjectLostError:
    """What a borrowed object fails with that the asked one does not know (any more)."""
    id_ = row.object_id(0).hex()
    info = row.info
    if info is not None and is_supervised_by(info, info.address):
        return orphan_error(row, "its process had ended")
    reason = "its owner no longer knows it: every counted reference had ended"
    return ObjectLostError(object_id=id_, reason=reason)


def is_supervised_by(info: OwnerInfo, process: Address) -> bool:
    """Whether a process is asked for an object in its dead owner's stead."""
    return any(supervisor.address == process for supervisor in info.supervisors)


def orphan_error(row: Row, cause: str) -> OwnerDiedError:
    """What a borrowed object fails with whose owner died, and that nobody can make again."""
    info = row.info
    if info is None or not info.supervisors:
        why = "it was made by an actor, or in no task's name, so there is no task to execute again"
    else:
        why = (
            "no living process may execute the task that made it again: it has max_retries=0, "
            "its spec was dropped, or the owners of the tasks above it have died, too"
        )
    return OwnerDiedError(
        object_id=row.object_id(0).hex(),
        owner=str(info.address) if info is not None else "",
        reason=f"its owner died ({cause}), and {why}",
    )
