"""A cluster with each node in a network namespace of its own: machines, as far as the network goes.

The nodes are started as users start them: `freehold start --head`, and `freehold start --address -`
with the join string, over TLS. So are the programs that use the cluster: `NamespaceCluster.run`
runs one on a node, and in it `freehold.init()` attaches to that node.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from freehold._processes.driver.bootstrap import resolve_settings
from freehold._processes.node import record
from freehold._processes.node.record import NodeRecord
from freehold._processes.node.settings import NodeSettings, session_base
from freehold.testing._network import Network
from freehold.testing._waiting import eventually

START_S = 60.0
"""A node is up within this, on a busy machine too."""

END_S = 10.0
"""A node that is told to end has ended within this; else it is killed."""

_CLI = (sys.executable, "-m", "freehold.cli")

STORE_BYTES = 64 << 20
"""Of a node's store, if the setting is not given: several nodes share one machine's memory."""


class NamespaceCluster:
    """Several nodes, each in a network namespace, whose connections can be made worse and cut.

    Node 0 is the head. The driver is a program that `run` or `start` runs on a node: the test's own
    process is in no namespace and reaches none of them.

    It needs Linux, root (with CAP_SYS_ADMIN) or user namespaces, and the programs `ip`, `tc`,
    `nsenter` and `unshare`. At its end, also after an exception, nothing is left: no process, no
    namespace, no link, no folder.

    Args:
        nodes: how many.
        num_cpus: CPUs of each node, or one number a node.
        resources: custom resources of each node, as a list with one dict a node.
        labels: the same for labels.
        settings: any other setting of a node (`freehold settings`).

    Raises:
        RuntimeError: the machine cannot make network namespaces, or a node did not start; the
            message says what is missing, or what the node said.

    Example:
        >>> import sys
        >>> from freehold.testing import NamespaceCluster
        >>> program = "import freehold; freehold.init(); print(len(freehold.nodes()))"
        >>> with NamespaceCluster(nodes=2) as cluster:  # doctest: +SKIP
        ...     cluster.delay(1, 20, jitter_ms=5)
        ...     print(cluster.run(0, [sys.executable, "-c", program]).stdout)
        2
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        num_cpus: float | Sequence[float] = 1,
        resources: Sequence[dict[str, float]] | None = None,
        labels: Sequence[dict[str, str]] | None = None,
        **settings: Any,
    ) -> None:
        cpus = list(num_cpus) if isinstance(num_cpus, Sequence) else [num_cpus] * nodes
        given = list(resources) if resources is not None else [{}] * nodes
        named = list(labels) if labels is not None else [{}] * nodes
        if nodes < 1 or not len(cpus) == len(given) == len(named) == nodes:
            raise ValueError(f"num_cpus, resources and labels need {nodes} entries, one a node")
        self._settings = {"object_store_memory": STORE_BYTES, **settings}
        resolve_settings({**self._settings})  # wrong ones are told before anything is made
        self._programs: list[subprocess.Popen[str]] = []
        self._network: Network | None = Network()
        self._folder = ""
        try:
            base = session_base(resolve_settings({}))
            self._folder = tempfile.mkdtemp(prefix="ns-", dir=base)
            for _ in range(nodes):
                Path(self._node_folder(self.network.add())).mkdir()
            options = [
                {"num_cpus": c, "resources": r, "labels": n}
                for c, r, n in zip(cpus, given, named, strict=True)
            ]
            self._start_nodes([0], options)
            self._start_nodes(list(range(1, nodes)), options)
            eventually(lambda: len(self.states()) == nodes, timeout_s=START_S, interval_s=0.1)
        except BaseException:
            self.shutdown()
            raise

    @property
    def network(self) -> Network:
        """What joins the nodes.

        Raises:
            RuntimeError: the cluster has been shut down.
        """
        if self._network is None:
            raise RuntimeError("this cluster of namespaces has been shut down; make another")
        return self._network

    @property
    def nodes(self) -> range:
        """The nodes' numbers."""
        return range(len(self.network.nodes))

    # ---- the network ---------------------------------------------------------------------------

    def delay(self, node: int, delay_ms: float, jitter_ms: float = 0.0) -> None:
        """Delay each packet to and from a node: a round trip takes twice that longer.

        Args:
            node: its number.
            delay_ms: by how much; 0 ends it.
            jitter_ms: up to so much more or less, drawn anew for each packet.
        """
        self.network.shape(self._checked(node), delay_ms=delay_ms, jitter_ms=jitter_ms)

    def limit(self, node: int, rate_mbit: float) -> None:
        """Let a node send, and be sent, no more than this.

        Args:
            node: its number.
            rate_mbit: 10⁶ bits a second, each way; 0 ends it.
        """
        self.network.shape(self._checked(node), rate_mbit=rate_mbit)

    def lose(self, node: int, percent: float) -> None:
        """Lose some of the packets to and from a node, drawn at random.

        Args:
            node: its number.
            percent: how many of a hundred; 0 ends it.
        """
        if percent > 100:
            raise ValueError(f"percent is {percent} but must be at most 100")
        self.network.shape(self._checked(node), loss_percent=percent)

    def partition(self, node: int, from_: int | Sequence[int] | None = None) -> None:
        """Let nothing pass between a node and others, silently: as if the cable were cut.

        Args:
            node: its number.
            from_: the other node, or several; all others by default.
        """
        others = [from_] if isinstance(from_, int) else self.nodes if from_ is None else from_
        for other in others:
            if self._checked(other) != self._checked(node):
                self.network.cut(node, other)

    def heal(self) -> None:
        """Undo all partitions; what `delay`, `limit` and `lose` have set stays."""
        self.network.heal()

    # ---- programs ------------------------------------------------------------------------------

    def run(
        self,
        node: int,
        argv: Sequence[str],
        *,
        given: str = "",
        timeout_s: float = 60.0,
        **variables: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on a node, to its end.

        Args:
            node: its number.
            argv: the program and its arguments. `freehold.init()` in it attaches to the node.
            given: for its standard input.
            timeout_s: seconds that it may take.
            variables: of its environment, beside this process's own.

        Returns:
            Its exit code, and what it wrote: not an error if it failed.

        Raises:
            subprocess.TimeoutExpired: it took too long, and was killed.
        """
        place = self.network.nodes[self._checked(node)]
        return subprocess.run(
            place.argv(self._words(node, argv, variables)),
            input=given,
            capture_output=True,
            text=True,
            pass_fds=place.fds,
            timeout=timeout_s,
            check=False,
        )

    def start(self, node: int, argv: Sequence[str], **variables: str) -> subprocess.Popen[str]:
        """Start a program on a node, and let it run; at the latest it ends with the cluster.

        Its standard output, with its errors, and its standard input are pipes.
        """
        place = self.network.nodes[self._checked(node)]
        program = subprocess.Popen(
            place.argv(self._words(node, argv, variables)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=place.fds,
            start_new_session=True,
        )
        self._programs.append(program)
        return program

    # ---- what is there -------------------------------------------------------------------------

    def node_id(self, node: int) -> str:
        """The id under which a node runs now; "" while it does not, as between two ids."""
        found = self._record(node)
        return found.node if found is not None else ""

    def states(self) -> dict[str, str]:
        """Node id → state, as the head has them (`freehold status`).

        Raises:
            AssertionError: the head does not answer; `eventually` then asks again.
        """
        done = self.run(0, [*_CLI, "status", "--format", "json"])
        if done.returncode != 0:
            raise AssertionError(f"`freehold status` failed: {done.stderr.strip()}")
        prefix = "NODE_STATE_"
        listed = json.loads(done.stdout)["nodes"]
        return {found["id"]: found["state"].removeprefix(prefix).lower() for found in listed}

    def log(self, node: int) -> str:
        """What the node that runs there now has written."""
        found = self._record(node)
        return Path(found.log_path).read_text(encoding="utf-8") if found is not None else ""

    # ---- the end -------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """End all that runs in the namespaces, and wait until nothing is left."""
        network, self._network = self._network, None
        if network is None:
            return
        try:
            self._end_nodes(len(network.nodes))
        finally:
            try:
                network.close()
            finally:
                for program in self._programs:
                    program.communicate()  # killed by now
                if self._folder:
                    shutil.rmtree(self._folder)

    def __enter__(self) -> NamespaceCluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown()

    # ---- within --------------------------------------------------------------------------------

    def _checked(self, node: int) -> int:
        if node not in self.nodes:
            raise ValueError(f"there is no node {node}: they are 0 to {len(self.nodes) - 1}")
        return node

    def _node_folder(self, node: int) -> str:
        return os.path.join(self._folder, str(node))

    def _words(self, node: int, argv: Sequence[str], variables: dict[str, str]) -> list[str]:
        """The program, with the variables that make it one of that node."""
        own = {
            "FREEHOLD_ADDRESS": "auto",
            "FREEHOLD_DIR": self._node_folder(node),
            "FREEHOLD_STATE_DIR": os.path.join(self._node_folder(node), "state"),
            **variables,
        }
        return ["env", *(f"{name}={value}" for name, value in own.items()), *argv]

    def _start_nodes(self, nodes: Sequence[int], options: Sequence[dict[str, Any]]) -> None:
        """Start nodes at once, and wait until all are up."""
        programs = []
        for node in nodes:
            values = {"host": self.network.address(node), **self._settings, **options[node]}
            values.setdefault("node_name", f"node-{node}")
            variables = {
                f"FREEHOLD_{name.upper()}": value if isinstance(value, str) else json.dumps(value)
                for name, value in values.items()
            }
            word = "\n" if node == 0 else self._join_string() + "\n"
            how = ["--head"] if node == 0 else ["--address", "-"]
            if node == 0:
                variables["FREEHOLD_ADDRESS"] = ""
            program = self.start(node, [*_CLI, "start", *how], **variables)
            assert program.stdin is not None
            program.stdin.write(word)
            program.stdin.flush()
            programs.append((node, program))
        for node, program in programs:
            said, _ = program.communicate(timeout=START_S)
            self._programs.remove(program)
            if program.returncode != 0:
                raise RuntimeError(f"`freehold start` failed on node {node}: {said.strip()}")

    def _join_string(self) -> str:
        head = self._record(0)
        if head is None:
            raise RuntimeError("the head has ended; its log says why")
        return head.control.join_string()

    def _record(self, node: int) -> NodeRecord | None:
        """The running node in a namespace; none while it joins again."""
        uid = 0 if self.network.is_user_namespace else os.getuid()
        found = record.find(NodeSettings(dir=self._node_folder(self._checked(node))), uid)
        return found[-1] if found else None

    def _end_nodes(self, nodes: int) -> None:
        """Have the nodes end in order, as far as they can."""
        uids = {0, os.getuid()}
        settings = [NodeSettings(dir=self._node_folder(node)) for node in range(nodes)]
        found = [node for each in settings for uid in uids for node in record.find(each, uid)]
        for node in found:
            try:
                os.kill(node.pid, record.END_NOW)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + END_S
        while any(node.is_running for node in found) and time.monotonic() < deadline:
            time.sleep(0.02)
