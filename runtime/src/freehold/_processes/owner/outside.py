"""References pickled outside a Freehold call, or closed over by a function: they carry their owner.

Nobody can know how often such bytes will be read, so what they name is held: for good by the
process that pickled them (until its job ends), or, for a function's own references, as long as the
function. Whoever unpickles them registers with the owner as for any reference.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from freehold._core.ids import Address
from freehold._core.messages import OwnerInfo, Refs
from freehold._core.ownership.reference import ObjectRef
from freehold._io.references import register_reference_type
from freehold.errors import StaleReferenceError

if TYPE_CHECKING:
    from freehold._processes.owner.core import OwnerCore


cores: WeakValueDictionary[str, OwnerCore] = WeakValueDictionary()
"""This process's core by cluster: one at most is alive. An unpickled reference has no other way."""


def current_cluster() -> str:
    """The cluster that this process is part of now, "none" if of none: for messages."""
    return next((name for name, core in cores.items() if core.is_dead is None), "none")


class _Pins(threading.local):
    """Where this thread keeps what it pickles; by default with the core."""

    found: list[ObjectRef[Any]] | None = None


_pins = _Pins()


class Keeping:
    """While it is entered, references pickled by this thread are kept in `refs`."""

    def __init__(self) -> None:
        self.refs: list[ObjectRef[Any]] = []
        self._before: list[ObjectRef[Any]] | None = None

    def __enter__(self) -> Keeping:
        self._before, _pins.found = _pins.found, self.refs
        return self

    def __exit__(self, *_error: object) -> None:
        _pins.found = self._before


def reduce_outside(ref: ObjectRef[Any]) -> tuple[Any, ...]:
    """How a reference is pickled where no side list takes it; it is pinned."""
    row = ref._row
    core: OwnerCore = row.table.host
    with core.reactor.lock:
        id_ = row.table.expose(row, ref._index)
        info = row.info
    owner = core.owner.address if info is None else info.address
    (core.pinned if _pins.found is None else _pins.found).append(ref)
    return restore, (core.cluster, id_, (owner.node, owner.process, owner.incarnation))


def restore(cluster: str, id_: bytes, owner: tuple[str, int, int]) -> ObjectRef[Any]:
    """The reference that such a pickle stands for.

    Raises:
        StaleReferenceError: it is of another cluster than this process's.
    """
    core = cores.get(cluster)
    if core is None or core.is_dead is not None:
        raise StaleReferenceError(object_id=id_.hex(), cluster=cluster, current=current_cluster())
    refs = Refs([OwnerInfo(Address(*owner))], id_ + b"\0\0")
    with core.reactor.lock:
        met: list[ObjectRef[Any]] = core.owner.borrowing.meet(
            refs, core.owner.outbox.node_manager, is_covered=False
        )
        core.carry_out()
    return met[0]


register_reference_type(ObjectRef, reduce_outside)
