"""What a job's pod gets of a script, a function or a command line, and how a value gets back."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from freehold._processes.driver import function_job
from freehold.errors import SerializationError
from freehold.kubernetes import _program

OFFSET = 40


def add(a: int, b: int = 2) -> int:
    return OFFSET + a + b


def write(folder: Path, name: str, text: str = "print(1)\n") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_script_is_sent_with_its_arguments_as_text(tmp_path: Path) -> None:
    found = _program.of(write(tmp_path, "train.py"), ["--rows", 7], [])
    assert found == ("train", ("python", "train.py"), ("--rows", "7"), {"train.py": b"print(1)\n"})


def test_more_files_go_beside_it(tmp_path: Path) -> None:
    script, other = write(tmp_path, "train.py"), write(tmp_path, "tables.csv", "1,2")
    assert set(_program.of(script, [], [other]).files) == {"train.py", "tables.csv"}


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    script, other = write(tmp_path, "a.py"), write(tmp_path / "other", "a.py", "other")
    with pytest.raises(ValueError, match=r"two files are called a\.py"):
        _program.of(script, [], [other])


def test_a_command_line_takes_its_script_along(tmp_path: Path) -> None:
    script = write(tmp_path, "train.py")
    found = _program.of(["python", "-u", str(script), "x.py"], [], [])
    assert found.command == ("python", "-u", "train.py", "x.py")
    assert (found.label, set(found.files)) == ("train", {"train.py"})
    bare = _program.of(["freehold", "sort", "--demo"], [], [])
    assert (bare.label, bare.files) == ("freehold", {})


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("train.sh", "as a list"),
        ([], "at least one word"),
    ],
)
def test_values_that_are_no_program(program: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        _program.of(program, [], [])


async def coroutine() -> None:
    pass


class Remote:
    def remote(self) -> None:
        pass


@pytest.mark.parametrize(
    ("program", "words"),
    [(7, "not int"), (coroutine, "asyncio.run"), (Remote(), "plain function")],
)
def test_types_that_are_no_program(program: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        _program.of(program, [], [])


def test_a_script_that_is_not_there_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        _program.of(tmp_path / "none.py", [], [])


def test_a_function_that_cannot_be_pickled_says_so() -> None:
    with pytest.raises(SerializationError, match="job <lambda> cannot be sent"):
        _program.of(lambda lock: None, [threading.Lock()], [])


def run_function(tmp_path: Path, packed: bytes) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run a job's function as its pod does, where no module of the tests is; what it left."""
    (tmp_path / "function.pickle").write_bytes(packed)
    message = tmp_path / "message"
    message.touch()
    code = (
        "import sys, pathlib; from freehold._processes.driver import function_job as f; "
        "sys.exit(f.main(['function.pickle'], pathlib.Path('message')))"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return finished, message.read_text()


def test_a_function_of_a_module_that_is_not_in_the_image_runs(tmp_path: Path) -> None:
    program = _program.of(functools.partial(add, b=1), [1], [])
    assert program.command == ("python", "-m", function_job.MODULE, "function.pickle")
    finished, message = run_function(tmp_path, program.files["function.pickle"])
    assert (finished.returncode, finished.stderr) == (0, "")
    assert function_job.decoded(message) == 42


def fail() -> None:
    raise ValueError("no such\nthing")


def test_a_function_that_raises_says_what_and_where(tmp_path: Path) -> None:
    program = _program.of(fail, [], [])
    finished, message = run_function(tmp_path, program.files["function.pickle"])
    assert finished.returncode == 1
    assert "Traceback" in finished.stderr
    assert message.startswith("ValueError: no such thing (in fail, line ")


def leave() -> None:
    raise SystemExit(7)


def test_a_function_may_choose_its_exit_code(tmp_path: Path) -> None:
    program = _program.of(leave, [], [])
    assert run_function(tmp_path, program.files["function.pickle"])[0].returncode == 7


def test_another_python_is_told_before_anything_is_unpickled(tmp_path: Path) -> None:
    finished, message = run_function(tmp_path, pickle.dumps(("3.0", b"rubbish")))
    assert finished.returncode == function_job.WRONG_PYTHON
    assert "pickled by Python 3.0" in message


def test_the_module_runs_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "function.pickle").write_bytes(function_job.pack(functools.partial(print, "hello")))
    command = [sys.executable, *_program.FUNCTION_COMMAND[1:]]
    finished = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert (finished.returncode, finished.stdout) == (0, "hello\n")


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=20))
def test_a_value_survives_if_it_fits(value: Any) -> None:
    message = function_job.encoded(value)
    assert len(message) <= function_job.MESSAGE_BYTES
    assert function_job.decoded(message) == value


def test_a_value_that_does_not_fit_says_how_large_it_is() -> None:
    message = function_job.encoded(os.urandom(4000))
    assert len(message) < 300
    with pytest.raises(function_job.NoValueError, match=r"takes 5\d\d\d bytes .* at most 4096"):
        function_job.decoded(message)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("", "without one"),
        ("Killed", "without one"),
        (function_job.encoded("x" * 50)[:-1], "is cut"),
        ("freehold-value:3:abc", "cannot be unpickled here"),
        (function_job.encoded(threading.Lock()), "cannot be pickled"),
    ],
)
def test_messages_that_have_no_value(message: str, words: str) -> None:
    with pytest.raises(function_job.NoValueError, match=words):
        function_job.decoded(message)


def test_a_value_is_not_inflated_without_end() -> None:
    message = function_job.encoded(b"\0" * (1 << 20))
    assert function_job.decoded(message) == b"\0" * (1 << 20)
    is_small = len(function_job.encoded(bytes(function_job._INFLATED_BYTES + 1)))
    if is_small <= function_job.MESSAGE_BYTES:
        with pytest.raises(function_job.NoValueError):
            function_job.decoded(function_job.encoded(bytes(function_job._INFLATED_BYTES + 1)))
