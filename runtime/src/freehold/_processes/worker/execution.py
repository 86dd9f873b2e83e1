"""One task, from its message to its reply: arguments in, user code, outputs out.

The order matters for counting (`_core.ownership.borrowing`): references that came with the
arguments are met before user code runs, and the reply names those still held after everything else
that held them was let go.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from threading import get_ident
from typing import TYPE_CHECKING, Any

import msgspec

from freehold._core import messages as m
from freehold._core.ids import Address, Location
from freehold._core.limits import (
    ARGUMENT_PATIENCE_S,
    INLINE_OUTPUT_BYTES,
    INLINE_OUTPUTS,
    INLINE_REPLY_BYTES,
)
from freehold._core.ownership.eager import Watch
from freehold._core.ownership.origins import with_outputs
from freehold._core.ownership.reference import ObjectRef
from freehold._core.ownership.row import Row
from freehold._io.serialization import Parts, dumps, loads
from freehold._io.signals import interruptible
from freehold._processes.owner.context import Context
from freehold._processes.owner.pulling import PullAhead
from freehold._processes.worker.calling import calling
from freehold.errors import (
    AsyncioActorExit,
    FreeholdError,
    ObjectLostError,
    TaskCancelledError,
    TaskError,
    TaskTimeoutError,
)

if TYPE_CHECKING:
    from freehold._processes.owner.cluster import ClusterCore

_MISSING = object()


class ActorExit(BaseException):
    """Raised by `exit_actor` to leave the method; nobody should catch it."""


class ArgumentLost(Exception):
    """An argument could not be read; the owner is asked to bring it back."""

    def __init__(self, id_: bytes, reason: str) -> None:
        super().__init__(reason)
        self.id = id_


class Execution(msgspec.Struct, eq=False):
    """One task under way in this worker."""

    core: ClusterCore
    source: Address
    message: m.Run | m.Call
    context: Context
    started_ns: int
    name: str = ""
    is_answering: bool = False
    """The user's function has returned: what fails now is the answer."""
    held: list[ObjectRef[Any]] = []
    """References that came with the arguments, until user code has them."""
    rows: list[tuple[Row, int]] = []
    watch: Watch | None = None
    """What tells the caller of arguments that user code lets go of."""

    @classmethod
    def of(cls, core: ClusterCore, source: Address, message: m.Run | m.Call) -> Execution:
        """A task that begins now, on this thread."""
        thread = get_ident() if type(message) is m.Run else 0
        context = Context(
            None, message.parent, message.index, message.attempt, source, message.key, thread
        )
        return cls(core, source, message, context, time.perf_counter_ns())

    def begin_wanted(self) -> None:
        """If something is wanted of what this execution makes, have it known before it begins."""
        owner, context = self.core.owner, self.context
        with self.core.reactor.lock:
            if (self.source, context.key) in owner.origins.wants and context.thread:
                context.origin = owner.origins.begin(
                    context.task_id, context.parent, self.source, context.key
                )

    # ---- arguments ---------------------------------------------------------------------------

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call's arguments, with references replaced by their values.

        Raises:
            ArgumentLost: a stored argument is nowhere to be read.
        """
        message = self.message
        if not message.payload:
            if message.args is None:
                return (), {}
            given: Any = ()
        else:
            given = loads(message.payload, self._meet(message.nested))
        args, kwargs = (given, {}) if type(given) is tuple else given
        if message.args:
            positional = list(args)
            for arg, value in zip(message.args, self._referred(message.args), strict=True):
                if isinstance(arg.at, str):
                    kwargs[arg.at] = value
                else:
                    if arg.at >= len(positional):
                        positional += [None] * (arg.at + 1 - len(positional))
                    positional[arg.at] = value
            args = tuple(positional)
        return args, kwargs

    def _referred(self, args: Sequence[m.Arg]) -> list[Any]:
        """The values of those that are references themselves."""
        ahead = PullAhead(self.core, len(args), lambda at: args[at].location)
        try:
            return [self._argument(arg, ahead, at) for at, arg in enumerate(args)]
        finally:
            ahead.give_back()

    def _meet(self, refs: m.Refs | None) -> list[ObjectRef[Any]] | None:
        if refs is None:
            return None
        core = self.core
        with core.reactor.lock:
            met = core.owner.borrowing.meet(refs, self.source, is_covered=True)
            self.rows += [(ref._row, ref._index) for ref in met]
            core.carry_out()
        self.held += met
        return met

    def _argument(self, arg: m.Arg, ahead: PullAhead, at: int) -> Any:
        nested = self._meet(arg.nested)
        if arg.location is None:
            return loads(arg.blob or b"", nested)
        refs = self._meet(arg.ref)
        assert refs is not None
        ref = refs[0]
        row = ref._row
        core = self.core
        with core.reactor.lock:
            core.owner.resolving.learn_argument(row, arg, nested or [], time.monotonic())
            core.carry_out()
        view, error = self._view(ref, arg.location, ahead, at)
        if error:
            # Its owner may know that it moved.
            ahead.give_back()
            location = core.fetches.whereabouts(row, ref._index, arg.location)
            if location is not None:
                view, error = self._view(ref, location, ahead, at)
        if error:
            raise ArgumentLost(ref.binary(), error)
        return loads(view, nested)

    def _view(
        self, ref: ObjectRef[Any], location: Location, ahead: PullAhead, at: int
    ) -> tuple[memoryview, str]:
        """The bytes of a stored argument, the `at`-th, brought here if need be; or why not."""
        core, copy = self.core, -1
        if location.node != core.node_id:
            pulled = ahead.pull(at, location, ARGUMENT_PATIENCE_S)
            if pulled.error:
                return memoryview(b""), pulled.error
            copy = pulled.offset
        with core.reactor.lock:
            return core.storage.view(ref._row, ref._index, location, copy), ""

    @interruptible
    def call(self, function: Callable[..., Any]) -> Any:
        """Call user code, whose frame is then the only one that holds the arguments' values.

        Raises:
            ArgumentLost: a stored argument is nowhere to be read.
            BaseException: what user code raises.
        """
        args, kwargs = self.arguments()
        current = self.core.current
        token = current.set(self.context)
        try:
            if not self.rows:
                return function(*args, **kwargs)
            by_operands = calling(len(args), tuple(kwargs))
            if by_operands is None:
                self._hand_over()
                return function(*args, **kwargs)
            values = [*args, *kwargs.values()]
            values.reverse()
            args = kwargs = None  # type: ignore[assignment]
            self._hand_over()
            return by_operands(function, values.pop)
        finally:
            current.reset(token)

    def _hand_over(self) -> None:
        """From here on the references are user code's alone, and the caller hears of their end."""
        message = self.message
        begin = self.core.owner.eager.begin
        self.watch = begin(self.rows, self.source, message.key, message.attempt)
        self.held.clear()

    # ---- outputs -----------------------------------------------------------------------------

    def outputs(self, result: Any) -> list[Any]:
        """The values that the task's references stand for.

        Raises:
            ValueError: not as many as `num_returns` says.
        """
        wanted = self.message.num_returns
        if wanted == 1:
            return [result]
        if wanted == 0:
            return []
        if wanted < 0:
            return list(result)
        try:
            values = list(result)
        except TypeError:
            raise ValueError(
                f"task {self.name} has num_returns={wanted} but returned "
                f"{type(result).__name__}, which is not iterable; return {wanted} values"
            ) from None
        if len(values) != wanted:
            raise ValueError(
                f"task {self.name} has num_returns={wanted} but returned {len(values)} values"
            )
        return values

    def reply(self, result: Any) -> m.Done | m.DoneWith:
        """The message that answers with `result`, its large outputs stored."""
        message = self.message
        self.is_answering = True
        if message.num_returns == 1:
            if self.watch is not None:
                self.watch.is_over = True
            blob, nested = dumps(result, self._role)
            if not nested and not self.rows and len(blob) <= INLINE_OUTPUT_BYTES:
                data = blob if isinstance(blob, bytes) else blob.join()
                return m.Done(message.key, message.attempt, self.run_us(), data)
            return self._reply_with([(blob, nested)])
        if message.num_returns < 0:
            return self._reply_dynamic(result)
        values = self.outputs(result)
        dumped = [dumps(value, self._role) for value in values]
        if len(dumped) > INLINE_OUTPUTS:
            return self._reply_packed(dumped)
        return self._reply_with(dumped)

    def _role(self) -> str:
        return f"result of task {self.name}"

    def _reply_with(self, dumped: list[tuple[bytes | Parts, Any]]) -> m.DoneWith:
        outputs = []
        inline = 0
        answer = m.DoneWith(self.message.key, self.message.attempt, 0)
        for blob, nested in dumped:
            size = len(blob)
            output = m.Output()
            if size <= INLINE_OUTPUT_BYTES and inline + size <= INLINE_REPLY_BYTES:
                inline += size
                output.blob = blob if isinstance(blob, bytes) else blob.join()
            else:
                output.location = self.core.storage.write(blob, self.source)
            if nested:
                output.nested = self._describe(nested, answer)
            outputs.append(output)
        answer.outputs = outputs
        answer.run_us = self.run_us()
        return answer

    def _reply_packed(self, dumped: list[tuple[bytes | Parts, Any]]) -> m.DoneWith:
        """Many outputs: one segment for all of them, each aligned for zero-copy reads."""
        message = self.message
        answer = m.DoneWith(message.key, message.attempt, 0)
        ends = array("Q")
        pieces: list[bytes | memoryview] = []
        at = 0
        nested_of: dict[int, m.Refs] = {}
        for index, (blob, nested) in enumerate(dumped):
            padding = -at % 64
            if padding:
                pieces.append(bytes(padding))
                at += padding
            pieces.extend([blob] if isinstance(blob, bytes) else blob.pieces())
            at += len(blob)
            ends.append(at)
            if nested:
                nested_of[index] = self._describe(nested, answer)
        answer.packed = self.core.storage.write_pieces(pieces, max(at, 1), self.source)
        answer.ends = ends.tobytes()
        answer.packed_nested = nested_of or None
        answer.run_us = self.run_us()
        return answer

    def _reply_dynamic(self, result: Any) -> m.DoneWith:
        """The one output is the list of references to what the task yielded."""
        core = self.core
        token = core.current.set(self.context)
        try:
            refs = [core.put(value) for value in result]
        finally:
            core.current.reset(token)
        blob, nested = dumps(refs)
        answer = self._reply_with([(blob, nested)])
        answer.dynamic = True
        return answer

    def _describe(self, nested: list[ObjectRef[Any]], answer: m.DoneWith) -> m.Refs:
        """References that leave in a result: handed over if they are ours, else held until
        taken."""
        core = self.core
        with core.reactor.lock:
            described = core.owner.handing.describe_result(nested, self.source, answer)
            # The store hears of a new owner before that owner does: killed in between, this process
            # would take along what is not its own any more.
            core.carry_out()
            return described

    def error_reply(self, error: BaseException) -> m.Failed:
        """The message that answers with an exception."""
        message = self.message
        kind, wrapped, is_retriable = "user", error, False
        context = self.context
        if isinstance(error, ArgumentLost):
            lost = ObjectLostError(object_id=error.id.hex(), reason=str(error))
            return m.Failed(
                message.key, message.attempt, self.run_us(), "lost", _blob(lost), lost=error.id
            )
        left = isinstance(error, ActorExit | AsyncioActorExit)
        if left or (context.actor_id and isinstance(error, SystemExit)):
            return m.Failed(message.key, message.attempt, self.run_us(), "exited", b"")
        if context.has_timed_out:
            timeout = message.options.timeout_s if message.options is not None else None
            kind = "timeout"
            wrapped = TaskTimeoutError(
                task_name=self.name, task_id=context.task_id.hex(), timeout_s=timeout or 0.0
            )
        elif context.is_cancelled:
            kind = "cancelled"
            wrapped = TaskCancelledError(task_id=context.task_id.hex(), task_name=self.name)
        elif self.is_answering and isinstance(error, FreeholdError):
            pass  # the result cannot be pickled, or there is no room for it: not the function's own
        else:
            is_retriable = self._is_retriable(error)
            wrapped = TaskError.wrap(
                error,
                task_name=self.name,
                task_id=context.task_id.hex(),
                node=self.core.node_id,
                pid=self.core.pid,
                attempt=message.attempt,
            )
        return m.Failed(
            message.key, message.attempt, self.run_us(), kind, _blob(wrapped), is_retriable
        )

    def _is_retriable(self, error: BaseException) -> bool:
        options = self.message.options
        wanted: Any = options.retry_exceptions if options is not None else False
        if isinstance(wanted, bytes):
            wanted = loads(wanted)
            return isinstance(error, tuple(wanted))
        return bool(wanted) and isinstance(error, Exception)

    def run_us(self) -> int:
        """Microseconds since the task began."""
        return (time.perf_counter_ns() - self.started_ns) // 1000

    # ---- the end -----------------------------------------------------------------------------

    def finish(self, answer: m.Done | m.DoneWith | m.Failed, send: Callable[[Any], None]) -> None:
        """Let go of the arguments, say which references remain, and send the answer.

        A reference of somebody else than the caller that remains must be registered with its owner
        before the caller lets go of it, so the answer waits for that.
        """
        core = self.core
        owner = core.owner
        origin, self.context.origin = self.context.origin, None
        self.held.clear()

        def answer_with(kept: list[bytes] | None) -> None:
            # As it stands then: what the task made may have gone while the answer waited.
            final = answer
            if origin is not None:
                final = owner.origins.end(origin, self.source, final)
            send(_with_kept(final, kept))

        with core.reactor.lock:
            if self.watch is not None:
                core.owner.eager.end(self.watch)
            core.storage.drain()
            owner.table.drain_drops()
            owner.borrowing.finish(self.rows, self.source, answer_with)
            core.carry_out()

    @property
    def is_plain(self) -> bool:
        """Whether the answer says all there is: no reference came, and nothing was made."""
        return not self.rows and self.context.origin is None


def _with_kept(
    answer: m.Done | m.DoneWith | m.Failed, kept: list[bytes] | None
) -> m.Done | m.DoneWith | m.Failed:
    """The answer, with the references of the arguments that remain here."""
    if kept is None:
        return answer
    if isinstance(answer, m.Done):
        answer = with_outputs(answer)
    answer.kept = kept
    return answer


def _blob(error: BaseException) -> bytes:
    try:
        blob = dumps(error)[0]
    except Exception:  # an error must always arrive, as text if need be  # noqa: BLE001
        blob = dumps(FreeholdError(f"{type(error).__name__}: {error}"))[0]
    return blob if isinstance(blob, bytes) else blob.join()
