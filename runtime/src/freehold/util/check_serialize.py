"""Finding what cannot be pickled, under Ray's own path; loaded when first used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from freehold._io.serializability import FailureTuple as FailureTuple


def inspect_serializability(
    base_obj: Any, name: str | None = None, depth: int = 3, print_file: TextIO | None = None
) -> tuple[bool, set[FailureTuple]]:
    """Say whether a value can be passed to a task, and print what in it cannot.

    Args:
        base_obj: the value, function or class.
        name: its name in the print-out; by default its own.
        depth: how many levels to descend.
        print_file: where to print; by default standard output.

    Returns:
        Whether it can be pickled, and the innermost things found that cannot.

    Example:
        >>> import io, threading
        >>> value = {"lock": threading.Lock()}
        >>> ok, failures = freehold.util.inspect_serializability(value, print_file=io.StringIO())
        >>> ok, len(failures)
        (False, 1)
    """
    from freehold._io import serializability

    return serializability.inspect_serializability(base_obj, name, depth, print_file)


def __getattr__(name: str) -> Any:
    if name == "FailureTuple":
        from freehold._io.serializability import FailureTuple

        return FailureTuple
    raise AttributeError(name)
