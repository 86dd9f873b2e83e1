"""Operator processes in a tenth of a second: a process that has imported everything and forks.

Started by exec, never forked from pytest, which has threads. Reads one JSON line a command from
standard input: `{"env": {...}, "log": PATH, "die": [n, "before" | "after"] | null}` forks an
operator and answers `{"pid": …}`; the end of one is told by `{"ended": pid, "status": code}`.

The operator it runs is the real one. For the tests that kill it, the client of the API server is a
subclass that ends the process before or after its n-th write.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from collections.abc import Mapping
from typing import Any

from freehold_operator import __main__ as operator
from freehold_operator import kube
from freehold_operator.errors import ApiError
from freehold_operator.kinds import Kind
from freehold_operator.metrics import Metrics
from freehold_operator.settings import Settings

DIED_EXIT_CODE = 99


class MortalKube(kube.ApiKube):
    """A client that kills its process at a write.

    Events do not count: nothing depends on them.
    """

    die_at = 0
    is_after = False
    writes = 0

    async def _send(self, kind: Kind, verb: str, path: str, **how: Any) -> kube.Body:
        query: Mapping[str, str] = how.get("query") or {}
        is_write = verb not in ("get", "list") and kind.name != "Event" and "dryRun" not in query
        if not is_write:
            return await super()._send(kind, verb, path, **how)
        MortalKube.writes += 1
        number = MortalKube.writes
        if number == self.die_at and not self.is_after:
            os._exit(DIED_EXIT_CODE)
        try:
            return await super()._send(kind, verb, path, **how)
        except ApiError:
            raise
        finally:
            if number == self.die_at and self.is_after:
                os._exit(DIED_EXIT_CODE)


async def _mortal(settings: Settings, metrics: Metrics) -> kube.Kube:
    where = await kube.configuration(os.environ["KUBECONFIG"], in_cluster=False)
    return MortalKube(where, settings.request_timeout_s, metrics)


def _run_operator(command: dict[str, Any]) -> None:
    """In the child: never returns."""
    log = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    null = os.open(os.devnull, os.O_RDWR)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    for name in [n for n in os.environ if n.startswith("FREEHOLD_OPERATOR_")]:
        del os.environ[name]
    os.environ.update(command["env"])
    die = command.get("die")
    if die is not None:
        MortalKube.die_at, MortalKube.is_after = die[0], die[1] == "after"
    code = 70
    try:
        code = operator.main(_mortal if die is not None else operator.make_kube)
    finally:
        sys.stderr.flush()
        os._exit(code)


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _reap() -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _say({"ended": pid, "status": os.waitstatus_to_exitcode(status)})


def main() -> None:
    """Serve commands until standard input ends; then all operators end too."""
    wake_r, wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    _say({"ready": True})
    pids: set[int] = set()
    buffer = b""
    while True:
        readable, _, _ = select.select([0, wake_r], [], [])
        if wake_r in readable:
            os.read(wake_r, 4096)
            _reap()
        if 0 not in readable:
            continue
        chunk = os.read(0, 65536)
        if not chunk:
            break
        buffer += chunk
        while b"\n" in buffer:
            line, buffer = buffer.split(b"\n", 1)
            command = json.loads(line)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _run_operator(command)
            pids.add(pid)
            _say({"pid": pid})
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


if __name__ == "__main__":
    main()
