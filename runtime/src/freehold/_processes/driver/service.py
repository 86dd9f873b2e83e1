"""A driver: the user's program, attached to the cluster that it starts.

`start_driver` starts node process 0 (`bootstrap`), or finds a node that runs (`joining`), attaches
a core to it and opens what a driver has besides: the gate for signal handlers, the interpreter's
settings, the printing of workers' lines. `DriverCore.shutdown` undoes all of it and returns when
the node's processes are gone.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._io.session import SessionFolder
from freehold._io.signals import SignalGate
from freehold._processes.driver.bootstrap import NodeProcess, absolute, resolve_settings, start_node
from freehold._processes.owner.attach import attach
from freehold._processes.owner.cluster import ClusterCore
from freehold._processes.owner.forks import watch_forks
from freehold._processes.owner.pacing import Pacing
from freehold._processes.owner.tuning import Tuning
from freehold.errors import ClusterDiedError, FreeholdError, SettingsError

if TYPE_CHECKING:
    from freehold._io.logs import LogPrinter


class InitRequest(Protocol):
    """What `init` was asked for; `freehold._api.init.DriverRequest` says what each is."""

    @property
    def address(self) -> str:
        """Of a running cluster, or ""."""

    @property
    def resources(self) -> dict[str, float]:
        """Amounts by name."""

    @property
    def object_store_memory(self) -> int | None:
        """Bytes of the arena."""

    @property
    def namespace(self) -> str:
        """Of named actors."""

    @property
    def labels(self) -> dict[str, str]:
        """Of the node that is started."""

    @property
    def log_to_driver(self) -> bool:
        """Whether to print what workers write."""

    @property
    def system_config(self) -> dict[str, Any]:
        """Settings by name."""


LOCAL = "local"
"""The address of a cluster of one's own."""

LAST_LINES_S = 0.5
"""How long `shutdown` waits for the last lines of workers."""


class DriverCore(ClusterCore):
    """The owner core of a driver, with the node process it started."""

    is_driver = True
    node: NodeProcess | None = None
    """The node process that ends with this driver; None if it attached to somebody else's."""

    def open(self, node: NodeProcess | None, printer: LogPrinter | None, *, tunes: bool) -> None:
        """Begin to be a driver; `tunes`: it may change the interpreter's settings meanwhile."""
        self.node = node
        self._printer = printer
        self._gate = SignalGate()
        self._tuning = Tuning()
        if printer is not None:
            self.handlers[m.LogLines] = lambda _source, message, _now: printer.handle(message)
        self._gate.open()
        if tunes:
            self._tuning.apply()
        self.reactor.pacing = Pacing(self._tuning.set_interval)
        self.reactor.start_background()
        watch_forks(self, node.forget if node is not None else None)

    def die(self, error: FreeholdError) -> None:
        """See `CoreBase.die`; besides, keep nothing of a cluster that is gone."""
        if self.is_dead is None:
            # Not at once: this may be said in the middle of a connection's own handler.
            self.reactor.call_later(0.0, self._let_go)
        super().die(error)

    def _let_go(self) -> None:
        """Close the sockets and the store: the program may go on for long. Under the lock."""
        self.peers.close()
        self.storage.arena.abandon()
        if self.node is not None:
            self.node.forget()

    def shutdown(self) -> None:
        """End the core, and the cluster if this driver started it."""
        if os.getpid() != self.pid:
            return
        if self._printer is not None and self.is_dead is None:
            try:
                self.requests.ask(m.FlushLines, timeout_s=LAST_LINES_S)
            except ClusterDiedError:
                pass  # it ended, or is stuck: so be it
        super().shutdown()
        self._gate.close()
        self._tuning.restore()
        if self.node is not None:
            self.node.stop()
        if self._printer is not None:
            self._printer.close()


def given_settings(request: InitRequest) -> dict[str, Any]:
    """The node's settings by name, of both ways in which `init` is told them.

    Raises:
        SettingsError: one was given both ways with different values.
    """
    amounts = dict(request.resources)
    arguments: dict[str, Any] = {}
    for name, setting in (("CPU", "num_cpus"), ("GPU", "num_gpus"), ("memory", "memory")):
        if name in amounts:
            arguments[setting] = amounts.pop(name)
    if amounts:
        arguments["resources"] = amounts
    if request.object_store_memory is not None:
        arguments["object_store_memory"] = request.object_store_memory
    if request.labels:
        arguments["labels"] = request.labels
    if not request.log_to_driver:
        arguments["log_to_driver"] = False
    for name in sorted(arguments.keys() & request.system_config.keys()):
        argument, configured = arguments[name], request.system_config[name]
        if argument != configured:
            raise SettingsError(
                setting=name,
                reason=f"init has {argument!r} as an argument and {configured!r} in "
                "_system_config; give it once",
            )
    return {**request.system_config, **arguments}


def start_driver(request: InitRequest) -> DriverCore:
    """Start a cluster on this machine and attach to it, or attach to one that runs.

    Raises:
        SettingsError: a setting is unknown or its value is not valid.
        FreeholdSystemError: the node process did not start.
        ClusterUnreachableError, AuthenticationError, JoinRefusedError: no such cluster.
    """
    settings = resolve_settings(given_settings(request))
    namespace = request.namespace or f"job-{os.urandom(6).hex()}"
    address = request.address or settings.address
    job: Job | None = None
    if address in ("", LOCAL):
        node = start_node(settings, namespace=namespace)
    else:
        from freehold._processes.driver import joining

        if request.resources:
            raise ValueError(
                f"init({', '.join(sorted(request.resources))}) is for a cluster of its own: this "
                f"one is there already, with what its nodes have; leave it out, or the address"
            )
        job = Job(settings.job or f"job-{os.urandom(6).hex()}", settings.job_attempt)
        found = joining.node_of(settings, address)
        if found is not None:
            shows_logs = settings.log_to_driver
            return attach_driver(found, namespace, shows_logs=shows_logs, job=job)
        node = joining.start_own_node(settings, address, namespace)
    try:
        return attach_driver(
            node, namespace, owned=node, shows_logs=settings.log_to_driver, job=job
        )
    except BaseException:
        node.kill()
        raise


class Job(NamedTuple):
    """What a driver's work is called in a cluster that has several, and which run of it this is."""

    name: str
    attempt: int = 0


class RunningNode(Protocol):
    """Where a node manager is: a `NodeProcess`, or the record of one that runs."""

    @property
    def cluster(self) -> str:
        """The cluster's id."""

    @property
    def node(self) -> str:
        """The node's id."""

    @property
    def session_path(self) -> str:
        """The cluster's folder."""


def attach_driver(
    node: RunningNode,
    namespace: str,
    *,
    owned: NodeProcess | None = None,
    shows_logs: bool = True,
    job: Job | None = None,
) -> DriverCore:
    """Be a driver of a node that runs.

    Args:
        owned: the node process that is to end with this driver.
        job: this driver's job, in a cluster that has more than one: its tasks run in processes of
            their own, what they write is shown here alone, and they end with it. None in a
            cluster that is this driver's alone.
        shows_logs: whether to print what workers write.
    """
    core, registered = attach(
        DriverCore,
        node.cluster,
        Address(node.node, 0),
        SessionFolder(node.session_path, node.node).socket_path,
        m.Register(
            os.getpid(),
            is_driver=True,
            namespace=namespace,
            job=job.name if job is not None else "",
            attempt=job.attempt if job is not None else 0,
        ),
        None,
    )
    core.namespace = namespace
    core.job_id = job.name if job is not None else node.cluster  # as in its workers
    if job is not None:
        core.job = m.Environment(
            "",
            {},
            paths=absolute(sys.path),
            job=job.name,
            namespace=namespace,
            driver=registered.address,
        )
    core.session_dir = node.session_path
    printer = None
    if shows_logs:
        from freehold._io.logs import LogPrinter

        printer = LogPrinter()
    tunes = bool(registered.settings["tune_interpreter"])
    core.open(owned, printer, tunes=tunes)
    return core


__all__ = ["DriverCore", "attach_driver", "start_driver"]
