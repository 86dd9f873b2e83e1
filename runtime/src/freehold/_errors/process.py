"""Errors of this process and its cluster, of settings, and Freehold's own failures."""

from __future__ import annotations

from freehold._errors.base import FreeholdError


class NotInitializedError(FreeholdError):
    """A call that needs a cluster before ``init()`` or after ``shutdown()``. In a fork:
    `ForkedProcessError`.
    """

    call: str = "this call"
    _says = "{call} needs a cluster; call freehold.init() first"


class ForkedProcessError(FreeholdError):
    """Freehold was called in a process made by ``fork`` from one that used it; sockets and locks
    are not shared.
    """

    pid: int = 0
    parent_pid: int = 0
    _says = (
        "process {pid} was forked from {parent_pid}, which uses freehold; use "
        "a task, the spawn start method, "
        "or call freehold.init() in a process of its own"
    )


class ClusterDiedError(FreeholdError):
    """The cluster that this process is attached to ended. A reference of an earlier one:
    `StaleReferenceError`.
    """

    cluster: str = "unknown"
    reason: str = "its node process is gone"
    _says = "cluster {cluster} ended: {reason}; call shutdown() and init() again"


class ClusterUnreachableError(FreeholdError, ConnectionError):
    """No control service answers at an address. One that answers and says no: `JoinRefusedError`,
    `AuthenticationError`.
    """

    address: str = "unknown"
    reason: str = "nobody answers"
    _says = (
        "the head of the cluster at {address} cannot be reached: {reason}; is it running, and is "
        "the port open to this machine?"
    )


class JoinRefusedError(FreeholdError):
    """The control service does not take this process: another version, or not under this
    incarnation. With a wrong token or CA: `AuthenticationError`.
    """

    address: str = "unknown"
    reason: str = "no reason given"
    _says = "the head of the cluster at {address} refused: {reason}"


class HeadStateError(FreeholdError):
    """What a head keeps of its cluster cannot be read or written. A setting that names no folder:
    `SettingsError`.
    """

    path: str = "unknown"
    reason: str = "it cannot be used"
    _says = "the head's state in {path} cannot be used: {reason}"


class SettingsError(FreeholdError, ValueError):
    """A setting is unknown, malformed or contradicts another. An option not built yet:
    `NotSupportedYetError`.
    """

    setting: str = "a setting"
    reason: str = "it is not valid"
    _says = "setting {setting}: {reason}; `freehold settings` lists them all with their sources"


class NotSupportedYetError(FreeholdError, NotImplementedError):
    """An option of Ray's that is not built yet; never silently ignored. A wrong option is a
    ValueError.
    """

    feature: str = "this"
    instead: str = "leave it out (docs/ray_compatibility.md lists what there is)"
    _says = "{feature} is not supported yet; {instead}"


class FreeholdSystemError(FreeholdError):
    """Freehold failed in a way that is not yours to mend; a subclass where more is known. Ray:
    ``RaySystemError``.
    """

    reason: str = "unknown"
    _says = "freehold failed inside: {reason}; please report it with the logs of the session"


class InvariantError(FreeholdSystemError):
    """A rule of Freehold's own was broken; ``story`` has the last events of the object
    concerned.
    """

    invariant: str = "unknown"
    subject: str = "unknown"
    story: tuple[str, ...] = ()

    def _message(self) -> str:
        text = (
            f"invariant {self.invariant} is broken for {self.subject}: "
            f"{self.reason}; please report it"
        )
        return "\n  ".join(
            [text + (", its last events:" if self.story else ""), *map(str, self.story)]
        )


class ProtocolError(FreeholdSystemError):
    """Bytes from a peer or a store are malformed, truncated or oversized; refused before anything
    is unpickled.
    """

    peer: str = "unknown"
    reason: str = "malformed"
    _says = (
        "refused bytes from {peer}: {reason}; check that all processes run the "
        "same version of freehold"
    )


class AuthenticationError(ProtocolError):
    """A peer could not show that it belongs to this cluster. One that belongs and sends rubbish:
    `ProtocolError`.
    """

    reason: str = "bad token or cluster"
    _says = "refused {peer}: {reason}; attach with the join string of this cluster"
