"""Two or more real owners in one test, and what they say to each other carried by hand."""

from __future__ import annotations

from typing import Any

from freehold._core import messages as m
from freehold._core.ids import Address, Location, root_task_id
from freehold._core.interface import FunctionEntry, TaskOptions
from freehold._core.ownership.arguments import Given
from freehold._core.ownership.owner import Owner
from freehold._core.ownership.reference import ObjectRef, make_reference
from freehold._core.ownership.row import Row

NODE = "a" * 32
NODE_MANAGER = Address(NODE, 0)
DRIVER, WORKER, OTHER, THIRD = (Address(NODE, number) for number in range(1, 5))
ROOT = root_task_id("unit", "1")
SHAPE = (("CPU", 10_000),)
CRASH = m.ExitCause(None, 9)


def make_owner(address: Address = DRIVER) -> Owner:
    """An owner whose errors have their class's name for a blob."""
    owner = Owner(address, NODE_MANAGER)
    owner.error_blob = (  # type: ignore[method-assign]
        lambda error: error if isinstance(error, bytes) else type(error).__name__.encode()
    )
    return owner


def make_entry() -> FunctionEntry:
    """A remote function that the core knows."""
    entry = FunctionEntry(len, "len")
    entry.number, entry.blob = 0, b"code"
    return entry


def submit(
    owner: Owner, entry: FunctionEntry | None = None, given: Given | None = None, **options: Any
) -> list[ObjectRef[Any]]:
    """Submit a task; its references."""
    settings = TaskOptions(shape=SHAPE, **options)
    index = owner.table._next_key
    row = owner.submit(entry or make_entry(), settings, ROOT, index, given or Given(b"x"), 0.0)
    return [make_reference(row, index) for index in range(settings.num_returns)]


def put(owner: Owner, value: bytes | Location = b"value", index: int = 0) -> ObjectRef[Any]:
    """Put a value."""
    return make_reference(owner.table.new_put(ROOT, index, value))


def grant(owner: Owner, worker: Address = WORKER, lease: int = 1) -> None:
    """Lease a worker to the owner's first queue."""
    owner.leasing.on_lease_granted(NODE_MANAGER, m.LeaseGranted(0, lease, worker, lease), 0.0)


def crash(owner: Owner, worker: Address = WORKER) -> None:
    """A leased worker is killed."""
    lease = owner.leasing.leases[worker]
    owner.leasing.on_lease_revoked(m.LeaseRevoked(lease.id, worker, CRASH), 0.0)


def said(owner: Owner, kind: type[Any], target: Address | None = None) -> list[Any]:
    """What of one kind the owner wants said, and forget everything."""
    owner.settle(0.0)
    found = [x for to, x, _ in owner.outbox.messages if type(x) is kind and target in (None, to)]
    owner.outbox.messages.clear()
    return found


def exchange(*owners: Owner) -> None:
    """Carry messages between these owners until nothing is left to say; drop the rest."""
    by_address = {owner.address: owner for owner in owners}
    is_busy = True
    while is_busy:
        is_busy = False
        for owner in owners:
            owner.settle(0.0)
            messages, owner.outbox.messages = owner.outbox.messages, []
            for target, message, _ in messages:
                if target in by_address:
                    is_busy = True
                    deliver(owner.address, by_address[target], message)


def deliver(source: Address, owner: Owner, message: Any) -> None:
    """One message of the borrowing protocol."""
    borrowing = owner.borrowing
    if isinstance(message, m.Borrow):
        borrowing.on_borrow(source, message)
    elif isinstance(message, m.Borrowed):
        borrowing.on_borrowed(source, message)
    elif isinstance(message, m.Return):
        borrowing.on_return(source, message)
    elif isinstance(message, m.Resolve):
        owner.resolving.on_resolve(source, message, 0.0)
    elif isinstance(message, m.Resolved):
        owner.resolving.on_resolved(source, message, 0.0)
    elif isinstance(message, m.DoneWith):
        owner.on_done_with(source, message, 0.0)
    elif isinstance(message, m.TakenResult):
        owner.handing.taken(source, message.key)
    elif isinstance(message, m.Orphaned):
        owner.supervision.on_orphaned(source, message)
    elif isinstance(message, m.OwningEnded):
        owner.supervision.on_owning_ended(source, message.key)
    elif isinstance(message, m.Recreated):
        owner.borrowing.on_recreated(source, message.refs)
    elif isinstance(message, m.HandOff):
        owner.takeover.on_hand_off(source, message, 0.0)
    elif isinstance(message, m.TakenOver):
        owner.handoff.on_taken_over(source, message, 0.0)
    elif isinstance(message, m.OwnerMoved):
        owner.heirs.on_owner_moved(source, message, 0.0)
    elif isinstance(message, m.Owning):
        owner.takeover.on_owning(source, message)
    elif isinstance(message, m.OwningNoted):
        owner.specs.on_noted(source, message.key)


def location(segment: int, node: str = NODE) -> Location:
    """A place in an arena."""
    return Location(node, segment, 0, 64)


def row_of(ref: ObjectRef[Any]) -> Row:
    """The row that a reference stands for."""
    return ref._row
