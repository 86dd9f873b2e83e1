"""Network namespaces, joined by a switch, whose links can be slow, lossy, narrow or cut.

    host │ switch: bridge ── port0 ═ veth ═ eth0 │ node 0
         │                └─ port1 ═ veth ═ eth0 │ node 1

Nothing is made in the namespace that the test runs in: the bridge has one of its own. No namespace
has a name either. Each is held by a descriptor of this process, so that the kernel removes all of
it, links and rules too, when the descriptors are closed and the processes within have ended,
however this process ends. (Rejected: `ip netns add` and links in the host's namespace. Both need
names that nobody else has, outlive a SIGKILL, and the host's firewall sees the bridge.)

The means are `tc` (netem, tbf) and `iptables`. Where the kernel has no netem or tbf, a process
passes the frames of that link (`_relay`); where there is no working iptables, a partition is a
neighbour entry that sends frames to nobody. Either is as silent as a cut cable.

Without the rights for it a user namespace is made first, in which this user is root.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace

from freehold.testing import _relay

TOOLS = ("ip", "tc", "nsenter", "unshare")

NOBODY = "02:00:00:00:00:01"
"""An address of the link layer that no device here has."""

COMMAND_S = 20.0
"""A command that sets something up takes milliseconds; this long only if something is broken."""

KILL_S = 10.0
"""Killed processes are gone within this."""

NODES = 200
"""Addresses are 10.77.0.1 and up, in one network of 254."""


@dataclass(frozen=True)
class Link:
    """How a node is connected, each way."""

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss_percent: float = 0.0
    rate_mbit: float = 0.0
    """0 is without a limit."""


def qdisc_commands(device: str, link: Link) -> list[str]:
    """What `tc` must do to a device that has its plain queue, so that it sends as the link does."""
    commands = []
    parent = "root"
    if link.rate_mbit:
        burst = max(1 << 16, int(link.rate_mbit * 1e6 / 8 / 100))
        rate = f"rate {link.rate_mbit:g}mbit burst {burst} latency 400ms"
        commands.append(f"qdisc add dev {device} root handle 1: tbf {rate}")
        parent = "parent 1:1"
    if link.delay_ms or link.jitter_ms or link.loss_percent:
        netem = f"netem limit {_relay.WAITING_FRAMES} delay {link.delay_ms:g}ms"
        if link.jitter_ms:
            netem += f" {link.jitter_ms:g}ms"
        if link.loss_percent:
            netem += f" loss {link.loss_percent:g}%"
        commands.append(f"qdisc add dev {device} {parent} handle 10: {netem}")
    return commands


class Namespace:
    """A network namespace. Programs are run in it by way of `nsenter`."""

    def __init__(self, user_fd: int | None) -> None:
        self._user_fd = user_fd
        way = [] if user_fd is None else _enter_user(user_fd)
        self.fd = _make([*way, "unshare", "--net"], "net", [] if user_fd is None else [user_fd])

    @property
    def fds(self) -> list[int]:
        """The descriptors that a child needs for `argv`."""
        return [self.fd] if self._user_fd is None else [self._user_fd, self.fd]

    def argv(self, words: Sequence[str]) -> list[str]:
        """A command that turns into `words` in this namespace, given `fds`."""
        user = [] if self._user_fd is None else _enter_user(self._user_fd)[1:]
        return ["nsenter", *user, f"--net=/proc/self/fd/{self.fd}", "--", *words]

    def run(self, *words: str, given: str = "", fds: Iterable[int] = ()) -> None:
        """Run a command that sets something up.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        done = subprocess.run(
            self.argv(words),
            input=given,
            capture_output=True,
            text=True,
            pass_fds=[*self.fds, *fds],
            timeout=COMMAND_S,
            check=False,
        )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).strip()
            raise RuntimeError(f"`{' '.join(words)}` failed in a network namespace: {said}")

    def can(self, *words: str) -> bool:
        """Whether a command succeeds."""
        try:
            self.run(*words)
        except RuntimeError:
            return False
        return True

    def processes(self) -> list[int]:
        """The processes that are in it."""
        own = os.fstat(self.fd)
        return [pid for pid in _pids() if _is_in(pid, own)]

    def kill(self) -> None:
        """SIGKILL all that is in it, and wait until it is gone.

        Raises:
            RuntimeError: it was not gone in time.
        """
        own = os.fstat(self.fd)
        deadline = time.monotonic() + KILL_S
        while found := self.processes():
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes {found} do not end after SIGKILL")
            for pid in found:
                _kill_in(pid, own)
            time.sleep(0.02)

    def close(self) -> None:
        """Let go of it; it ends with its last process."""
        os.close(self.fd)


class Network:
    """A switch, and nodes at it. Used as a context manager.

    Raises:
        RuntimeError: a tool is missing, or the rights to make namespaces.
    """

    def __init__(self) -> None:
        missing = [tool for tool in TOOLS if shutil.which(tool) is None]
        if missing:
            raise RuntimeError(
                f"network namespaces need {', '.join(missing)}: install iproute2 and util-linux"
            )
        self.nodes: list[Namespace] = []
        self.links: list[Link] = []
        self._relays: dict[int, subprocess.Popen[str]] = {}
        self._cuts: set[tuple[int, int]] = set()
        self._user_fd = _user_namespace()
        self._switch: Namespace | None = None
        try:
            self._switch = Namespace(self._user_fd)
            self._switch.run("ip", "link", "add", "switch", "type", "bridge")
            self._switch.run("ip", "link", "set", "switch", "up")
            self.has_netem = self._has_qdisc("netem", "delay", "1ms")
            self.has_tbf = self._has_qdisc(
                "tbf", *["rate", "1mbit", "burst", "4k", "latency", "1ms"]
            )
            self.has_iptables = shutil.which("iptables") is not None and self._switch.can(
                "iptables", "-w", "-A", "INPUT", "-s", "192.0.2.1", "-j", "DROP"
            )
        except BaseException:
            self.close()
            raise

    def _has_qdisc(self, *words: str) -> bool:
        assert self._switch is not None
        found = self._switch.can("tc", "qdisc", "add", "dev", "switch", "root", *words)
        if found:
            self._switch.run("tc", "qdisc", "del", "dev", "switch", "root")
        return found

    @property
    def is_user_namespace(self) -> bool:
        """Whether what runs on the nodes takes itself for root."""
        return self._user_fd is not None

    def address(self, node: int) -> str:
        """A node's IP address."""
        return f"10.77.0.{node + 1}"

    def add(self) -> int:
        """One more node; returns its number."""
        assert self._switch is not None
        number = len(self.nodes)
        if number >= NODES:
            raise ValueError(f"a network of namespaces has at most {NODES} nodes")
        node = Namespace(self._user_fd)
        self.nodes.append(node)
        self.links.append(Link())
        port, far_end = f"port{number}", f"peer name eth0 netns /proc/self/fd/{node.fd}"
        self._switch.run(
            *["ip", "-batch", "-"],
            given=f"link add {port} type veth {far_end}\nlink set {port} master switch up\n",
            fds=[node.fd],
        )
        address = f"address add {self.address(number)}/24 dev eth0"
        node.run(*["ip", "-batch", "-"], given=f"{address}\nlink set lo up\nlink set eth0 up\n")
        return number

    def shape(self, node: int, **changes: float) -> None:
        """Change fields of a node's `Link`."""
        assert self._switch is not None
        for name, value in changes.items():
            if not value >= 0:
                raise ValueError(f"{name} is {value} but must be at least 0")
        link = self.links[node] = replace(self.links[node], **changes)
        by_tc = Link(
            delay_ms=link.delay_ms if self.has_netem else 0.0,
            jitter_ms=link.jitter_ms if self.has_netem else 0.0,
            loss_percent=link.loss_percent if self.has_netem else 0.0,
            rate_mbit=link.rate_mbit if self.has_tbf else 0.0,
        )
        for namespace, device in ((self.nodes[node], "eth0"), (self._switch, f"port{node}")):
            namespace.can("tc", "qdisc", "del", "dev", device, "root")  # there may be none
            commands = qdisc_commands(device, by_tc)
            if commands:
                namespace.run("tc", "-batch", "-", given="\n".join(commands) + "\n")
        rest = Link(**{k: v - getattr(by_tc, k) for k, v in asdict(link).items()})
        if rest != Link() or node in self._relays:
            self._relay(node, rest)

    def _relay(self, node: int, link: Link) -> None:
        """Have a process pass the node's frames; from then on until the end."""
        if node not in self._relays:
            self._relays[node] = self._start_relay(node)
        relay = self._relays[node]
        assert relay.stdin is not None
        assert relay.stdout is not None
        relay.stdin.write(json.dumps(asdict(link)) + "\n")
        relay.stdin.flush()
        answered = select.select([relay.stdout], [], [], COMMAND_S)[0]
        if not answered or not relay.stdout.readline():
            raise RuntimeError(f"the process that passes the frames of node {node} has failed")

    def _start_relay(self, node: int) -> subprocess.Popen[str]:
        assert self._switch is not None
        own, far = f"own{node}", f"far{node}"
        self._switch.run(
            *["ip", "-batch", "-"],
            given=f"link add {own} type veth peer name {far}\nlink set {own} up\n"
            f"link set {far} master switch up\nlink set port{node} nomaster\n"
            f"link set port{node} promisc on\nlink set {own} promisc on\n",
        )
        return subprocess.Popen(
            self._switch.argv([sys.executable, "-I", _relay.__file__, f"port{node}", own]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=self._switch.fds,
            start_new_session=True,
        )

    def cut(self, node: int, other: int) -> None:
        """Let nothing pass between two nodes."""
        for here, there in ((node, other), (other, node)):
            if (here, there) in self._cuts:
                continue
            self._cuts.add((here, there))
            address = self.address(there)
            if self.has_iptables:
                self.nodes[here].run("iptables", "-w", "-A", "INPUT", "-s", address, "-j", "DROP")
            else:
                entry = f"{address} lladdr {NOBODY} nud permanent dev eth0"
                self.nodes[here].run("ip", "neigh", "replace", *entry.split())

    def heal(self) -> None:
        """Undo every `cut`."""
        for here, there in sorted(self._cuts):
            address = self.address(there)
            if self.has_iptables:
                self.nodes[here].run("iptables", "-w", "-D", "INPUT", "-s", address, "-j", "DROP")
            else:
                self.nodes[here].run("ip", "neigh", "del", address, "dev", "eth0")
            self._cuts.discard((here, there))

    def close(self) -> None:
        """End what runs in the namespaces, and let go of them."""
        try:
            for relay in self._relays.values():
                relay.kill()
                relay.communicate()
            for node in self.nodes:
                node.kill()
        finally:
            for namespace in (*self.nodes, self._switch):
                if namespace is not None:
                    namespace.close()
            self.nodes.clear()
            self._relays.clear()
            self._switch = None
            if self._user_fd is not None:
                os.close(self._user_fd)
                self._user_fd = None

    def __enter__(self) -> Network:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _user_namespace() -> int | None:
    """A descriptor of a user namespace that may make network namespaces; None if none is needed."""
    try:
        os.close(_make(["unshare", "--net"], "net", []))
        return None
    except RuntimeError as error:
        direct = error
    try:
        return _make(["unshare", "--user", "--map-root-user"], "user", [])
    except RuntimeError as error:
        raise RuntimeError(
            "network namespaces need root with CAP_SYS_ADMIN, or a kernel that lets users make "
            f"user namespaces: {direct}; {error}"
        ) from error


def _enter_user(fd: int) -> list[str]:
    return ["nsenter", f"--user=/proc/self/fd/{fd}", "--preserve-credentials"]


def _make(way: list[str], kind: str, fds: list[int]) -> int:
    """A descriptor of a namespace that `way` makes for the program that it runs."""
    with subprocess.Popen(
        [*way, "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        pass_fds=fds,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stderr is not None
        try:
            os.write(holder.stdin.fileno(), b"\n")
            is_up = bool(select.select([holder.stdout], [], [], COMMAND_S)[0])
            if is_up and os.read(holder.stdout.fileno(), 1):
                return os.open(f"/proc/{holder.pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
        except BrokenPipeError:
            pass  # it has failed, and says why
        finally:
            holder.kill()
        said = holder.stderr.read().decode(errors="replace").strip()
        raise RuntimeError(f"`{' '.join(way)}` failed: {said}")


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _is_in(pid: int, namespace: os.stat_result) -> bool:
    try:
        found = os.stat(f"/proc/{pid}/ns/net")
    except OSError:
        return False  # it has ended, or is somebody else's
    return (found.st_dev, found.st_ino) == (namespace.st_dev, namespace.st_ino)


def _kill_in(pid: int, namespace: os.stat_result) -> None:
    """SIGKILL a process if it is still the one that is in the namespace."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return
    try:
        if _is_in(pid, namespace):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)
