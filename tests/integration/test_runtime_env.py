"""`runtime_env`: variables and working directories of tasks and actors; log lines; forks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.integration.conftest import PLACES

import freehold
from freehold.exceptions import ForkedProcessError

pytestmark = [pytest.mark.module_cluster, pytest.mark.usefixtures("cluster")]

Run = Callable[..., subprocess.CompletedProcess[str]]


@freehold.remote
def variable(name: str) -> str | None:
    return os.environ.get(name)


@freehold.remote
def nested_variable(name: str) -> str | None:
    return freehold.get(variable.remote(name))


@freehold.remote
def read(name: str) -> str:
    return Path(name).read_text()


@freehold.remote
def import_and_call(module: str) -> Any:
    import importlib

    return importlib.import_module(module).answer()


@freehold.remote
def nested_import(module: str) -> Any:
    return freehold.get(import_and_call.remote(module))


@pytest.fixture
def folder(tmp_path: Path) -> str:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "words.txt").write_text("some words")
    (tmp_path / "only_in_this_folder.py").write_text("def answer(): return 42\n")
    return str(tmp_path)


@pytest.mark.parametrize("place", PLACES)
def test_variables_are_set_in_the_task_and_its_children(place: dict[str, float]) -> None:
    env = {"env_vars": {"FLAVOUR": "salty"}}
    task = nested_variable.options(runtime_env=env, resources=place)
    assert freehold.get(task.remote("FLAVOUR"), timeout=30) == "salty"
    assert freehold.get(variable.options(resources=place).remote("FLAVOUR"), timeout=20) is None


def test_environments_do_not_mix() -> None:
    refs = [
        variable.options(runtime_env={"env_vars": {"NUMBER": str(i % 3)}}).remote("NUMBER")
        for i in range(12)
    ]
    assert freehold.get(refs, timeout=40) == [str(i % 3) for i in range(12)]


@pytest.mark.parametrize("place", PLACES)
def test_a_working_directory_is_there_to_read_and_import(
    place: dict[str, float], folder: str
) -> None:
    env = {"working_dir": folder}
    options = {"runtime_env": env, "resources": place}
    assert (
        freehold.get(read.options(**options).remote("data/words.txt"), timeout=30) == "some words"
    )
    found = import_and_call.options(**options).remote("only_in_this_folder")
    assert freehold.get(found, timeout=30) == 42
    found = nested_import.options(**options).remote("only_in_this_folder")
    assert freehold.get(found, timeout=30) == 42


@pytest.mark.parametrize("place", PLACES)
def test_what_pythonpath_names_can_be_imported(
    place: dict[str, float], folder: str, tmp_path: Path
) -> None:
    first = tmp_path / "first"
    first.mkdir()
    (first / "on_the_path.py").write_text("def answer(): return 1\n")
    for name in ("on_the_path", "only_in_this_folder"):
        env = {"env_vars": {"PYTHONPATH": f"{first}:{folder}"}}
        found = import_and_call.options(runtime_env=env, resources=place).remote(name)
        assert freehold.get(found, timeout=30) == (1 if name == "on_the_path" else 42)
    # What is not absolute is meant from the working directory.
    env = {"env_vars": {"PYTHONPATH": "first"}, "working_dir": folder}
    found = nested_import.options(runtime_env=env, resources=place).remote("on_the_path")
    assert freehold.get(found, timeout=30) == 1


def test_a_changed_directory_is_seen_by_who_names_it_next(folder: str) -> None:
    words = Path(folder, "data", "words.txt")
    for text in ("some words", "more words", "yet other words"):
        words.write_text(text)
        task = read.options(runtime_env={"working_dir": folder})
        assert freehold.get(task.remote("data/words.txt"), timeout=30) == text


def test_the_snapshots_files_are_read_only_and_its_folders_are_not(folder: str) -> None:
    @freehold.remote(runtime_env={"working_dir": folder})
    def write() -> int:
        Path("data", "result.txt").write_text("written beside")
        return Path("data", "words.txt").stat().st_mode & 0o777

    assert freehold.get(write.remote(), timeout=30) & 0o222 == 0
    assert not Path(folder, "data", "result.txt").exists()


def test_a_working_directory_is_a_snapshot(folder: str) -> None:
    env = {"working_dir": folder}
    task = read.options(runtime_env=env)
    assert freehold.get(task.remote("data/words.txt"), timeout=30) == "some words"
    Path(folder, "data", "words.txt").write_text("other words")
    assert freehold.get(task.remote("data/words.txt"), timeout=30) == "some words"


def test_an_actor_has_its_environment(folder: str) -> None:
    @freehold.remote(runtime_env={"working_dir": folder, "env_vars": {"FLAVOUR": "sour"}})
    class Reader:
        def read(self) -> tuple[str, str | None]:
            return Path("data/words.txt").read_text(), os.environ.get("FLAVOUR")

    assert freehold.get(Reader.remote().read.remote(), timeout=30) == ("some words", "sour")


@pytest.mark.parametrize("bad", ["/no/such/directory", __file__])
def test_a_bad_working_directory_is_an_error(bad: str) -> None:
    with pytest.raises((ValueError, OSError, freehold.exceptions.RuntimeEnvSetupError)):
        freehold.get(read.options(runtime_env={"working_dir": bad}).remote("x"), timeout=20)


def test_what_is_not_built_says_so() -> None:
    with pytest.raises(NotImplementedError):
        read.options(runtime_env={"pip": ["numpy"]})


def test_the_jobs_environment_is_every_tasks(run_script: Run) -> None:
    done = run_script(
        """
        import os, freehold
        @freehold.remote
        def look(): return os.environ.get("COLOUR")
        if __name__ == "__main__":
            freehold.init(num_cpus=2, runtime_env={"env_vars": {"COLOUR": "green"}})
            print(freehold.get(look.remote()), os.environ.get("COLOUR"))
        """
    )
    assert (done.returncode, done.stdout) == (0, "green None\n"), done.stderr


# ---- lines and forks -----------------------------------------------------------------------------


def test_lines_of_workers_reach_the_driver(run_script: Run) -> None:
    done = run_script(
        """
        import sys, time, freehold
        @freehold.remote
        def talk():
            print("to stdout"); print("to stderr", file=sys.stderr)
        @freehold.remote
        class Talker:
            def talk(self): print("from an actor")
        if __name__ == "__main__":
            freehold.init(num_cpus=2)
            talker = Talker.remote()
            freehold.get([talk.remote(), talker.talk.remote()])
        """
    )
    assert done.returncode == 0, done.stderr
    text = done.stdout + done.stderr
    for line in ("to stdout", "to stderr", "from an actor"):
        assert any(
            line in found and "pid=" in found.split(line)[0] for found in text.splitlines()
        ), text


def test_a_call_in_a_forked_child_is_an_error_of_its_own() -> None:
    ref = freehold.put(1)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = []
        for call in (
            lambda: variable.remote("x"),
            lambda: freehold.put(2),
            lambda: freehold.get(ref),
            lambda: freehold.wait([ref]),
            lambda: freehold.init(),
        ):
            try:
                call()
                said.append("nothing")
            except ForkedProcessError:
                said.append("forked")
            except BaseException as error:
                said.append(repr(error))
        os.write(writer, ",".join(said).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(pid, 0)
    assert os.read(reader, 4096).decode() == ",".join(["forked"] * 5)
    os.close(reader)
    assert freehold.get(variable.remote("PATH"), timeout=20)


def test_a_task_may_fork(tmp_path: Path) -> None:
    @freehold.remote
    def forks() -> int:
        import multiprocessing

        with multiprocessing.get_context("fork").Pool(1) as pool:
            return pool.apply(abs, (-5,))

    assert freehold.get(forks.remote(), timeout=30) == 5
