"""What a plan asks the shell to do. Values: a test compares them, the decision log prints their
`why`.

Every action may be repeated: creates run into a 409 and look whose object it is, applies and status
writes say the whole, deletes name a UID.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Create(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Create an object that must not be there yet; one of the same owner that is there will do."""

    kind: str
    manifest: dict[str, Any]
    why: str

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.manifest["metadata"]["name"])


class Apply(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Server-side apply an object."""

    kind: str
    manifest: dict[str, Any]
    why: str

    @property
    def name(self) -> str:
        """The object's name."""
        return str(self.manifest["metadata"]["name"])


class CheckPod(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Dry-run the creation of a pod that a controller is to make, to hear why it would fail."""

    manifest: dict[str, Any]
    why: str

    @property
    def name(self) -> str:
        """The pod's name."""
        return str(self.manifest["metadata"]["name"])


class Delete(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Delete one object, and only the one of this UID."""

    kind: str
    name: str
    uid: str
    why: str
    grace_s: int | None = None


class EnsureSecrets(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Make the cluster's CA and token, unless they are there."""

    why: str


class WriteStatus(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Server-side apply the whole status."""

    status: dict[str, Any]
    why: str


class Drain(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Ask the head to drain a worker; an idle one may refuse, having got work."""

    pod: str
    uid: str
    node: str
    is_idle: bool
    deadline_s: float
    why: str


class TellEnded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Tell the head that a node's process has ended, so that it need not wait for silence."""

    pod: str
    node: str
    why: str


class SetGroups(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Tell the head what nodes could be added."""

    groups: tuple[dict[str, Any], ...]
    hash: str
    why: str


class Tell(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An Event for people, about the custom resource."""

    is_warning: bool
    reason: str
    message: str


Action = (
    Create
    | Apply
    | CheckPod
    | Delete
    | EnsureSecrets
    | WriteStatus
    | Drain
    | TellEnded
    | SetGroups
    | Tell
)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Actions in the order they are to be carried out, and when to look again unasked."""

    actions: tuple[Action, ...] = ()
    look_again: float | None = None
