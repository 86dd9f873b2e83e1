"""``freehold sort``: sorts Sort Benchmark records from files to files, and validates the result.

This module says what can be asked for and refuses what makes no sense; `_sort_run` does it.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import click

from freehold.cli._sizes import Amount

DEFAULT_SIZE_BYTES = 1_000_000_000


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SortRequest:
    """The options of ``freehold sort``, as given; None where nothing was.

    Args: see ``freehold sort --help``; each field is the option of its name.
    """

    size: int | None
    records: int | None
    partitions: int | None
    input: Path | None
    output: Path | None
    ascii: bool
    skew: bool
    address: str | None
    scratch: Path | None
    num_cpus: int | None
    nodes: int
    keep: bool
    demo: bool
    generate_only: bool
    validate_only: bool
    output_format: str

    @property
    def record_count(self) -> int:
        """How many records to write."""
        if self.records is not None:
            return self.records
        return (DEFAULT_SIZE_BYTES if self.size is None else self.size) // 100

    @property
    def is_scattered(self) -> bool:
        """Whether the records are made, sorted and checked on the machines of a cluster."""
        is_elsewhere = bool(self.address or self.scratch or in_cluster())
        return is_elsewhere and not (
            self.input or self.output or self.generate_only or self.validate_only
        )

    def check(self) -> None:
        """Refuse options that do not go together.

        Raises:
            click.UsageError: they do not; the message says what to give instead.
        """
        if self.size is not None and self.records is not None:
            raise click.UsageError("--size and --records say the same: give one of them")
        if self.input and (self.size is not None or self.records is not None):
            raise click.UsageError("--input is read as it is: leave out --size and --records")
        if self.input and (self.ascii or self.skew):
            raise click.UsageError("--ascii and --skew are for records to write, not for --input")
        modes = [
            name
            for name, given in (
                ("--demo", self.demo),
                ("--generate-only", self.generate_only),
                ("--validate-only", self.validate_only),
            )
            if given
        ]
        if len(modes) > 1:
            raise click.UsageError(f"{' and '.join(modes)} exclude each other")
        if self.demo and (self.input or self.output):
            raise click.UsageError(
                "--demo works in a temporary directory: give no --input/--output"
            )
        if self.generate_only and (self.input or not self.output):
            raise click.UsageError("--generate-only needs --output DIR and no --input")
        if self.validate_only and (self.output or not self.input):
            raise click.UsageError("--validate-only needs --input DIR and no --output")
        if self.is_scattered:
            return
        if not modes and not self.output:
            raise click.UsageError(
                "say where the sorted records go with --output DIR, or try: freehold sort --demo"
            )
        if self.input and self.output and self.input.resolve() == self.output.resolve():
            raise click.UsageError("--input and --output are the same directory; give two")


def in_cluster() -> bool:
    """Whether `freehold.init()` would join a cluster that is there: `FREEHOLD_ADDRESS` names it."""
    from freehold.cli import _nodes

    return bool(_nodes.network_settings().address)


_DIRECTORY = click.Path(path_type=Path, file_okay=False)
_EXISTING = click.Path(path_type=Path, file_okay=False, exists=True)


@click.command(name="sort", short_help="Sort records from files to files, and validate the result.")
@click.option("--demo", is_flag=True, help="Write, sort, validate and remove, under $TMPDIR.")
@click.option("--size", type=Amount("size", "B"), help="Bytes to write and sort.  [default: 1GB]")
@click.option("--records", type=Amount("count"), help="The same, as a number of records.")
@click.option("--input", type=_EXISTING, help="Sort the files of this directory.")
@click.option("--output", type=_DIRECTORY, help="Write the sorted files here; new or empty.")
@click.option(
    "--partitions",
    type=click.IntRange(1, 100_000),
    help="Output files to make.  [default: one a 64 MB, at least 4]",
)
@click.option("--ascii", is_flag=True, help="Write printable records instead of binary ones.")
@click.option("--skew", is_flag=True, help="Write keys by a power law, with 16 hot ones.")
@click.option("--address", help="Sort on this cluster's machines: HOST:PORT, a join string, auto.")
@click.option("--scratch", type=_DIRECTORY, help="Each machine's folder.  [default: /scratch]")
@click.option("--num-cpus", type=click.IntRange(1), help="CPUs a node.  [default: this machine's]")
@click.option("--nodes", type=click.IntRange(1, 64), default=1, help="Nodes on this machine.")
@click.option("--keep", is_flag=True, help="Keep the files that would be removed.")
@click.option("--generate-only", is_flag=True, help="Only write records to --output.")
@click.option("--validate-only", is_flag=True, help="Only check that --input is in order.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="How to print the result.",
)
def command(**options: Any) -> int:
    """Sort Sort Benchmark records (100 bytes, the first 10 the key), and check the result.

    Count and checksum of what was written are compared with the input's, and the order is looked
    at record by record, as valsort does. The last line begins with "valid:" or "INVALID:".

    \b
    See it work: write 1 GB, sort it, check it, remove it:
        freehold sort --demo
    The same with ten million printable records whose keys are unevenly spread:
        freehold sort --demo --records 10M --ascii --skew
    Sort files of your own, in order of name, into 16 files part-00000 …:
        freehold sort --input /data/in --output /data/out --partitions 16
    Make an input, and look at an output again later:
        freehold sort --generate-only --size 10GB --output /data/in
        freehold sort --validate-only --input /data/out

    On a cluster of several machines (--address, or in a FuturesJob) each map makes its records on
    its own machine's scratch disk, each reduce writes and checks its partition there:
        freehold sort --address auto --size 10GB

    Progress goes to stderr, results to stdout. Exit code 1 if the result is invalid.
    """
    request = SortRequest(**options)
    request.check()
    from freehold.cli._sort_run import run_request

    return run_request(request)
