"""Does what ``freehold sort`` was asked: the files, the cluster, the stages, the verdict.

Whatever ends it, a Ctrl-C and a SIGTERM too, the cluster is shut down first, so that nobody writes
any more, and then the files that are not the user's to keep are removed.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import click

import freehold as fh
from freehold.cli._progress import StageDisplay
from freehold.cli._sizes import in_bytes
from freehold.cli.sort import SortRequest
from freehold.errors import FreeholdError
from freehold.shuffle import (
    RECORD_BYTES,
    FilePart,
    KeyDistribution,
    RecordKind,
    RecordRange,
    Report,
    ShuffleOptions,
    Summary,
    check,
    generate_files,
    record_files,
    sort_files,
    sort_scattered,
    validate_files,
)

PARTITION_BYTES = 64_000_000
TERMINATED = 143
_SORT_STAGES = ("sample", "map", "reduce")


def run_request(request: SortRequest) -> int:
    """Do it and print the result.

    Returns:
        The exit code: 0, or 1 if the records are invalid.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_exit_on_sigterm())
        work = _Work(request, stack)
        report = work.run()
        work.print_result(report)
        return 0 if report.valid else 1


class _Work:
    """One run: its files, its display, and the order of its stages."""

    def __init__(self, request: SortRequest, stack: contextlib.ExitStack) -> None:
        self.request = request
        self._stack = stack
        self._inputs = record_files(request.input) if request.input else []
        self.record_count = (
            sum(part.count for part in self._inputs) if request.input else request.record_count
        )
        self.display = StageDisplay(self.record_count * RECORD_BYTES)
        stack.callback(self.display.close)
        self.output: Path | None = None
        self.scratch: Path | None = None
        self.hosts: dict[str, int] = {}
        """Of a scattered sort: the partitions that each machine has."""

    @property
    def num_partitions(self) -> int:
        """As asked, else so that a partition is small beside memory and large beside a message.

        Of what is only validated, as many as there are files.
        """
        if self.request.validate_only:
            return len(self._inputs)
        return self.request.partitions or max(
            4, -(-self.record_count * RECORD_BYTES // PARTITION_BYTES)
        )

    def run(self) -> Report:
        """All stages that were asked for. The files come first: they outlive the cluster."""
        request = self.request
        if request.is_scattered:
            return self._run_scattered()
        if request.validate_only:
            self._start_cluster()
            return check(validate_files(self._inputs, self.display))
        if request.generate_only:
            assert request.output is not None, "checked by SortRequest.check"
            self.output = self._new_directory(request.output)
            self._check_space(self.output, copies=1)
            self._start_cluster()
            return Report(self._generate(self.output), ())
        input_directory = self._prepare_directories()
        self._start_cluster()
        self._check_store()
        if input_directory is None:
            expected = validate_files(self._inputs, self.display, stage="read")
        else:
            expected = self._generate(input_directory)
            self._inputs = record_files(input_directory)
        return check(self._sort(), expected)

    def _run_scattered(self) -> Report:
        request = self.request
        self._stack.callback(fh.shutdown)
        fh.init(address=request.address)
        options = ShuffleOptions(on_progress=self.display)
        found = sort_scattered(
            self._wanted(),
            self.num_partitions,
            scratch=request.scratch,
            keep=request.keep,
            options=options,
        )
        self.hosts = found.partitions_by_host
        return check(found.sorted, found.generated)

    def print_result(self, report: Report) -> None:
        """The total and the verdict, last; or all of it as one JSON object."""
        size_bytes, seconds = self.record_count * RECORD_BYTES, self.display.seconds(*_SORT_STAGES)
        kept = self.output if not self.request.demo or self.request.keep else None
        if self.request.output_format == "json":
            click.echo(json.dumps(self._as_json(report, seconds, kept), indent=2))
            return
        if seconds:
            rate = size_bytes / 1e9 / seconds
            click.echo(f"sorted {in_bytes(size_bytes)} in {seconds:.2f} s: {rate:.2f} GB/s")
        if kept is not None:
            click.echo(f"output: {kept}")
        if self.hosts:
            where = ", ".join(f"{host}: {count}" for host, count in self.hosts.items())
            click.echo(f"partitions by machine: {where}")
        if self.scratch is not None and self.request.keep:
            click.echo(f"kept: {self.scratch}")
        if self.request.generate_only:
            found = report.summary
            click.echo(f"written: {found.records:,} records, checksum {found.checksum:x}")
        else:
            colour = "green" if report.valid else "red"
            word, rest = str(report).split(":", 1)
            click.echo(f"{click.style(word, fg=colour, bold=True)}:{rest}")

    def _as_json(self, report: Report, seconds: float, kept: Path | None) -> dict[str, object]:
        found, size_bytes = report.summary, self.record_count * RECORD_BYTES
        return {
            "valid": report.valid,
            "problems": list(report.problems),
            "records": found.records,
            "checksum": f"{found.checksum:x}",
            "duplicate_keys": found.duplicate_keys,
            "size_bytes": size_bytes,
            "partitions": self.num_partitions,
            "partitions_by_host": self.hosts,
            "stages": [
                {
                    "stage": time.stage,
                    "seconds": round(time.seconds, 6),
                    "gigabytes_per_second": round(time.gigabytes_per_second, 4),
                }
                for time in self.display.finished
            ],
            "sort_seconds": round(seconds, 6) if seconds else None,
            "sort_gigabytes_per_second": round(size_bytes / 1e9 / seconds, 4) if seconds else None,
            "output": None if kept is None else str(kept),
        }

    def _generate(self, directory: Path) -> Summary:
        wanted = self._wanted()
        return generate_files(directory, wanted, self.num_partitions, self.display)

    def _wanted(self) -> RecordRange:
        request = self.request
        kind = RecordKind.ASCII if request.ascii else RecordKind.BINARY
        keys = KeyDistribution.SKEWED if request.skew else KeyDistribution.UNIFORM
        return RecordRange(0, request.record_count, kind, keys)

    def _sort(self) -> Summary:
        request = self.request
        assert self.output is not None, "made by _prepare_directories"
        written: list[FilePart] = sort_files(
            self._inputs,
            self.output,
            self.num_partitions,
            uniform_keys=not (request.input or request.ascii or request.skew),
            options=ShuffleOptions(on_progress=self.display),
        )
        return validate_files(written, self.display)

    def _prepare_directories(self) -> Path | None:
        """Where the output goes and, unless an input was given, where one is written."""
        request = self.request
        if request.input is None:
            self.scratch = Path(tempfile.mkdtemp(prefix="freehold-sort-"))
            if not request.keep:
                self._stack.callback(shutil.rmtree, self.scratch, ignore_errors=True)
        if request.output is None:
            assert self.scratch is not None, "without an output there is no input either"
            self.output = self.scratch / "output"
            self.output.mkdir()
        else:
            self.output = self._new_directory(request.output)
        if self.scratch is None:
            self._check_space(self.output, copies=1)
            return None
        self._check_space(self.scratch, copies=2 if request.output is None else 1)
        if request.output is not None:
            self._check_space(self.output, copies=1)
        input_directory = self.scratch / "input"
        input_directory.mkdir()
        return input_directory

    def _new_directory(self, path: Path) -> Path:
        """Make a directory, or take an empty one; emptied again if the run does not end well."""
        existed = path.exists()
        if existed and any(path.iterdir()):
            raise click.UsageError(f"{path} is not empty; give a new directory or empty this one")
        path.mkdir(parents=True, exist_ok=True)

        def clean(failure: type[BaseException] | None, *_: object) -> None:
            if failure is None:
                return
            for entry in path.iterdir():
                entry.unlink(missing_ok=True)
            if not existed:
                path.rmdir()

        self._stack.push(clean)
        return path

    def _check_space(self, directory: Path, *, copies: int) -> None:
        needed = copies * self.record_count * RECORD_BYTES
        free = shutil.disk_usage(directory).free
        if needed > free:
            raise FreeholdError(
                f"{directory} has {in_bytes(free)} free but {in_bytes(needed)} are needed; sort "
                "less with --size, or use a larger disk (TMPDIR, --output)"
            )

    def _check_store(self) -> None:
        """A sort holds all its blocks in the object store at once, as long as nothing spills."""
        room = fh.cluster_resources().get("object_store_memory")
        needed = self.record_count * RECORD_BYTES
        if room is not None and needed > room:
            raise FreeholdError(
                f"{in_bytes(needed)} do not fit the object store of {in_bytes(room)}, and spilling "
                "to disk is not built yet; sort less with --size"
            )

    def _start_cluster(self) -> None:
        request = self.request
        if request.nodes == 1:
            self._stack.callback(fh.shutdown)
            fh.init(num_cpus=request.num_cpus)
            return
        from freehold.testing import LocalCluster

        self._stack.enter_context(LocalCluster(request.nodes, num_cpus=request.num_cpus or 2))


@contextlib.contextmanager
def _exit_on_sigterm() -> Iterator[None]:
    """Make SIGTERM end the run in order, as Ctrl-C does."""

    def leave(_signal: int, _frame: FrameType | None) -> None:
        sys.exit(TERMINATED)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
