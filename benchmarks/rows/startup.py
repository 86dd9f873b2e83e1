"""Start: a bare interpreter imports the side, calls `init` and holds the first task's result."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from benchmarks.adapter import Bench, foreign_pids
from benchmarks.model import Bar, BenchError, Row, Sample, Variant

# Imports nothing that the side would import: what it needs is part of the figure. perf_counter is
# CLOCK_MONOTONIC here, the same for both processes.
SCRIPT = """
import sys, time, os
started = time.perf_counter()
import {side} as api
imported = time.perf_counter()
def where():
    return os.getpid()
api.init(num_cpus=2{more})
task_pid = api.get(api.remote(where).remote())
done = time.perf_counter()
import json
times = [started, imported, done, task_pid, os.getpid()]
os.write(int(sys.argv[1]), json.dumps(times).encode())
api.shutdown()
"""


def first_result(bench: Bench, variant: Variant) -> Sample:
    """Seconds from before the import to the first result in hand, in an interpreter of its own."""
    del variant
    more = ", include_dashboard=False" if bench.side == "ray" else ""
    script = SCRIPT.format(side=bench.side, more=more)
    reader, writer = os.pipe()
    begun = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", script, str(writer)], pass_fds=[writer], stdout=sys.stderr
    ) as process:
        os.close(writer)
        text = os.read(reader, 4096)
        os.close(reader)
        process.wait(60)
    if process.returncode or not text:
        raise BenchError(f"the script that starts ended with {process.returncode}")
    started, imported, done, task_pid, driver_pid = json.loads(text)
    if task_pid == driver_pid:
        raise BenchError("the first task ran in the driver's own process")
    return Sample(
        done - started,
        {
            "import_s": imported - started,
            "init_to_result_s": done - imported,
            "from_exec_s": done - begun,
        },
        foreign_pids([task_pid]),
    )


ROWS = [
    Row(
        key="startup",
        title="import and init() to first result",
        unit="s",
        program=first_result,
        where="fresh",
        bars=(Bar("at_most", 0.5),),
        higher_is_better=False,
    ),
]
