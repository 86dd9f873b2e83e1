"""The benchmark's own process: starts sides, drives them a round at a time, and leaves nothing
behind.

Place in the flow: `run.py` makes one `Host`; it holds the interpreters, a scratch folder on tmpfs
and the mark by which every process of the run is found again. It never imports either side.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import proc
from benchmarks.model import BenchError, Row, Sample, SideName, Variant

ROOT = Path(__file__).resolve().parent.parent
RAY_PYTHON = ROOT / "benchmarks" / ".venv-ray" / "bin" / "python"
FREEHOLD_OVER_RAY = ROOT / "benchmarks" / "ray" / "freehold_over_ray"
LOG_TAIL_BYTES = 4_000
# A side is at rest below this share of one CPU: Ray's daemons take 0.02 to 0.05 with nothing to do.
REST_SHARE = 0.15
REST_SAMPLE_S = 0.2
REST_TIMEOUT_S = 20.0
# Input, output of two sides and of the bare processes, and what the stores put there.
SCRATCH_BYTES = 8 * 10**9


class SideProcess:
    """A running `benchmarks.side` and the pipe to it."""

    def __init__(
        self, host: Host, side: SideName, environment: dict[str, str] | None = None
    ) -> None:
        self.side = side
        self.mark = f"{host.mark}-{uuid.uuid4().hex[:8]}"
        self._log = (host.scratch / f"{side}-{self.mark}.log").open("w+b")
        self._process = subprocess.Popen(
            [str(host.interpreter(side)), "-m", "benchmarks.side", side],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=host.scratch,
            env=host.environment(self.mark, side) | (environment or {}),
            start_new_session=True,
        )
        self._buffer = b""

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, timeout_s: float, **command: Any) -> dict[str, Any]:
        """Send one command and return its answer; raises `BenchError` with the end of the log."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(json.dumps(command).encode() + b"\n")
            stdin.flush()
        except BrokenPipeError:
            raise self._error("ended before it was asked", command) from None
        answer = json.loads(self._read_line(timeout_s, command))
        if not answer["ok"]:
            raise self._error(str(answer["error"]), command)
        return dict(answer)

    def round(self, row: Row, variant: Variant, seconds: float) -> Sample:
        answer = self.ask(row.timeout_s, do="round", row=row.key, variant=variant, seconds=seconds)
        sample = Sample(**answer["sample"])
        if self.pid in sample.task_pids:
            raise BenchError(f"{row.key}: a task ran in the driver's own process")
        return sample

    def await_rest(self) -> None:
        """Until its processes do next to nothing: what a round leaves behind (Ray ends eight
        workers and starts as many, seconds of CPU) is not to run beside the other side's."""
        deadline = time.monotonic() + REST_TIMEOUT_S
        while proc.busy_share(self.mark, REST_SAMPLE_S) > REST_SHARE:
            if time.monotonic() > deadline:
                return  # it never rests; the round is measured as it is

    def end(self) -> None:
        """Ask for an orderly shutdown, then kill what is left of this process and its children."""
        with contextlib.suppress(BrokenPipeError, OSError):
            assert self._process.stdin is not None
            self._process.stdin.write(b'{"do": "end"}\n')
            self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(20)
        self.kill()

    def kill_only(self) -> None:
        """SIGKILL this process and nothing else, and reap it."""
        self._process.kill()
        self._process.wait(10)

    def kill(self) -> None:
        """Kill this process and whatever carries its mark."""
        for pid in proc.marked(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(10)
        for stream in (self._process.stdout, self._process.stdin, self._log):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _read_line(self, timeout_s: float, command: dict[str, Any]) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise self._error(f"did not answer within {timeout_s:.0f} s", command)
            data = os.read(stdout.fileno(), 1 << 20)
            if not data:
                raise self._error(f"ended with code {self._process.wait(10)}", command)
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def _error(self, what: str, command: dict[str, Any]) -> BenchError:
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), LOG_TAIL_BYTES, max(0, size - LOG_TAIL_BYTES))
        text = tail.decode(errors="replace")
        return BenchError(f"{self.side} {command}: {what}\n--- end of its log ---\n{text}")


@dataclass(slots=True)
class Host:
    """Interpreters, scratch folder and mark of one run of the benchmark."""

    scratch: Path
    mark: str
    seconds: float = 1.0
    quick: bool = False

    @classmethod
    def make(cls) -> Host:
        """A host with a scratch folder on tmpfs, if /dev/shm is one with room for the sort."""
        roomy = (
            os.access("/dev/shm", os.W_OK) and shutil.disk_usage("/dev/shm").free > SCRATCH_BYTES
        )
        folder = "/dev/shm" if roomy else None
        return cls(Path(tempfile.mkdtemp(prefix="freehold-bench-", dir=folder)), uuid.uuid4().hex)

    def interpreter(self, side: SideName) -> Path:
        return RAY_PYTHON if side == "ray" else Path(sys.executable)

    def environment(self, mark: str, side: SideName = "freehold") -> dict[str, str]:
        """The caller's environment, without settings of either side, with the run's mark.

        Ray's side finds `freehold` as Ray under that name, for the sort (see
        `ray/freehold_over_ray`).
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FREEHOLD_", "RAY_", "PYTHON"))
        }
        source = ROOT / "runtime" / "src"
        path = [str(ROOT), str(FREEHOLD_OVER_RAY if side == "ray" else source)]
        return kept | {
            "PYTHONPATH": os.pathsep.join(path),
            "PYTHONUNBUFFERED": "1",
            proc.MARK: mark,
            "BENCH_SCRATCH_OF_FREEHOLD": str(self.scratch),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        }

    def start(self, side: SideName, environment: dict[str, str] | None = None) -> SideProcess:
        return SideProcess(self, side, environment)

    def close(self) -> None:
        for pid in proc.marked(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.scratch, ignore_errors=True)
