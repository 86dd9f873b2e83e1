"""``freehold sort`` for real: a subprocess, the whole runtime, files in and files out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from freehold.shuffle import check, join_summaries, record_files, summarize
from freehold.shuffle.files import map_records

COMMAND = [sys.executable, "-m", "freehold.cli", "sort"]
RUN_LIMIT_S = 50


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Temporary files go where the test can see that none is left."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return os.environ | {"TMPDIR": str(scratch)}


@pytest.fixture
def sort(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            env=environment,
            capture_output=True,
            text=True,
            timeout=RUN_LIMIT_S,
            check=False,
        )

    return run


Sort = Callable[..., subprocess.CompletedProcess[str]]


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("nodes", ["1", "2"])
def test_the_demo_sorts_a_million_records(sort: Sort, tmp_path: Path, nodes: str) -> None:
    done = sort("--demo", "--records", "1M", "--partitions", "8", "--nodes", nodes)
    assert last_line(done) == ("valid: 1,000,000 records, checksum 7a0e0d4868cd4, 0 duplicate keys")
    assert list((tmp_path / "scratch").iterdir()) == []


def test_ascii_records_have_gensorts_checksum(sort: Sort) -> None:
    done = sort("--demo", "--records", "1M", "--ascii", "--partitions", "5")
    assert last_line(done).startswith("valid: 1,000,000 records, checksum 7a19cff467438,")


@pytest.mark.parametrize("partitions", ["1", "20"])
def test_skewed_keys_are_sorted_into_even_partitions(
    sort: Sort, tmp_path: Path, partitions: str
) -> None:
    target = tmp_path / "out"
    given = ["--records", "200k", "--skew", "--partitions", partitions, "--output", str(target)]
    result: dict[str, Any] = json.loads(sort(*given, "--format", "json").stdout)
    assert result["valid"] is True
    # 16 hot keys have an eighth of the records; the generator has no luck in it.
    assert result["duplicate_keys"] == 24_875
    parts = record_files(target)
    assert len(parts) == int(partitions)
    assert max(part.count for part in parts) < 1.6 * 200_000 / int(partitions)


def test_files_are_sorted_into_files(sort: Sort, tmp_path: Path) -> None:
    source, target = str(tmp_path / "in"), str(tmp_path / "out")
    written = last_line(sort("--generate-only", "--records", "123,456", "--output", source))
    valid = last_line(sort("--input", source, "--output", target, "--partitions", "7"))
    assert written.split(", ")[1] == valid.split(", ")[1]
    summaries = [summarize(map_records(part)) for part in record_files(target)]
    assert check(join_summaries(summaries)).valid
    again = last_line(sort("--validate-only", "--input", target))
    assert again == valid


def test_a_damaged_output_is_invalid(sort: Sort, tmp_path: Path) -> None:
    target = tmp_path / "out"
    last_line(sort("--records", "20k", "--output", str(target), "--partitions", "2"))
    first, second = (Path(part.path) for part in record_files(target))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    done = sort("--validate-only", "--input", str(target))
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("INVALID: 1 of 20,000 records are out of order")


def test_a_torn_input_is_refused_by_name(sort: Sort, tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "torn").write_bytes(bytes(250))
    done = sort("--input", str(source), "--output", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "torn has 250 bytes" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.fixture
def running(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A sort that is busy: its input is written, and being sorted."""
    process = subprocess.Popen(
        [*COMMAND, "--demo", "--size", "1GB", "--partitions", "16"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    assert process.stdout is not None
    with process, process.stderr, process.stdout:
        line = process.stderr.readline()
        assert line.startswith("generate"), line + process.stderr.read()
        yield process
        if process.poll() is None:
            process.kill()


@pytest.mark.parametrize(
    ("sent", "to_the_group", "code"),
    [(signal.SIGINT, True, 130), (signal.SIGINT, False, 130), (signal.SIGTERM, False, 143)],
)
def test_an_interrupted_sort_leaves_nothing(
    running: subprocess.Popen[str],
    tmp_path: Path,
    sent: signal.Signals,
    to_the_group: bool,
    code: int,
) -> None:
    """A terminal's Ctrl-C reaches the whole foreground group, a `kill` one process only."""
    began = time.monotonic()
    if to_the_group:
        os.killpg(running.pid, sent)
    else:
        running.send_signal(sent)
    assert running.wait(timeout=15) == code
    assert time.monotonic() - began < 10
    assert list((tmp_path / "scratch").iterdir()) == []
