"""cloudpickle as we use it: code keeps the name of its file.

Since 3.1.3 cloudpickle calls the file of all code that travels `<dynamic-code>`, so that equal code
has equal bytes. We would rather have the lines of the user's program in a remote traceback, which
are read from the file of that name. Imported only by who pickles something by value.
"""

from __future__ import annotations

import io
from collections import ChainMap
from collections.abc import Callable
from types import CodeType
from typing import Any, ClassVar

import cloudpickle

_ANONYMOUS = "<dynamic-code>"
_reduce_code = cloudpickle.Pickler.dispatch_table[CodeType]


def _with_file_name(code: CodeType) -> tuple[Any, tuple[Any, ...]]:
    make, arguments = _reduce_code(code)
    return make, tuple(
        code.co_filename if isinstance(argument, str) and argument == _ANONYMOUS else argument
        for argument in arguments
    )


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    dispatch_table: ClassVar[Any] = ChainMap(
        {CodeType: _with_file_name}, cloudpickle.Pickler.dispatch_table
    )


def dumps(value: Any, buffer_callback: Callable[[Any], Any] | None = None) -> bytes:
    """Pickle with protocol 5, what lives in `__main__` or nowhere by value.

    Raises:
        Exception: whatever pickling it raises.
    """
    with io.BytesIO() as file:
        _Pickler(file, protocol=5, buffer_callback=buffer_callback).dump(value)
        return file.getvalue()
