"""Hand-off and drain: rows that change their owner, stored values that change their node."""

from __future__ import annotations

from freehold._core.ids import Address, Location
from freehold._core.messages.parts import Message, Output, Plain, Refs, Supervisor


class HandedRow(Plain):
    """One output group with all that its next owner must know of it.

    `id` is that of its first output; `live` are the outputs that somebody may still want: the
    others have none in `outputs`. `state` is "ready", "failed" (`error`), "lost" or "actor" (a
    handle, whose constructor's arguments are the references of output 0).
    """

    id: bytes
    state: str
    live: list[int]
    outputs: list[Output] = []
    packed: Location | None = None
    ends: bytes = b""
    packed_nested: dict[int, Refs] | None = None
    error: bytes = b""
    supervisors: tuple[Supervisor, ...] = ()
    dynamic: bool = False


# ---- old owner ↔ new owner ↔ borrowers ---------------------------------------------------------


class HandOff(Message, tag=160):
    """The receiver owns these rows from now on, and counts the sender as their borrower.

    Idempotent: said again (after a broken connection, under the same number) it registers the
    sender anew and is answered anew.
    """

    number: int
    rows: list[HandedRow]


class TakenOver(Message, tag=161):
    """The sender owns what came with the `HandOff` of that number, and has registered for what is
    inside: the former owner lets go and sends borrowers here. Idempotent.

    Or it is `refused`, since the sender is about to leave itself: nothing has changed its owner.
    """

    number: int
    refused: bool = False


class OwnerMoved(Message, tag=162):
    """From a former owner: `owner` is to be asked for these objects (packed ids) from now on.

    The receiver registers there, and only then says `Return` here. Idempotent. Without `owner` that
    one has ended, too: who asked the sender as its supervisor is to ask the next one up.
    """

    ids: bytes
    owner: Address | None


class HeirNamed(Message, tag=163):
    """A process that leaves, to its node manager: who answers for what it owned when it has ended.

    Absolute: the last one said holds.
    """

    heir: Address


class Owning(Message, tag=164):
    """To a supervisor: the sender owns now what the task of this `key` made elsewhere. Idempotent.

    Its spec is to be kept until the sender says `OwningEnded`.
    """

    task: bytes
    key: int


class OwningNoted(Message, tag=165):
    """The answer to `Owning`. Idempotent."""

    key: int


# ---- within a draining node ----------------------------------------------------------------------


class LeaveNode(Message, tag=167):
    """Node manager to worker: your node drains. Start nothing more, then leave.

    What you own is to be given to `keeper`; said again when there is one, or another. Absolute.
    """

    reason: str
    keeper: Address | None = None


# ---- node manager ↔ node manager -----------------------------------------------------------------


class KeeperWanted(Message, tag=168):
    """Name a worker of yours that is to own what those of the sender's node own. Idempotent."""

    request: int


class KeeperGiven(Message, tag=169):
    """The answer to `KeeperWanted`; None if there is and will be none."""

    request: int
    keeper: Address | None


class PullPrimary(Message, tag=173):
    """Make a primary copy of this range of mine in your store, in its owner's name.

    Idempotent: a range that was copied before is answered with that copy.
    """

    request: int
    location: Location
    owner: Address


class PrimaryPulled(Message, tag=174):
    """The answer to `PullPrimary`: where the copy is, or `error`."""

    request: int
    location: Location | None
    error: str = ""


class PrimaryMoved(Message, tag=175):
    """To the node manager of `owner`, which passes it on: these ranges have other primary copies
    now, as (old, new). Idempotent; said again until it is answered."""

    owner: Address
    moves: list[tuple[Location, Location]]


class PrimaryNoted(Message, tag=176):
    """From an owner to the node manager that the ranges left: whether it knows each, by its old
    place. Idempotent."""

    known: list[Location]
    unknown: list[Location] = []


# ---- actors of a draining node ------------------------------------------------------------------


class LeaveActor(Message, tag=178):
    """Node manager to worker: end as the actor that you are when each of `callers` has said
    `CallsStopped` (or has ended)."""

    callers: list[Address]
    reason: str = ""


class CallsStopped(Message, tag=179):
    """Caller to actor: every call that was sent was answered, and none follows. Idempotent."""

    actor: bytes
