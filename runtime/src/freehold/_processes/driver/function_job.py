"""A job's program that calls one pickled function, and how its value gets out of the pod.

``python -m freehold._processes.driver.function_job FILE`` is what a FuturesJob runs whose program
is a function (`freehold.kubernetes.FuturesJob.submit`). The value leaves through the container's
*termination message*: a file that the kubelet puts into the pod's status, 4,096 bytes at the most.
It needs no API token, no port and no volume, and is there for as long as the pod. Rejected: lines
of the log, which rotate away and would show up in everybody's log; an object of the API, which
would take a token into the pod. A value that does not fit is no failure of the program: the message
says so, and who asks for it is told.

Of a function that raises, the message has class, text and line, which the operator puts into the
job's conditions.
"""

from __future__ import annotations

import base64
import contextlib
import pickle
import sys
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle

MODULE = "freehold._processes.driver.function_job"
MESSAGE_FILE = Path("/dev/termination-log")
MESSAGE_BYTES = 4096
"""What the kubelet takes of a container's termination message."""

WRONG_PYTHON = 78
"""Exit code when the function was pickled by another Python."""

_VALUE, _NO_VALUE = "freehold-value:", "freehold-no-value:"
_INFLATED_BYTES = 64 << 20


class NoValueError(Exception):
    """A message carries no value; the text says why."""


def python_version() -> str:
    """Major and minor version: byte code of one is not another's."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def pack(call: Callable[[], Any]) -> bytes:
    """A call as the job's file.

    Raises:
        Exception: whatever pickling it raises.
    """
    return pickle.dumps((python_version(), cloudpickle.dumps(call)), protocol=4)


def encoded(value: Any) -> str:
    """A value as a termination message, or why it is none."""
    try:
        plain = cloudpickle.dumps(value)
    except Exception as error:  # noqa: BLE001 - a value's own pickling may raise anything
        return f"{_NO_VALUE}it cannot be pickled: {_brief(error)}"
    text = base64.b85encode(zlib.compress(plain, 9)).decode()
    message = f"{_VALUE}{len(text)}:{text}"
    if len(message) <= MESSAGE_BYTES:
        return message
    return (
        f"{_NO_VALUE}it takes {len(message)} bytes (pickled, compressed, as text) and at most "
        f"{MESSAGE_BYTES} pass: write it to shared storage and return where it is"
    )


def decoded(message: str) -> Any:
    """The value of a termination message.

    Raises:
        NoValueError: it has none, is cut, or cannot be unpickled here.
    """
    if message.startswith(_NO_VALUE):
        raise NoValueError(message.removeprefix(_NO_VALUE))
    if not message.startswith(_VALUE):
        raise NoValueError("its pod ended without one")
    length, _, text = message.removeprefix(_VALUE).partition(":")
    if not length.isdigit() or len(text) != int(length):
        raise NoValueError("the pod's termination message is cut: give its driver fewer containers")
    try:
        inflate = zlib.decompressobj()
        plain = inflate.decompress(base64.b85decode(text), _INFLATED_BYTES)
        if not inflate.eof:
            raise NoValueError("it is larger than any that is sent")
        return pickle.loads(plain)
    except NoValueError:
        raise
    except Exception as error:
        raise NoValueError(f"it cannot be unpickled here: {_brief(error)}") from error


def _brief(error: BaseException) -> str:
    """Class, text and place of an exception, in one line."""
    words = " ".join(f"{type(error).__name__}: {error}".split())
    frames = traceback.extract_tb(error.__traceback__)
    # By name: code that was pickled has no file any more.
    where = f" (in {frames[-1].name}, line {frames[-1].lineno})" if frames else ""
    return (words if len(words) <= 1000 else words[:999] + "…") + where


def main(arguments: list[str], message_file: Path = MESSAGE_FILE) -> int:
    """Call what a file has; the exit code."""
    version, call = pickle.loads(Path(arguments[0]).read_bytes())
    if version != python_version():
        text = (
            f"this function was pickled by Python {version} and the image has {python_version()}: "
            "submit it with the image's Python, or name another image"
        )
        sys.stderr.write(f"{text}\n")
        _leave(message_file, text)
        return WRONG_PYTHON
    try:
        value = pickle.loads(call)()
    except Exception as error:  # noqa: BLE001 - it is told, and becomes the exit code
        traceback.print_exc()
        _leave(message_file, _brief(error))
        return 1
    _leave(message_file, encoded(value))
    return 0


def _leave(message_file: Path, text: str) -> None:
    sys.stdout.flush()
    # Outside Kubernetes there is no such file, and nobody to read it.
    with contextlib.suppress(FileNotFoundError, PermissionError), message_file.open("r+b") as file:
        file.write(text.encode()[:MESSAGE_BYTES])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
