"""What `ps` and `top` show for the processes of a cluster."""

from __future__ import annotations

import contextlib


def name_process(name: str) -> None:
    """Call this process `name` (15 bytes at the most) in `ps -o comm`, `top` and `pgrep`."""
    with contextlib.suppress(OSError), open("/proc/self/comm", "w") as comm:
        comm.write(name)
