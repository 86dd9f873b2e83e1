"""The node's worker processes, from the order to start one to its confirmed end.

Place in the flow: `leases` orders starts and kills as the lease scheduler decides; zygotes fork and
reap; a worker reports itself over its connection. Whatever happens to a worker comes out of here as
one of three calls of `PoolListener`: it registered, it will not come, it has ended.

An end is told when the process is known to have ended *and* its connection has been read to its
end, so that nothing it had said comes later than its death. A connection that somebody else holds
open (a process the worker left behind) is closed after `DRAIN_S`.
"""

from __future__ import annotations

import os
import signal
from typing import Protocol

import msgspec

from freehold._core.messages import ExitCause
from freehold._io.reactor import Reactor
from freehold._io.transport import Connection
from freehold._io.zygote_client import ZygoteClient
from freehold._io.zygote_protocol import WorkerStart
from freehold._processes.node.environments import Environments
from freehold._processes.node.outputs import Outputs
from freehold._processes.node.processes import LocalProcess, ProcessTable

DRAIN_S = 0.2
"""How long after a worker's end its connection may stay open."""

LEAVE_S = 2.0
"""How long a worker that closed its connection may take to end."""

BASE_ATTEMPTS = 3
"""Failed starts of the driver's own zygote in a row after which the node gives up."""


class PoolListener(Protocol):
    """Who is told of workers."""

    def worker_registered(self, process: LocalProcess) -> None:
        """It can be given work."""

    def worker_missing(self, process: LocalProcess, reason: str, is_env: bool) -> None:
        """It will not come."""

    def worker_ended(self, process: LocalProcess) -> None:
        """It has ended, as `process.cause` says."""

    def pool_failed(self, reason: str) -> None:
        """No worker can be started on this node."""


class WorkerPool:
    """All workers of a node and how they come and go."""

    def __init__(
        self,
        reactor: Reactor,
        processes: ProcessTable,
        environments: Environments,
        outputs: Outputs,
        listener: PoolListener,
    ) -> None:
        self._reactor = reactor
        self._processes = processes
        self._environments = environments
        self._outputs = outputs
        self._listener = listener
        self._base_failures = 0
        self.is_stopping = False

    # ---- starting --------------------------------------------------------------------------------

    def start(self, worker: WorkerStart, env_vars: dict[str, str]) -> None:
        """Fork a worker with variables of its own; its record is there at once."""
        process = self._processes.add(worker.start, worker.env)
        self._environments.when_ready(
            worker.env, lambda error: self._start(process, worker, env_vars, error)
        )

    def _start(
        self, process: LocalProcess, worker: WorkerStart, env_vars: dict[str, str], error: str
    ) -> None:
        if error:
            self._missing(process, error, True)
            return
        try:
            client = self._environments.zygote(worker.env, self)
        except OSError as error:
            self._missing(process, f"cannot start a zygote: {error}", bool(worker.env))
            return
        try:
            fds = self._outputs.open(process)
        except OSError as error:
            self._missing(process, f"cannot make pipes for a worker: {error}", False)
            return
        # It must be able to listen before it reports: from then on owners connect to it.
        numbered = msgspec.structs.replace(worker, process=process.number)
        client.fork(numbered, env_vars, fds)

    def registered(self, process: LocalProcess, pid: int, connection: Connection) -> None:
        """A worker reported itself."""
        process.is_registered = True
        process.connection = connection
        process.pid = process.pid or pid
        self._base_failures = 0
        if process.end_reason:
            self.kill(process, process.end_reason)  # ordered before it was there
        self._listener.worker_registered(process)

    def kill(self, process: LocalProcess, reason: str) -> None:
        """SIGKILL a worker; its end is told when it has come."""
        process.end_reason = process.end_reason or reason
        if process.pidfd >= 0:
            try:
                signal.pidfd_send_signal(process.pidfd, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def kill_all(self) -> None:
        """SIGKILL every worker."""
        self.is_stopping = True
        for process in list(self._processes.by_start.values()):
            self.kill(process, "its cluster ended")

    # ---- what the zygotes say --------------------------------------------------------------------

    def zygote_ready(self, client: ZygoteClient, preload_ms: float) -> None:
        """See `ZygoteListener`."""

    def worker_forked(self, start: int, pid: int, pidfd: int, fork_ms: float) -> None:
        """See `ZygoteListener`."""
        process = self._processes.by_start.get(start)
        if process is None:
            os.close(pidfd)
            return
        process.pid, process.pidfd = pid, pidfd
        if process.end_reason:
            self.kill(process, process.end_reason)

    def fork_failed(self, start: int, reason: str) -> None:
        """See `ZygoteListener`."""
        process = self._processes.by_start.get(start)
        if process is not None:
            self._missing(process, reason, False)

    def worker_exited(self, start: int, pid: int, code: int | None, number: int | None) -> None:
        """See `ZygoteListener`."""
        process = self._processes.by_start.get(start)
        if process is None or process.exit is not None:
            return
        process.exit = (code, number)
        connection = process.connection
        if connection is None or connection.is_closed:
            self._finish(process)
        else:
            self._reactor.call_later(DRAIN_S, lambda: self._finish(process))

    def zygote_died(self, client: ZygoteClient, unanswered: list[int], reason: str) -> None:
        """See `ZygoteListener`. Its living workers go on; this process reaps them from now on."""
        self._environments.forget(client)
        if self.is_stopping:
            return
        is_base = not client.env
        if is_base and not client.is_ready:
            self._base_failures += 1
            if self._base_failures >= BASE_ATTEMPTS:
                self._listener.pool_failed(reason)
                return
        for start in unanswered:
            process = self._processes.by_start.get(start)
            if process is not None:
                self._missing(process, reason, not is_base and not client.is_ready)
        if is_base:
            self._environments.zygote("", self)

    def reaped(self, pid: int, status: int) -> None:
        """A child of this process ended: a zygote, or an orphan that this process took on."""
        for process in self._processes.by_start.values():
            if process.pid == pid:
                if os.WIFSIGNALED(status):
                    self.worker_exited(process.start, pid, None, os.WTERMSIG(status))
                else:
                    self.worker_exited(process.start, pid, os.WEXITSTATUS(status), None)
                return

    # ---- ends ------------------------------------------------------------------------------------

    def connection_closed(self, process: LocalProcess) -> None:
        """A worker's connection came to its end."""
        process.is_registered = False
        if process.exit is not None:
            self._finish(process)
        else:
            self._reactor.call_later(LEAVE_S, lambda: self._hurry(process))

    def _hurry(self, process: LocalProcess) -> None:
        if process.exit is None and process.start in self._processes.by_start:
            self.kill(process, "it closed its connection to its node and did not end")

    def _missing(self, process: LocalProcess, reason: str, is_env: bool) -> None:
        log = self._outputs.close(process)
        self._processes.remove(process)
        text = "\n  ".join([reason, *log])
        self._listener.worker_missing(process, text, is_env)

    def _finish(self, process: LocalProcess) -> None:
        if process.cause is not None or process.exit is None:
            return
        code, number = process.exit
        was_registered = process.connection is not None
        log = self._outputs.close(process)
        process.cause = ExitCause(
            code, number, self._reason(process), log, process.pid, process.address.node
        )
        process.is_registered = False
        if process.connection is not None and not process.connection.is_closed:
            process.connection.close()
        self._processes.remove(process)
        if was_registered:
            self._listener.worker_ended(process)
        else:
            text = f"a worker {describe_exit(code, number)} before it was ready"
            self._listener.worker_missing(process, "\n  ".join([text, *log]), False)

    def _reason(self, process: LocalProcess) -> str:
        _, number = process.exit or (None, None)
        return process.end_reason if process.is_retiring or number == signal.SIGKILL else ""


def describe_exit(code: int | None, number: int | None) -> str:
    """`was killed by SIGKILL` or `exited with code 1`."""
    if number is None:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(number).name}"
    except ValueError:
        return f"was killed by signal {number}"
