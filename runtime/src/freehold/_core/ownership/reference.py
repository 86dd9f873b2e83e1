"""`ObjectRef`: what users hold for a value that is, or will be, somewhere in the cluster.

A reference is a row and an output index. Copying it in Python is free; only its creation and its
end touch the row's count, and its end merely appends to a queue: `__del__` can run at any point of
any thread, so it may neither take a lock nor change the table.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Future

    from freehold._core.ownership.row import Row

T = TypeVar("T", covariant=True)


class ObjectRef(Generic[T]):
    """A reference to an object: the result of a task or method call, or of `put`.

    Get the value with `freehold.get`, or `await` it. Pass it to a task: as an argument of its own
    it is replaced by the value, inside another value it stays a reference. The object lives as long
    as a reference to it does, anywhere in the cluster.

    Example:
        >>> import freehold
        >>> ref = freehold.put(41)
        >>> freehold.get(ref) + 1
        42
    """

    __slots__ = ("__weakref__", "_index", "_row")

    _row: Row
    _index: int

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        raise TypeError(
            "an ObjectRef is made by .remote() or freehold.put(), not by calling the class"
        )

    def __del__(self) -> None:
        # The instance may be half made (a failed unpickle), the module half gone (at exit).
        try:
            row = self._row
            table = row.table
        except AttributeError:
            return
        table.drops.append((row, self._index))
        if table.on_drop is not None:
            table.on_drop()

    def __eq__(self, other: object) -> bool:
        # A process has one row an object, so identity of the row is identity of the object.
        if isinstance(other, ObjectRef):
            return self._row is other._row and self._index == other._index
        return NotImplemented

    def __hash__(self) -> int:
        return hash((id(self._row), self._index))

    def __repr__(self) -> str:
        return f"ObjectRef({self.hex()})"

    def __reduce__(self) -> Any:
        return self._row.table.reduce(self)

    def hex(self) -> str:
        """The object's id in hex: 32 digits of the task, 8 of the output.

        Example:
            >>> import freehold
            >>> len(freehold.put(1).hex())
            40
        """
        return self.binary().hex()

    def binary(self) -> bytes:
        """The object's id as 20 bytes.

        Example:
            >>> import freehold
            >>> len(freehold.put(1).binary())
            20
        """
        return self._row.object_id(self._index)

    def task_id(self) -> bytes:
        """The id of the task that makes (or for a `put`, made) the object, as 16 bytes.

        Example:
            >>> import freehold
            >>> len(freehold.put(1).task_id())
            16
        """
        return self._row.task_id()

    def is_nil(self) -> bool:
        """Always False: a Freehold reference refers to something.

        Example:
            >>> import freehold
            >>> freehold.put(1).is_nil()
            False
        """
        return False

    def status(self) -> str:
        """Whether the value is there, without fetching it: "pending", "ready" or "failed".

        Example:
            >>> import freehold
            >>> freehold.put(1).status()
            'ready'
        """
        status: str = self._row.table.host.status(self)
        return status

    def future(self) -> Future[T]:
        """A `concurrent.futures.Future` that gets the value or the error.

        In a task, `result()` and `exception()` give the CPU back while they wait, as `get` does;
        `concurrent.futures.wait` and `as_completed` keep it.

        Example:
            >>> import freehold
            >>> freehold.put(7).future().result(timeout=10)
            7
        """
        future: Future[T] = self._row.table.host.future(self)
        return future

    def as_future(self) -> asyncio.Future[T]:
        """An `asyncio.Future` of the running loop that gets the value or the error.

        Raises:
            RuntimeError: no event loop runs in this thread.

        Example:
            >>> import asyncio, freehold
            >>> async def main():
            ...     return await freehold.put(7).as_future()
            >>> asyncio.run(main())
            7
        """
        future: asyncio.Future[T] = self._row.table.host.as_future(self)
        return future

    def __await__(self) -> Generator[Any, None, T]:
        return self.as_future().__await__()


def make_reference(row: Row, index: int = 0) -> ObjectRef[Any]:
    """A new reference to an output; the caller has counted it already (`table.retain`)."""
    ref: ObjectRef[Any] = ObjectRef.__new__(ObjectRef)
    ref._row = row
    ref._index = index
    return ref
