"""Exceptions between the user and the rows: how they are kept, and what is raised for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from freehold._core.ownership.arguments import Given
from freehold._core.ownership.reference import ObjectRef
from freehold._core.ownership.row import Row
from freehold._core.ownership.table import OwnershipTable
from freehold._io.serialization import dumps, loads
from freehold.errors import DeserializationError, FreeholdError, StaleReferenceError, TaskError


def error_blob(error: Any) -> bytes:
    """The blob of an error: as it came, or pickled if it was made here."""
    if isinstance(error, bytes):
        return error
    blob = dumps(error)[0]
    return blob if isinstance(blob, bytes) else blob.join()


def load_error(value: Any) -> BaseException:
    """The exception to raise for a failed row's value."""
    error = loads(value) if isinstance(value, bytes | memoryview) else value
    if isinstance(error, TaskError):
        return error.as_instanceof_cause()
    if isinstance(error, BaseException):
        # Never the one kept in the row: its traceback would hold the frames of whoever got it, and
        # all references in them, and two threads may raise it at once.
        return error if error is not value else _copy(error)
    return FreeholdError(f"a task failed without saying how: {error!r}")


def _copy(error: BaseException) -> BaseException:
    try:
        copied = loads(error_blob(error))
    except Exception:  # a cause that cannot be pickled: better the one than none  # noqa: BLE001
        return error.with_traceback(None)
    return copied if isinstance(copied, BaseException) else error.with_traceback(None)


def stale(row: Row, current: str) -> StaleReferenceError:
    """What to raise for a reference of another cluster than the one this process is part of."""
    return StaleReferenceError(
        object_id=row.object_id(0).hex(), cluster=row.table.host.cluster, current=current
    )


def unreadable(row: Row, index: int, error: Exception) -> DeserializationError:
    """What to raise for a value whose bytes are here and raise `error` when they are unpickled."""
    task = row.task
    return DeserializationError(
        object_id=row.object_id(index).hex(),
        task_name=task.name if task is not None else f"{row.task_id().hex()}",
        type_name=type(error).__name__,
        role="value",
        reason=f"{type(error).__name__}: {error}",
    )


def check_fresh(refs: Iterable[ObjectRef[Any]], table: OwnershipTable, current: str) -> None:
    """Refuse references of another cluster among what leaves this process.

    Raises:
        StaleReferenceError: one is of a cluster that is gone.
    """
    for ref in refs:
        if ref._row.table is not table:
            raise stale(ref._row, current)


def check_given(given: Given, table: OwnershipTable, current: str) -> None:
    """The same for a call's arguments."""
    check_fresh([ref for _, ref in given.top_level or ()], table, current)
    check_fresh(given.nested or (), table, current)
