"""Supervisors that keep a task's spec for this process, which owns what the task made.

A worker's answer tells the task's owner to keep its spec (`origins`); a process that takes over
another's rows says so itself (`takeover`). When such a supervisor ends, in order or not, the
nearest that lives is told in its place: within the grace that it gives after any death it still
has the spec, since the one that ended was an owner, too (`supervision`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from freehold._core.ids import Address
from freehold._core.messages import OwnerInfo, Owning, OwningEnded

if TYPE_CHECKING:
    from freehold._core.ownership.owner import Owner

Place = tuple[Address, int]
"""A supervisor, and its own key for the task."""


class Holder(Protocol):
    """Rows of one task that this process owns: an `Origin` or a `Kept`."""

    info: OwnerInfo
    places: list[Place]


class _Spec:
    """One spec that is kept for us."""

    __slots__ = ("holders", "is_noted", "then")

    def __init__(self) -> None:
        self.holders: dict[Holder, None] = {}
        self.is_noted = False
        """The supervisor knows that it must keep it."""
        self.then: list[Callable[[], None]] = []


class Specs:
    """All specs that others keep for one process."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._specs: dict[Place, _Spec] = {}

    def note(self, holder: Holder, place: Place) -> None:
        """An answer to `place` says that we own what its task made here."""
        self._add(holder, place).is_noted = True

    def ask(self, holder: Holder, then: Callable[[], None] | None = None) -> None:
        """Have the nearest living supervisor keep its spec; call `then()` when it does, or cannot
        be asked."""
        owner = self._owner
        nearest = owner.supervision.nearest(holder.info.supervisors)
        if nearest is not None and nearest.address != owner.address:
            place = (nearest.address, nearest.key)
            is_new = place not in self._specs
            spec = self._add(holder, place)
            if is_new:
                owner.outbox.send(nearest.address, Owning(nearest.task, nearest.key))
            if not spec.is_noted:
                spec.then += [then] if then is not None else []
                return
        if then is not None:
            then()

    def _add(self, holder: Holder, place: Place) -> _Spec:
        spec = self._specs.setdefault(place, _Spec())
        if holder not in spec.holders:
            spec.holders[holder] = None
            holder.places.append(place)
        return spec

    def on_noted(self, source: Address, key: int) -> None:
        """A supervisor keeps a spec for us (or has none)."""
        spec = self._specs.get((source, key))
        if spec is not None:
            spec.is_noted = True
            _go_on(spec)

    def end(self, holder: Holder) -> None:
        """Nobody holds any more what is owned here of `holder`'s task."""
        for place in holder.places:
            spec = self._specs[place]
            del spec.holders[holder]
            if not spec.holders:
                del self._specs[place]
                if not self._owner.borrowing.is_dead(place[0]):
                    self._owner.outbox.send(place[0], OwningEnded(place[1]))
        holder.places.clear()

    def on_unreachable(self, peer: Address) -> None:
        """What was said last may be lost: go on without an answer."""
        for place, spec in self._specs.items():
            if place[0] == peer:
                _go_on(spec)

    def on_died(self, is_dead: Callable[[Address], bool]) -> None:
        """Supervisors have ended: those above them are to keep their own specs."""
        for place in [place for place in self._specs if is_dead(place[0])]:
            spec = self._specs.pop(place)
            for holder in spec.holders:
                holder.places.remove(place)
                self.ask(holder)
            _go_on(spec)


def _go_on(spec: _Spec) -> None:
    then, spec.then = spec.then, []
    for one in then:
        one()
