"""Connections, tasks and borrowing: what owners, workers and borrowers say to each other."""

from __future__ import annotations

from freehold._core.ids import Address, Location
from freehold._core.messages.parts import (
    Adopted,
    Arg,
    Message,
    Output,
    Refs,
    RunOptions,
    Supervisor,
    Wanted,
)
from freehold._core.resources import Shape

# ---- every connection ------------------------------------------------------------------------


class Hello(Message, tag=1):
    """First on every connection: who is calling, and whom it means to reach.

    On TCP without TLS `proof` answers the acceptor's `Challenge`, and `nonce` asks for a `Welcome`.
    """

    cluster: str
    source: Address
    target: Address
    protocol: int
    pid: int = 0
    nonce: bytes = b""
    proof: bytes = b""


class Refused(Message, tag=2):
    """Why the acceptor is about to close the connection."""

    reason: str


# ---- owner → worker --------------------------------------------------------------------------


class DefineFunction(Message, tag=10):
    """Code for `Run.function`, sent once per connection before its first use."""

    function: int
    name: str
    blob: bytes
    max_calls: int = 0


class Run(Message, tag=11):
    """Execute a task. `key` is the owner's own number for it and names it in every answer."""

    key: int
    attempt: int
    function: int
    parent: bytes
    index: int
    payload: bytes = b""
    num_returns: int = 1
    args: list[Arg] | None = None
    nested: Refs | None = None
    options: RunOptions | None = None


class Call(Message, tag=12):
    """Call a method of the actor that lives in the receiver."""

    key: int
    attempt: int
    method: str
    parent: bytes
    index: int
    payload: bytes = b""
    num_returns: int = 1
    args: list[Arg] | None = None
    nested: Refs | None = None
    options: RunOptions | None = None


class Recall(Message, tag=13):
    """Give back these tasks if they have not started: another worker is idle."""

    keys: list[int]


class Cancel(Message, tag=14):
    """Cancel a task: drop it if it has not started, else interrupt it (or end the process)."""

    key: int
    force: bool = False
    recursive: bool = True


class TakenResult(Message, tag=15):
    """The caller now holds the references inside this result; the worker may let them go."""

    key: int


class LeaseBegan(Message, tag=17):
    """The receiver is leased to the sender: what the tasks that follow run on."""

    shape: Shape


class Want(Message, tag=18):
    """Say `Recreated` when the task of this `key` makes these objects.

    Said before the `Run`, while it runs, or both: what a dead owner had is made again by it.
    """

    key: int
    wanted: list[Wanted]


class SupervisedBy(Message, tag=19):
    """Whose task `parent` is, and so on up: holds for the tasks of that parent that follow."""

    parent: bytes
    supervisors: tuple[Supervisor, ...]


# ---- worker → owner --------------------------------------------------------------------------


class Done(Message, tag=20):
    """A task ended well with one plain value inline: the common case."""

    key: int
    attempt: int
    run_us: int
    blob: bytes = b""


class DoneWith(Message, tag=21):
    """A task ended well: several outputs, stored ones, or ones that hold references.

    Either `outputs`, or `packed` with `ends` (little-endian u64 end offset of each output within
    the segment). `kept` names references of its arguments that the worker still holds;
    `wants_taken` asks for `TakenResult`; `dynamic` is set if the task chose how many outputs;
    with `is_owning` others hold what the task made and the worker owns, until it says
    `OwningEnded`.
    """

    key: int
    attempt: int
    run_us: int
    outputs: list[Output] | None = None
    packed: Location | None = None
    ends: bytes = b""
    packed_nested: dict[int, Refs] | None = None
    kept: list[bytes] | None = None
    adopted: list[Adopted] | None = None
    wants_taken: bool = False
    dynamic: bool = False
    is_owning: bool = False


class Failed(Message, tag=22):
    """A task ended with an exception. `error` is a blob; `kind` says whose fault it was."""

    key: int
    attempt: int
    run_us: int
    kind: str
    """"user", "cancelled", "timeout", "lost" or "exited" (the actor chose to end)."""
    error: bytes
    is_retriable: bool = False
    kept: list[bytes] | None = None
    lost: bytes = b""
    """For kind "lost": the id of the argument that could not be had."""


class TasksReturned(Message, tag=23):
    """These tasks were not started and will not be: recalled, or this worker blocks or leaves.

    With `is_leaving` the worker has answered all that it began and starts none any more: what else
    it was sent did not begin either, and the lease is given back.
    """

    keys: list[int]
    is_leaving: bool = False


class ArgumentsDropped(Message, tag=24):
    """The running task has no use any more for these of its arguments (packed 20-byte ids).

    From the worker to the caller. Saying it twice does no harm, and what is lost of it the answer
    says.
    """

    key: int
    attempt: int
    ids: bytes


class OwningEnded(Message, tag=26):
    """Nobody holds any more what the task of this `key` made here: its spec may go."""

    key: int


class Recreated(Message, tag=25):
    """Objects that `Want` asked for: they are made, or under way. The receiver is counted."""

    refs: Refs


# ---- borrower ↔ owner ------------------------------------------------------------------------


class Borrow(Message, tag=30):
    """The sender holds references to these objects (packed 20-byte ids) from now on."""

    ids: bytes


class Borrowed(Message, tag=31):
    """The owner counts the receiver as a borrower of these; `gone` ones no longer exist."""

    ids: bytes
    gone: bytes = b""


class Return(Message, tag=32):
    """The sender no longer holds references to these objects."""

    ids: bytes


class Resolve(Message, tag=33):
    """Tell me the value of this object, or where it is, as soon as it is known."""

    id: bytes
    lost_location: Location | None = None


class Resolved(Message, tag=34):
    """The answer: `state` is "ready", "failed" (`blob` is the error) or "gone"."""

    id: bytes
    state: str
    blob: bytes | None = None
    location: Location | None = None
    nested: Refs | None = None


class Orphaned(Message, tag=35):
    """The owner of these objects (packed ids) has died, or had let go of what it put and is needed
    after all: the receiver can have them made again.

    It is the `at`-th of `supervisors`, the nearest that lives. Like `Borrow`, it registers the
    sender, and `Borrowed` answers it.
    """

    ids: bytes
    supervisors: tuple[Supervisor, ...]
    at: int
    reason: str = ""
