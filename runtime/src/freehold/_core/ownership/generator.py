"""`ObjectRefGenerator`: the references that a task with `num_returns="dynamic"` made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from freehold._core.ownership.reference import ObjectRef


class ObjectRefGenerator(Sequence["ObjectRef[Any]"]):
    """What `get` gives for a task with `num_returns="dynamic"`: its references, in order.

    Unlike Ray's it can be iterated more than once; the objects live as long as it, or a reference
    taken from it, does.

    Example:
        >>> @freehold.remote(num_returns="dynamic")
        ... def count(n):
        ...     for i in range(n):
        ...         yield i
        >>> refs = freehold.get(count.remote(3))
        >>> len(refs), [freehold.get(ref) for ref in refs]
        (3, [0, 1, 2])
    """

    __slots__ = ("_refs",)

    def __init__(self, refs: Sequence[ObjectRef[Any]]) -> None:
        self._refs = list(refs)

    def __iter__(self) -> Iterator[ObjectRef[Any]]:
        return iter(self._refs)

    def __len__(self) -> int:
        return len(self._refs)

    @overload
    def __getitem__(self, index: int) -> ObjectRef[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[ObjectRef[Any]]: ...
    def __getitem__(self, index: int | slice) -> ObjectRef[Any] | list[ObjectRef[Any]]:
        return self._refs[index]

    def __repr__(self) -> str:
        return f"ObjectRefGenerator({len(self._refs)} refs)"

    def __reduce__(self) -> tuple[Any, ...]:
        return ObjectRefGenerator, (self._refs,)
