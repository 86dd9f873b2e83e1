"""Identities of nodes, processes, tasks and objects, and how they are derived.

Ids are derived, never drawn: a task's id is a hash of its parent's id and its index among the
parent's children, so that a task that is executed again creates objects under the same ids and
whoever holds a reference to one of them can be served by the new execution (Ownership, NSDI'21,
§4.3). Hashing is put off until an id leaves the process: most tasks never need theirs.

This module does not know who owns what; that is `_core.ownership`.
"""

from __future__ import annotations

from hashlib import blake2b
from struct import Struct as _Packer

import msgspec

TASK_ID_BYTES = 16
OBJECT_ID_BYTES = 20
PUT_INDEX_BASE = 1 << 31
"""Objects made by `put` are numbered from here, so that they never meet a task's returns."""

ACTOR_HANDLE_INDEX = (1 << 32) - 1
"""The index of an actor's handle among what the actor's creation makes: tells handles from values.
"""

_child = _Packer("<Q")
_object = _Packer("<16sI")


class Address(msgspec.Struct, array_like=True, frozen=True, order=True):
    """Who a message is for: never a socket path, which only the transport knows.

    `process` 0 is the node's node manager; drivers and workers are numbered from 1 and a number is
    not used twice within one `incarnation` of the node.
    """

    node: str
    process: int
    incarnation: int = 0

    def __str__(self) -> str:
        return f"{self.node[:8]}:{self.process}"


class Location(msgspec.Struct, array_like=True, frozen=True):
    """Where a stored value's bytes are: `size` bytes at the absolute `offset` of a node's arena.

    `segment` is the extent that the bytes belong to; its number is never used twice on a node.
    """

    node: str
    segment: int
    offset: int
    size: int


def root_task_id(cluster: str, process: str) -> bytes:
    """The id that stands for a process itself, the parent of what it submits in no task's name."""
    return blake2b(f"{cluster}/{process}".encode(), digest_size=TASK_ID_BYTES).digest()


def child_task_id(parent: bytes, index: int) -> bytes:
    """The id of the `index`-th task that the task `parent` submitted."""
    return blake2b(parent + _child.pack(index), digest_size=TASK_ID_BYTES).digest()


def object_id(task: bytes, index: int) -> bytes:
    """The id of output `index` of `task` (returns from 0, puts from `PUT_INDEX_BASE`)."""
    return _object.pack(task, index)


def split_object_id(object_id_: bytes) -> tuple[bytes, int]:
    """The task and the output index that an object's id is made of."""
    task, index = _object.unpack(object_id_)
    return task, index
