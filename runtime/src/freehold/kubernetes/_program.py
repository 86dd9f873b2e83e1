"""What a job runs, as its pod gets it: a command line and the files beside it.

A script is sent as it is; a function is pickled with the call's arguments. Functions and classes of
the function's own module go along by value, unless that is installed as a package; what other
modules of the user's have does not, so those are files of the job or in the image.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import cloudpickle

from freehold._processes.driver import function_job
from freehold.errors import SerializationError

FUNCTION_FILE = "function.pickle"
FUNCTION_COMMAND = ("python", "-m", function_job.MODULE, FUNCTION_FILE)


class Program(NamedTuple):
    """What is run.

    Attributes:
        label: what to call it in names.
        files: of the folder it starts in.
    """

    label: str
    command: tuple[str, ...]
    arguments: tuple[str, ...]
    files: dict[str, bytes]


def of(program: object, arguments: Sequence[Any], files: Iterable[str | Path]) -> Program:
    """A script, a function or a command line, ready to be sent.

    Raises:
        TypeError, ValueError: it is none of them; the message says what to give instead.
        OSError: a file cannot be read.
        SerializationError: the function or an argument cannot be pickled.
    """
    more = _read(files)
    if isinstance(program, str | Path):
        return _of_script(Path(program), arguments, more)
    if isinstance(program, list | tuple):
        return _of_command([*program, *arguments], more)
    if hasattr(program, "remote"):
        raise TypeError(
            "a remote function or actor class cannot be a job by itself: submit a plain function "
            "that calls .remote() and freehold.get()"
        )
    if inspect.iscoroutinefunction(program):
        raise TypeError("a job's function is not async: submit one that calls asyncio.run")
    if not callable(program):
        raise TypeError(
            f"a job's program is the path of a .py file, a function, or a list of words, not "
            f"{type(program).__name__}"
        )
    return _of_function(functools.partial(program, *arguments), more)


def _read(files: Iterable[str | Path]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in map(Path, files):
        if path.name in found:
            raise ValueError(f"two files are called {path.name}: a job's files are in one folder")
        found[path.name] = path.read_bytes()
    return found


def _joined(files: dict[str, bytes], name: str, content: bytes) -> dict[str, bytes]:
    if files.get(name, content) != content:
        raise ValueError(f"two files are called {name}: a job's files are in one folder")
    return {**files, name: content}


def _of_script(path: Path, arguments: Sequence[Any], files: dict[str, bytes]) -> Program:
    if path.suffix != ".py":
        raise ValueError(
            f"a job's script is a .py file, not {str(path)!r}: give a command line as a list, such "
            "as ['freehold', 'sort', '--demo']"
        )
    words = tuple(str(each) for each in arguments)
    with_script = _joined(files, path.name, path.read_bytes())
    return Program(path.stem, ("python", path.name), words, with_script)


def _of_command(words: Sequence[Any], files: dict[str, bytes]) -> Program:
    """A command line; its first word that is a .py file here is sent along."""
    command = [str(word) for word in words]
    if not command:
        raise ValueError("a job's command line has at least one word")
    label = Path(command[0]).stem
    for index, word in enumerate(command):
        path = Path(word)
        if path.suffix == ".py" and path.is_file():
            files, label = _joined(files, path.name, path.read_bytes()), path.stem
            command[index] = path.name
            break
    return Program(label, tuple(command), (), files)


def _of_function(call: functools.partial[Any], files: dict[str, bytes]) -> Program:
    function: Any = call.func
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", type(function).__name__)
    try:
        with _by_value(function):
            packed = function_job.pack(call)
    except Exception as error:
        raise SerializationError(
            f"job {name} cannot be sent: it, an argument or something it refers to cannot be "
            f"pickled ({type(error).__name__}: {error}); make that inside the function"
        ) from error
    return Program(name, FUNCTION_COMMAND, (), _joined(files, FUNCTION_FILE, packed))


@contextlib.contextmanager
def _by_value(function: Callable[..., Any]) -> Iterator[None]:
    """Pickle what is of the function's own module by value, for a while."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if module is None or module.__name__ == "__main__" or _is_installed(module):
        yield
        return
    if module.__name__ in cloudpickle.list_registry_pickle_by_value():
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _is_installed(module: ModuleType) -> bool:
    """Whether it is a package's or the interpreter's, which the image has to have by itself."""
    file = getattr(module, "__file__", None)
    if file is None:
        return True
    folders = [Path(sysconfig.get_path(key)) for key in ("stdlib", "purelib", "platlib")]
    return any(Path(file).is_relative_to(folder) for folder in folders)
