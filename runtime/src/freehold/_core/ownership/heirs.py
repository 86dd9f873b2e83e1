"""Borrowers whose owner moved: sent on by the former owner, or by word of its heir.

A process that leaves hands its rows over (`handoff`) and sends their borrowers on (`OwnerMoved`).
Who had the reference from somebody who did not know yet asks the former owner; if that has ended
meanwhile it asks its *heir*, which was named before it began to hand over and is told with its end
(`ProcessDied.heir`). If the heir does not know the object (the former owner was killed before it
was handed over), the supervisors are asked, as after any owner's death.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold._core.ids import Address
from freehold._core.limits import HEIRS
from freehold._core.messages import Borrow, OwnerInfo, OwnerMoved, Return
from freehold._core.ownership.borrowing import ASKED, split_ids
from freehold._core.ownership.row import PENDING, REGISTERING, Row

if TYPE_CHECKING:
    from freehold._core.ownership.owner import Owner


class Heirs:
    """What one borrower knows of owners that moved."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._heirs: dict[Address, Address] = {}
        self._turned: dict[Row, None] = {}
        """Asked at an heir that may not have them."""

    def note(self, ended: Address, heir: Address) -> None:
        """A process has ended and had an heir."""
        self._heirs[ended] = heir
        if len(self._heirs) > HEIRS:
            del self._heirs[next(iter(self._heirs))]

    def of(self, ended: Address) -> Address | None:
        """Who lives and answers for what a process owned; None if nobody, or this process."""
        heir = self._heirs.get(ended)
        for _ in range(len(self._heirs)):
            if heir is None or not self._owner.borrowing.is_dead(heir):
                break
            heir = self._heirs.get(heir)
        if heir is None or heir == self._owner.address or self._owner.borrowing.is_dead(heir):
            return None
        return heir

    def on_owner_moved(self, source: Address, message: OwnerMoved, now: float) -> None:
        """The owner of some of what we borrow has given it to another."""
        owner = self._owner
        rows: dict[Row, None] = {}
        for id_ in split_ids(message.ids):
            known = owner.table.by_id.get(id_)
            info = known[0].info if known is not None else None
            if known is not None and info is not None and info.address == source:
                rows[known[0]] = None
            # What is asked there still is not answered, if it was asked after the object had gone.
            owner.borrowing.asked_in_vain(source, id_)
        if not rows or message.owner == owner.address:
            return
        if message.owner is None:
            self._ask_above(list(rows), source)
            return
        counts = b"".join(row.object_id(0) * row.borrow_count for row in rows)
        self._borrow(list(rows), message.owner, counts, source)
        self.rename_pending()

    def _ask_above(self, rows: list[Row], source: Address) -> None:
        """A supervisor gave these away, to one that has ended: the next one up may have them."""
        owner = self._owner
        why = "it had given what it owned to one that ended"
        for row in owner.supervision.rescue(rows, why, above=source):
            owner.borrowing.fail_orphan(row, why)

    def turn_to(self, rows: list[Row], heir: Address) -> None:
        """The owner of these has ended: borrow them from its heir."""
        moving = self._owner.borrowing.moving
        for row in rows:
            self._turned[row] = None
            moving.setdefault((heir, row.object_id(0)), []).append(
                lambda row=row: self._turned.pop(row, None)  # type: ignore[misc]
            )
        self._borrow(rows, heir, b"", heir)

    def _borrow(self, rows: list[Row], target: Address, counts: bytes, source: Address) -> None:
        """Register with a new owner; the former one goes on counting us until that has."""
        owner = self._owner
        borrowing = owner.borrowing
        left = len(rows)

        def one_more() -> None:
            nonlocal left
            left -= 1
            if left == 0 and counts and not borrowing.is_dead(source):
                owner.outbox.send(source, Return(counts))

        asked = []
        for row in rows:
            assert row.info is not None
            row.info = OwnerInfo(target, row.info.supervisors)
            row.registration = REGISTERING
            row.borrow_count = 1
            borrowing.moving.setdefault((target, row.object_id(0)), []).append(one_more)
            if row.state == PENDING and (row.waiters or row.key == ASKED):
                row.key = -1
                asked.append(row)
        borrowing.await_answer(target, b"".join(row.object_id(0) for row in rows))
        if borrowing.is_dead(target):
            borrowing.answer_for([target])
            for row in owner.supervision.rescue(rows, "it ended soon after it was given them"):
                borrowing.fail_orphan(row, "it ended soon after it was given them")
            return
        ids = b"".join(row.object_id(0) for row in rows)
        owner.outbox.send(target, Borrow(ids))
        for row in asked:
            borrowing.need(row)

    def rename_pending(self) -> None:
        """Tasks that wait here name the owners of their references as they are now."""
        owner = self._owner
        tasks = [task for queue in owner.leasing.by_key for task in queue.pending]
        tasks += [task for link in owner.actors.links.values() for task in link.calls]
        for task in tasks:
            owner.borrowing.rename(task.message)

    def on_gone(self, row: Row, source: Address) -> bool:
        """`source` does not know a row; whether that was its former owner's heir, and others can
        be asked."""
        if self._turned.pop(row, 0) is not None or row.info is None or row.info.address != source:
            return False
        return not self._owner.supervision.rescue([row], "its heir was not given it")
