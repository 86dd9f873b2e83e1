"""``python -m freehold._processes.node``: a node process, started by `_processes.driver.bootstrap`.

Standard input is a file: a line with the entries of `sys.path`, separated by NUL, then a JSON
`NodeStart`. Descriptor 3 is the channel to the starter: it gets one JSON line, `{"cluster": …}` or
`{"error": …}`, and its end is the end of the node.

The zygote is exec'ed before anything else is imported, so that both import side by side.
"""

from __future__ import annotations

import os
import sys

CHANNEL_FD = 3


def main() -> None:
    """Run a node process from its start to its end."""
    head, _, body = _read_all(0).partition(b"\n")
    sys.path[:] = head.decode().split("\0")
    from freehold._io.zygote_spawn import spawn

    os.closerange(CHANNEL_FD + 1, 1 << 16)  # the starter's inheritable descriptors
    os.set_inheritable(CHANNEL_FD, False)
    spawned = spawn(sys.path)
    from freehold._processes.node.run import run

    run(body, CHANNEL_FD, spawned)


def _read_all(fd: int) -> bytes:
    parts = []
    while part := os.read(fd, 1 << 16):
        parts.append(part)
    return b"".join(parts)


if __name__ == "__main__":
    main()
