"""Errors of objects and of the store, and of turning values into bytes."""

from __future__ import annotations

from freehold._errors.base import FreeholdError


class GetTimeoutError(FreeholdError, TimeoutError):
    """Your ``timeout`` passed before the value was there; nothing is lost. If it never can be:
    `ObjectLostError`.
    """

    timeout_s: float = 0.0
    pending: int = 1
    total: int = 1
    object_ids: tuple[str, ...] = ()

    def _message(self) -> str:
        which = f" (the first: {', '.join(self.object_ids)})" if self.object_ids else ""
        return (
            f"{self.pending} of {self.total} objects not ready after {self.timeout_s} s{which}; "
            "they go on being computed: get them again, cancel them, or ask freehold.explain(ref)"
        )


class ObjectLostError(FreeholdError):
    """The value existed and no copy is left, nor a way to compute it again; a subclass says why
    where that is known.
    """

    object_id: str = "unknown"
    owner: str = "unknown"
    reason: str = "every copy was on a node that died"
    _says = "object {object_id} (owner {owner}) is lost: {reason}; run what made it again"

    @property
    def object_ref_hex(self) -> str:
        """Ray's name of ``object_id``."""
        return self.object_id


class OwnerDiedError(ObjectLostError):
    """The process that owned it died, and it cannot be made again by executing the task that made
    it. With a living owner: the others.
    """

    reason: str = "its owner died and it cannot be made again"
    _says = (
        "object {object_id} is lost with its owner {owner}: {reason}; return "
        "its value from the task instead of "
        "keeping the reference inside, or make it in the driver"
    )


class ObjectFreedError(ObjectLostError):
    """It was freed on purpose while a reference was left. By an accident of counting: the one
    below.
    """

    reason: str = "it was freed explicitly"


class ReferenceCountingAssertionError(ObjectLostError, AssertionError):
    """Deleted while a reference to it lived: a bug of Freehold's. On purpose:
    `ObjectFreedError`.
    """

    reason: str = "it was deleted while a reference was in scope"
    _says = (
        "object {object_id} (owner {owner}): {reason}; this is a bug of "
        "freehold's, please report it"
    )


class ObjectFetchTimedOutError(ObjectLostError):
    """Its owner knows of copies, none could be had in time, and why is unknown. Network cut: the
    one below.
    """

    reason: str = "no copy could be fetched in time"


class ObjectUnreachableError(ObjectLostError):
    """A copy exists on a living node that cannot be reached from here. On a dead node:
    `ObjectLostError`.
    """

    node: str = "unknown"
    reason: str = "the network between the nodes is cut"
    _says = (
        "object {object_id} is on node {node}, which lives but cannot be "
        "reached from here: {reason}; "
        "check the network and get it again"
    )


_HANDLE = "ffffffff"
"""How the id of an actor's handle ends (`ids.ACTOR_HANDLE_INDEX`)."""


class StaleReferenceError(ObjectLostError):
    """The reference is of a cluster that has ended. Of this one's lost objects: the other
    classes.
    """

    cluster: str = "unknown"
    current: str = "none"

    def _message(self) -> str:
        now = f"this is {self.current}" if self.current != "none" else "there is none now"
        is_actor = self.object_id.endswith(_HANDLE)
        what, again = ("actor", "create") if is_actor else ("object", "put or compute")
        return (
            f"{what} {self.object_id} is of cluster {self.cluster}, which is gone ({now}); "
            f"references do not outlive shutdown(): {again} it again"
        )


class ObjectReconstructionFailedError(ObjectLostError):
    """Lost, and it cannot be computed again at all: it was put, or made by an actor. The two below:
    it once could.
    """

    reason: str = "it was made by put() or an actor, so there is no task to run again"


class ObjectReconstructionFailedMaxAttemptsExceededError(ObjectReconstructionFailedError):
    """Lost, and its task has no attempts left."""

    attempts: int = 0
    reason: str = "its task has no attempts left"
    _says = (
        "object {object_id} is lost after {attempts} attempts: {reason}; look at why its nodes die"
    )


class ObjectReconstructionFailedLineageEvictedError(ObjectReconstructionFailedError):
    """Lost, and its task's specification had been dropped to stay within the lineage budget."""

    budget_bytes: int = 0
    reason: str = "the specification of its task was dropped"
    _says = (
        "object {object_id} is lost: {reason} (budget {budget_bytes} bytes); "
        "keep fewer stored results of finished tasks in scope"
    )


class ObjectStoreFullError(FreeholdError):
    """No room for a value after waiting, and nothing may be evicted. On disk: `OutOfDiskError`."""

    node: str = "unknown"
    needed_bytes: int = 0
    capacity_bytes: int = 0
    waited_s: float = 0.0
    holders: tuple[str, ...] = ()

    def _message(self) -> str:
        text = (
            f"the store of node {self.node} ({self.capacity_bytes} bytes) has no "
            f"room for {self.needed_bytes} bytes"
        )
        if self.needed_bytes > self.capacity_bytes:
            return f"{text} and never can; split the value or raise object_store_memory"
        text += (
            f" and nothing was freed in {self.waited_s} s; drop references or raise "
            f"object_store_memory"
        )
        return "\n  ".join([text + (", it is held by:" if self.holders else ""), *self.holders])


class OutOfDiskError(FreeholdError):
    """Spilling needs room on a full disk. In memory: `ObjectStoreFullError`."""

    path: str = "unknown"
    needed_bytes: int = 0
    _says = (
        "no room on disk for {needed_bytes} bytes at {path}; free some or set "
        "another spill directory"
    )


class PlasmaObjectNotAvailable(FreeholdError):
    """A copy was not in the local store just now; handled inside and rarely seen. For good:
    `ObjectLostError`.
    """

    object_id: str = "unknown"
    _says = "object {object_id} is not in the local store; get it again"


class SerializationError(FreeholdError, TypeError):
    """A function, argument or result cannot be pickled. An *exception* that cannot:
    `UnserializableException`.
    """

    role: str = "value"
    path: str = "value"
    type_name: str = "an object"
    reason: str = ""
    _says = (
        "{role} cannot be pickled because of {path} (a {type_name}): {reason}; "
        "leave it out, make it where it is "
        "used, or give its class a __reduce__ (freehold.util.inspect_serializability shows more)"
    )


class DeserializationError(SerializationError):
    """The task ended well, and its result (or what was ``put``) cannot be unpickled in this
    process; ``__cause__`` is what was raised. In a *task's* arguments it is that task's
    `TaskError`.
    """

    object_id: str = "unknown"
    task_name: str = ""
    reason: str = "it cannot be unpickled"
    _says = (
        "the value of object {object_id}{_of_task} cannot be unpickled here: {reason}; import here "
        "what its classes need, or return plain data instead"
    )

    @property
    def _of_task(self) -> str:
        return f" (of task {self.task_name})" if self.task_name else ""


class RuntimeEnvSetupError(FreeholdError):
    """The ``runtime_env`` of a task or actor could not be made. A field not built yet:
    `NotSupportedYetError`.
    """

    reason: str = "unknown"
    _says = "the runtime environment could not be set up: {reason}"


class CrossLanguageError(FreeholdError):
    """An error of a worker in another language; Freehold has Python alone, so nothing raises it
    yet.
    """

    _says = "a worker of another language failed"
