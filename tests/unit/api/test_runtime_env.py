"""runtime_env: its fields, and snapshots of working directories by content."""

from __future__ import annotations

import os
import pickle
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from tests.unit.api.fake_core import FakeCore

import freehold
from freehold._api import working_dir as dirs
from freehold.errors import NotSupportedYetError
from freehold.runtime_env import RuntimeEnv


def content(top: Path, excludes: tuple[str, ...] = ()) -> str:
    return dirs.content_hash(str(top), dirs.scan(str(top), excludes))


def make(top: Path, order: int = 1) -> Path:
    files = {"a.py": "a", "sub/b.py": "b", "sub/deep/c.txt": "c"}
    for name in list(files)[::order]:
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[name])
        path.chmod(0o644)
    for folder in ("sub", "sub/deep"):
        (top / folder).chmod(0o755)
    (top / "link").symlink_to("a.py")
    return top


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"env_vars": {"A": 1}}, TypeError, "must map strings to strings, not 'A' to 1"),
        ({"env_vars": ["A"]}, TypeError, "must be a dict of strings"),
        ({"env_vars": {"A=B": "1"}}, ValueError, "cannot name a variable"),
        ({"working_dir": 1}, TypeError, "must be a path"),
        ({"working_dir": "/no/such/dir"}, ValueError, "'/no/such/dir' is not a directory"),
        ({"excludes": ["x"]}, ValueError, "no working_dir"),
        ({"working_dir": ".", "excludes": "x"}, TypeError, "a list of patterns"),
        ({"working_dir": ".", "excludes": ["!x"]}, ValueError, "list what to leave out"),
        ({"env_var": {}}, ValueError, "no field 'env_var'; did you mean 'env_vars'"),
    ],
)
def test_bad_field(fields: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        RuntimeEnv(**fields)


@pytest.mark.parametrize("field", ["pip", "conda", "uv", "container", "image_uri", "py_modules"])
def test_field_that_is_not_built_is_named(field: str) -> None:
    with pytest.raises(NotSupportedYetError, match=f"field '{field}' is not supported yet; .+"):
        freehold.remote(runtime_env={field: "x"})(lambda: None)
    assert RuntimeEnv(**{field: None}) == {}


def test_archive_and_address_are_not_built(tmp_path: Path) -> None:
    for path in ("s3://bucket/x.zip", str(tmp_path / "x.zip")):
        with pytest.raises(NotSupportedYetError, match="give a local directory"):
            RuntimeEnv(working_dir=path)


def test_same_content_has_the_same_hash_wherever_and_in_whatever_order(tmp_path: Path) -> None:
    first, second = make(tmp_path / "1"), make(tmp_path / "2", order=-1)
    os.utime(second / "a.py", (1, 1))
    assert content(first) == content(second)


@pytest.mark.parametrize(
    "change",
    [
        lambda top: (top / "a.py").write_text("b"),
        lambda top: (top / "a.py").rename(top / "z.py"),
        lambda top: (top / "a.py").chmod(0o755),
        lambda top: (top / "new").write_text(""),
        lambda top: (top / "empty").mkdir(),
        lambda top: [(top / "link").unlink(), (top / "link").symlink_to("sub")],
        lambda top: [(top / "link").unlink(), (top / "link").write_text("a.py")],
    ],
)
def test_any_change_of_the_content_changes_the_hash(tmp_path: Path, change: Any) -> None:
    before = content(make(tmp_path / "1"))
    change(tmp_path / "1")
    assert content(tmp_path / "1") != before


def test_excludes(tmp_path: Path) -> None:
    top = make(tmp_path / "1")

    def left(*patterns: str) -> list[str]:
        return [entry.path for entry in dirs.scan(str(top), patterns)]

    everything = ["a.py", "link", "sub", "sub/b.py", "sub/deep", "sub/deep/c.txt"]
    assert left() == everything
    assert left("*.py") == ["link", "sub", "sub/deep", "sub/deep/c.txt"]
    assert left("deep/") == ["a.py", "link", "sub", "sub/b.py"]
    assert left("/sub") == ["a.py", "link"]
    assert left("sub/*.py") == [name for name in everything if name != "sub/b.py"]


def test_snapshot_is_a_copy_that_later_changes_leave_alone(tmp_path: Path, core: FakeCore) -> None:
    top = make(tmp_path / "1")
    (top / "skipped.log").write_text("log")
    (top / "sub").chmod(0o555)
    function = freehold.remote(
        runtime_env={"working_dir": str(top), "excludes": ["*.log"], "env_vars": {"A": "1"}}
    )(lambda: None)
    function.remote()
    [(env_vars, staged)] = core.envs
    assert env_vars == {"A": "1"}
    assert core.task_options().env == "env1"
    assert Path(staged).parent == Path(core.session_dir) / "working_dirs"
    assert Path(staged).name == content(top, ("*.log",))
    for name in ("a.py", "sub/b.py", "sub/deep/c.txt"):
        assert stat.S_IMODE((Path(staged) / name).stat().st_mode) & 0o222 == 0, "writable"
        assert (Path(staged) / name).read_text() == (top / name).read_text()
    assert os.readlink(Path(staged) / "link") == "a.py"
    assert (Path(staged) / "sub/deep/c.txt").read_text() == "c"
    assert not (Path(staged) / "skipped.log").exists()
    (top / "a.py").write_text("changed")
    function.remote()
    assert (Path(staged) / "a.py").read_text() == "a"
    assert len(core.envs) == 1
    assert os.listdir(Path(staged).parent) == [Path(staged).name]
    for folder in (top, Path(staged)):
        (folder / "sub").chmod(0o755)  # so that the test's folder can be removed


def staged_anew(core: FakeCore, top: Path) -> str:
    """Where a function that was never called before finds the directory's content."""
    freehold.remote(runtime_env={"working_dir": str(top)})(lambda: None).remote()
    return core.envs[-1][1]


def test_a_function_called_later_sees_what_was_changed_since(
    tmp_path: Path, core: FakeCore
) -> None:
    top = make(tmp_path / "1")
    first = staged_anew(core, top)
    # At once and of the same length, so that neither time nor size need tell.
    (top / "sub/b.py").write_text("X" * len((top / "sub/b.py").read_text()))
    second = staged_anew(core, top)
    assert (Path(first) / "sub/b.py").read_text() != (Path(second) / "sub/b.py").read_text()
    assert (Path(second) / "sub/b.py").read_text() == (top / "sub/b.py").read_text()


def test_an_unchanged_directory_is_not_read_again(
    tmp_path: Path, core: FakeCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = make(tmp_path / "1")
    seen = [dirs.signature(dirs.scan(str(top)), 1 << 62)]
    assert seen != [None]
    assert dirs.signature(dirs.scan(str(top)), time.time_ns()) is None, "changed just now"
    monkeypatch.setattr(dirs, "_SAME_TIME_NS", -(1 << 62))
    first = staged_anew(core, top)
    monkeypatch.setattr(dirs, "_file_hash", lambda path: pytest.fail(f"{path} was read again"))
    freehold.remote(runtime_env={"working_dir": str(top)})(lambda: None).remote()
    assert [staged for _, staged in core.envs] == [first]


def test_large_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = make(tmp_path / "1")
    with (top / "sparse").open("wb") as target:
        target.truncate(dirs.WORKING_DIR_BYTES + 1)
    with pytest.raises(ValueError, match=r"more than 512 MiB .* in excludes"):
        dirs.scan(str(top))
    assert dirs.scan(str(top), ("sparse",))
    monkeypatch.setattr(dirs, "WORKING_DIR_FILES", 3)
    with pytest.raises(ValueError, match="or 3 files"):
        dirs.scan(str(top), ("sparse",))


def test_pickled_environment_is_not_checked_again(tmp_path: Path) -> None:
    top = make(tmp_path / "1")
    env = RuntimeEnv(working_dir=top)
    top.rename(tmp_path / "2")
    assert pickle.loads(pickle.dumps(env)) == {"working_dir": str(top)}
