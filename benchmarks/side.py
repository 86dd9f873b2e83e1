"""The process of one side: takes commands as JSON lines on stdin, answers as JSON lines.

Place in the flow: `host.py` starts it with the interpreter of the side (`python -m benchmarks.side
ray`), one long-living process for the rows that share an `init`, one more for each fresh round.
What programs and workers print goes to the log on stderr, never into the answers.

    {"do": "init", "num_cpus": 2}                              → {"ok": true}
    {"do": "round", "row": …, "variant": "plain", "seconds": 1} → {"ok": true, "sample": {…}}
    {"do": "end"}                                              → shutdown and exit
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import traceback
from typing import Any, TextIO, cast

from benchmarks.adapter import Bench
from benchmarks.model import Row, Sample, SideName, Variant
from benchmarks.rows import programs


def serve(side: SideName, answers: TextIO) -> None:
    """Answer commands until "end" or the end of stdin."""
    rows = programs()
    bench = Bench(side, scratch=os.environ.get("BENCH_SCRATCH_OF_FREEHOLD", ""))
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "end":
            break
        try:
            answer = carry_out(command, bench, rows)
        except BaseException:
            answer = {"ok": False, "error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    if bench.api is not None:
        bench.shutdown()


def carry_out(command: dict[str, Any], bench: Bench, rows: dict[str, Row]) -> dict[str, Any]:
    if command["do"] == "init":
        bench.init(num_cpus=command["num_cpus"])
        return {"ok": True}
    program = rows[command["row"]].program
    if program is None:
        raise ValueError(f"row {command['row']} has no program for a side")
    bench.seconds = command["seconds"]
    sample: Sample = program(bench, cast("Variant", command["variant"]))
    if os.getpid() in sample.task_pids:
        raise ValueError(f"a task ran in the driver's own process {os.getpid()}")
    return {"ok": True, "sample": dataclasses.asdict(sample)}


def main() -> None:
    """Keep stdout for answers: everything else that writes to it goes to the log."""
    side = cast("SideName", sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(side, answers)


if __name__ == "__main__":
    main()
