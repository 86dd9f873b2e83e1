"""The command line: what it accepts, what it says, what it leaves behind."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import pytest
from tests.unit.shuffle.eager_api import EagerApi

import freehold.cli as cli
from freehold.cli import _sort_run, sort
from freehold.cli._sizes import Amount, in_bytes
from freehold.errors import FreeholdError
from freehold.shuffle import FilePart, RecordRange, generate_records, merge_sorted
from freehold.shuffle import sort as sort_module
from freehold.shuffle.files import write_records


@pytest.fixture
def cluster(
    api: EagerApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> list[tuple[str, Any]]:
    """The sort command over the eager fake, its temporary files under a directory of the test's."""
    calls: list[tuple[str, Any]] = []

    class Cluster(EagerApi):
        resources: dict[str, float] = {}

        def init(self, **options: Any) -> None:
            calls.append(("init", options))

        def shutdown(self) -> None:
            calls.append(("shutdown", None))

        def cluster_resources(self) -> dict[str, float]:
            return self.resources

    monkeypatch.setattr(_sort_run, "fh", Cluster())
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    return calls


def test_the_demo_ends_with_valid_and_leaves_nothing(
    cluster: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli.run(["sort", "--demo", "--records", "1,000", "--num-cpus", "3"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == ("valid: 1,000 records, checksum 1ea6370b955, 0 duplicate keys")
    assert [line.split()[0] for line in err.splitlines()] == [
        "generate", "map", "reduce", "validate",
    ]  # fmt: skip
    assert "GB/s" in err
    assert "\x1b" not in out + err
    assert cluster == [("init", {"num_cpus": 3}), ("shutdown", None)]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_terminal_gets_a_bar_for_each_stage(
    cluster: list[tuple[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert cli.run(["sort", "--demo", "--records", "1000"]) == 0
    err = capsys.readouterr().err
    for stage in ("generate", "map", "reduce", "validate"):
        assert f"\r{stage:<9}:   0%|" in err
        assert f"\n{stage:<9} " in err.replace("\r", "\n")


def test_json_has_the_figures_and_nothing_else_on_stdout(
    cluster: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["sort", "--demo", "--size", "100kB", "--skew", "--ascii", "--format", "json"]
    assert cli.run(given) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["valid"] is True
    assert result["records"] == 1000
    assert result["partitions"] == 4
    assert [stage["stage"] for stage in result["stages"]] == [
        "generate", "sample", "map", "reduce", "validate",
    ]  # fmt: skip


def test_files_of_the_users_own_are_sorted_and_stay(
    cluster: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source, target = tmp_path / "in", tmp_path / "new" / "out"
    assert cli.run(["sort", "--generate-only", "--records", "500", "--output", str(source)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("written: 500 records, checksum ")
    given = ["sort", "--input", str(source), "--output", str(target), "--partitions", "3"]
    assert cli.run(given) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("valid: 500 records")
    assert sorted(path.name for path in target.iterdir()) == [f"part-0000{i}" for i in range(3)]
    assert cli.run(["sort", "--validate-only", "--input", str(target)]) == 0
    assert cli.run(["sort", "--validate-only", "--input", str(source)]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("INVALID: ")
    as_json = ["sort", "--validate-only", "--input", str(target), "--format", "json"]
    assert cli.run(as_json) == 0
    assert json.loads(capsys.readouterr().out)["partitions"] == 3


def test_an_invalid_result_is_said_last_and_exits_1(
    cluster: list[tuple[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def backwards(path: str, blocks: list[Any]) -> int:
        return write_records(path, (piece[::-1] for piece in merge_sorted(blocks)))

    monkeypatch.setattr(sort_module, "reduce_blocks", backwards)
    assert cli.run(["sort", "--demo", "--records", "1000"]) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("INVALID: ")


def test_ctrl_c_cleans_up_and_exits_130(
    cluster: list[tuple[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def half(_: object, output: Path, *__: object, **___: object) -> list[FilePart]:
        (output / "part-00000").write_bytes(bytes(100))
        (output / ".part-00001.0123.unfinished").write_bytes(bytes(50))
        raise KeyboardInterrupt

    monkeypatch.setattr(_sort_run, "sort_files", half)
    given = ["sort", "--records", "1000", "--output", str(tmp_path / "out")]
    assert cli.run(given) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert list((tmp_path / "scratch").iterdir()) == []
    assert cluster[-1] == ("shutdown", None)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FreeholdError("the store is full; sort less"), 1),
        (OSError(28, "No space left on device"), 1),
    ],
)
def test_errors_are_one_line_without_a_traceback(
    cluster: list[tuple[str, Any]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    code: int,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(_sort_run, "generate_files", fail)
    assert cli.run(["sort", "--demo", "--records", "1000"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"error: {error}\n"


def test_a_sort_that_cannot_fit_the_store_is_refused_before_it_starts(
    cluster: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    _sort_run.fh.resources = {"object_store_memory": 1e6}  # type: ignore[attr-defined]
    assert cli.run(["sort", "--demo", "--size", "2MB"]) == 1
    assert "2.00 MB do not fit the object store of 1.00 MB" in capsys.readouterr().err


def test_a_sort_that_cannot_fit_the_disk_is_refused_before_it_starts(
    cluster: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["sort", "--demo", "--size", "9000TB"]) == 1
    assert "free but" in capsys.readouterr().err
    assert ("init", {"num_cpus": None}) not in cluster


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "--output DIR"),
        (["--demo", "--output", "x"], "--demo works in a temporary directory"),
        (["--demo", "--generate-only"], "exclude each other"),
        (["--demo", "--size", "1GB", "--records", "5"], "say the same"),
        (["--generate-only"], "needs --output"),
        (["--validate-only"], "needs --input"),
        (["--input", ".", "--output", "."], "the same directory"),
        (["--input", ".", "--size", "1GB", "--output", "x"], "leave out --size"),
        (["--input", ".", "--skew", "--output", "x"], "not for --input"),
        (["--demo", "--size", "huge"], "1GB, 500MB or 2GiB"),
        (["--demo", "--partitions", "0"], "--partitions"),
        (["--demoo"], "--demo"),
    ],
)
def test_wrong_usage_exits_2_and_says_what_to_give(
    given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["sort", *given]) == 2
    assert message in capsys.readouterr().err


def test_an_output_that_holds_files_is_not_touched(
    cluster: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    precious = tmp_path / "thesis"
    precious.write_bytes(generate_records(RecordRange(0, 1)).tobytes())
    assert cli.run(["sort", "--records", "10", "--output", str(tmp_path)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert precious.exists()


def test_unknown_command_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["sorrt"]) == 2


def test_help_teaches_with_examples_and_loads_nothing_heavy() -> None:
    program = (
        "import sys; from freehold.cli import run; assert run(['--help']) == 0; "
        "assert run(['sort', '--help']) == 0; "
        "print(sorted({'numpy', 'tqdm', 'freehold.shuffle'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert "freehold sort --demo" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("text", "number"),
    [("1GB", 10**9), ("1.5 gb", 1_500_000_000), ("2GiB", 2**31), ("10,000", 10_000), ("7B", 7)],
)
def test_sizes_are_read_as_people_write_them(text: str, number: int) -> None:
    assert Amount("size", "B").convert(text, None, None) == number


@pytest.mark.parametrize("text", ["", "GB", "-1", "1XB", "1e9", "1 0"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is no size"):
        Amount("size", "B").convert(text, None, None)


def test_a_count_has_no_bytes() -> None:
    assert Amount("count").convert("10M", None, None) == 10_000_000
    with pytest.raises(click.BadParameter):
        Amount("count").convert("10MB", None, None)


def test_sizes_are_shown_in_decimal_units() -> None:
    assert [in_bytes(n) for n in (5, 1500, 2_000_000)] == ["5 B", "1.50 kB", "2.00 MB"]


def test_every_module_of_the_command_line_is_a_command() -> None:
    context = click.Context(cli.root)
    names = cli.CommandFolder.list_commands(cli.root, context)
    assert "sort" in names
    assert cli.CommandFolder.get_command(cli.root, context, "sort") is sort.command
