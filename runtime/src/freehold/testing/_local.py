"""A cluster of several nodes on this machine, with the test's own process as the driver.

`LocalCluster` runs real node processes with real sockets, workers and stores; only the machines
between them are missing. It is what most of Freehold's own tests use.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from freehold._core.ids import Address
from freehold._core.messages import Credentials, DrainNode, Explain
from freehold._io.throwaway_authority import ThrowawayAuthority
from freehold._processes.driver.bootstrap import (
    Membership,
    NodeProcess,
    resolve_settings,
    start_node,
)
from freehold._processes.node.settings import arena_bytes, machine_memory
from freehold.testing._waiting import eventually


def _share_of_memory(settings: dict[str, Any], nodes: int) -> int | None:
    """A node's part of the resource `memory`: the machine's is there once."""
    if nodes == 1:
        return None
    chosen = resolve_settings(settings)
    if chosen.memory is not None:
        return chosen.memory
    return max(0, machine_memory() - nodes * arena_bytes(chosen)) // nodes


class _Authority:
    """Names the nodes of a cluster that speaks TCP, and gives them what they prove it with."""

    def __init__(self, is_tls: bool) -> None:
        self._cluster = os.urandom(6).hex()
        self._secret = b"" if is_tls else os.urandom(32)
        self._certificates = ThrowawayAuthority(self._cluster) if is_tls else None

    def new_member(self) -> Membership:
        node = os.urandom(16).hex()
        if self._certificates is None:
            return Membership(self._cluster, node, Credentials(secret=self._secret))
        return Membership(self._cluster, node, self._certificates.credentials(node))


class LocalCluster:
    """Several nodes on this machine, with this process attached as the driver.

    Node 0 has the control service, and the driver is attached to it.

    Args:
        nodes: how many.
        num_cpus: CPUs of each node, or one number a node. Without the setting `memory` each has its
            part of the machine's memory beyond all the stores.
        resources: custom resources of each node, as a list with one dict a node.
        labels: the same for labels.
        namespace: of named actors.
        network: "unix": the nodes speak over sockets in a folder; "tcp": over TCP by way of the
            loopback device, as nodes of several machines do.
        tls: whether they do so with TLS; without it they prove to know a secret.
        settings: any other setting of a node (`freehold settings`).

    Example:
        >>> import freehold
        >>> from freehold.testing import LocalCluster
        >>> with LocalCluster(nodes=2, num_cpus=1):
        ...     len(freehold.nodes())
        2
    """

    def __init__(
        self,
        nodes: int = 2,
        *,
        num_cpus: float | Sequence[float] = 2,
        resources: Sequence[dict[str, float]] | None = None,
        labels: Sequence[dict[str, str]] | None = None,
        namespace: str = "",
        network: str = "unix",
        tls: bool = True,
        **settings: Any,
    ) -> None:
        from freehold._api import state

        if state.core is not None:
            raise RuntimeError("freehold is initialized already; call shutdown() first")
        cpus = list(num_cpus) if isinstance(num_cpus, Sequence) else [num_cpus] * nodes
        given = list(resources) if resources is not None else [{}] * nodes
        named = list(labels) if labels is not None else [{}] * nodes
        if not len(cpus) == len(given) == len(named) == nodes:
            raise ValueError(f"num_cpus, resources and labels need {nodes} entries, one a node")
        if network not in ("unix", "tcp"):
            raise ValueError(f'network is {network!r} but must be "unix" or "tcp"')
        self._authority: _Authority | None = None
        if network == "tcp":
            self._authority = _Authority(tls)
            settings = {"host": "127.0.0.1", "tls": tls, **settings}
        self._namespace = namespace or f"job-{os.urandom(6).hex()}"
        self._settings = settings
        if settings.get("memory") is None:
            self._settings = {**settings, "memory": _share_of_memory(settings, nodes)}
        self.nodes: list[NodeProcess] = []
        """The node processes; a killed one stays in the list."""
        try:
            for node_cpus, node_resources, node_labels in zip(cpus, given, named, strict=True):
                self._start(node_cpus, node_resources, node_labels)
            self._attach()
            self._await_view(nodes)
        except BaseException:
            self.shutdown()
            raise

    def _start(
        self, num_cpus: float, resources: dict[str, float], labels: dict[str, str]
    ) -> NodeProcess:
        values = {
            "num_cpus": num_cpus,
            "resources": resources,
            "labels": labels,
            **self._settings,
        }
        first = self.nodes[0] if self.nodes else None
        node = start_node(
            resolve_settings(values),
            is_driver=first is None,
            join=first,
            namespace=self._namespace,
            membership=self._authority.new_member() if self._authority is not None else None,
        )
        self.nodes.append(node)
        return node

    def _attach(self) -> None:
        from freehold._api import state
        from freehold._processes.driver.service import attach_driver

        self._core = attach_driver(self.nodes[0], self._namespace, owned=self.nodes[0])
        state.set_core(self._core)

    def add_node(
        self,
        *,
        num_cpus: float = 2,
        resources: dict[str, float] | None = None,
        labels: dict[str, str] | None = None,
    ) -> NodeProcess:
        """Start one more node and wait until the cluster knows it."""
        known = sum(node.is_alive for node in self._core.nodes())
        node = self._start(num_cpus, resources or {}, labels or {})
        self._await_view(known + 1)
        return node

    def _await_view(self, nodes: int) -> None:
        """Wait until the driver's node manager knows of all nodes: it schedules by its view."""

        def is_known() -> bool:
            explained = self._core.requests.ask(lambda number: Explain(number, ()))
            return len(explained.lines) >= nodes

        eventually(is_known, timeout_s=10.0)

    def kill_node(self, index: int) -> None:
        """SIGKILL a node process: its workers and what its store held are gone with it.

        Args:
            index: which of `nodes`; node 0 is the cluster itself.
        """
        self.nodes[index].kill()

    def drain_node(
        self, index: int, timeout_s: float = 30.0, *, ends: bool = True, is_idle: bool = False
    ) -> str:
        """Drain a node and wait until it is; by default it has ended then.

        Its data and its owners move to the other nodes, running tasks finish, others are handed
        back. A node that is not done in time ends all the same.

        Args:
            index: which of `nodes`; not node 0, which is the cluster itself.
            timeout_s: the node's deadline.
            ends: False to leave the drained node there, as the head does that asked for it.
            is_idle: drain it only if nothing runs or waits there.

        Returns:
            The node's state at last: "drained", "dead" if it has ended, or "alive" if it refused.
        """
        node = self.nodes[index]
        answer = self._core.ask_node(
            Address(node.node, 0),
            lambda number: DrainNode(number, is_idle, timeout_s, "LocalCluster.drain_node"),
            10.0,
        )
        if not answer.accepted:
            return "alive"

        def state() -> str:
            infos = {info.node: info for info in self._core.nodes()}
            info = infos.get(node.node)
            reached = "dead" if info is None or not info.is_alive else info.state
            return reached if reached in ("drained", "dead") else ""

        reached: str = eventually(state, timeout_s=timeout_s + 10.0, interval_s=0.05)
        if ends and reached == "drained":
            node.stop()
            reached = "dead"
            eventually(lambda: state() == "dead", timeout_s=10.0)
        return reached

    def shutdown(self) -> None:
        """End the cluster and wait until nothing of it is left."""
        from freehold._api import state

        core = getattr(self, "_core", None)
        if core is not None:
            if state.core is core:
                state.set_core(None)
            core.shutdown()
        for node in reversed(self.nodes):
            node.stop()

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()
