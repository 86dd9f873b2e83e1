"""A Kubernetes API without nodes: etcd, kube-apiserver and kube-controller-manager on loopback.

Real are admission, CEL, RBAC, quota, server-side apply, garbage collection, and the controllers of
Deployments, StatefulSets and Jobs. There is no scheduler and no kubelet: pods stay Pending until a
test patches their status. Needs no root and no container; ready in seconds, about 400 MB.

The API server can be stopped and started again with the same data, port and certificates, which is
an outage as clients see it. Processes are ended by their id, and die with the test run.
"""

from __future__ import annotations

import json
import secrets
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from e2e.support.tools import binaries
from tests.api.client import Client
from tests.api.pki import make_certificates

from freehold.testing import eventually

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
# Between asking for a free port and binding it, another process may take it.
START_ATTEMPTS = 3
LOG_TAIL_BYTES = 6000
# The kernel ends them with the thread that started them, should pytest itself be killed.
WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")


class PortTakenError(Exception):
    """The port was free a moment ago; start again with other ports."""


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


class Daemon:
    """One process of the control plane and its log."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self, command: Sequence[str | Path]) -> None:
        """Start it, its output behind what is in its log already."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*WITH_PARENT, *(str(part) for part in command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.log.parent,
                # Not with a terminal's Ctrl-C: pytest ends it in order, after its clients.
                start_new_session=True,
            )

    def stop(self, *, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """End it; one that does not listen is killed."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(with_signal)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_TIMEOUT_S)

    def check(self) -> None:
        """Raise if it has ended by itself."""
        if self._process is None or self._process.poll() is None:
            return
        tail = self.tail()
        if "address already in use" in tail:
            raise PortTakenError(self.name)
        raise RuntimeError(
            f"{self.name} ended with exit code {self._process.returncode}; its log ends:\n{tail}"
        )

    def tail(self) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        return self.log.read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")


class ApiServer:
    """The three processes, and what a client needs to talk to them.

    Attributes:
        url: of the API server itself; `kubeconfig_for` writes a file for another way to it.
        kubeconfig: a file for a cluster administrator.
        certificates: the CA and the server's certificate, for proxies to show.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.certificates = make_certificates(folder / "pki")
        self.kubeconfig = folder / "kubeconfig"
        self.port = 0
        self._token = secrets.token_hex(16)
        self._etcd = Daemon("etcd", folder)
        self._api = Daemon("kube-apiserver", folder)
        self._controllers = Daemon("kube-controller-manager", folder)
        self._etcd_port = 0
        (folder / "tokens.csv").write_text(f"{self._token},admin,admin,system:masters\n")

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def daemons(self) -> tuple[Daemon, ...]:
        """All of its processes, in the order of their start."""
        return self._etcd, self._api, self._controllers

    def client(self, url: str | None = None) -> Client:
        """A client with an administrator's rights, straight or through a proxy's URL."""
        return Client(url or self.url, token=self._token, ca=self.certificates.ca)

    def kubeconfig_for(self, url: str, path: Path, *, token: str | None = None) -> Path:
        """Write a kubeconfig for a URL; an administrator's unless a token is given."""
        cluster = {"server": url, "certificate-authority": str(self.certificates.ca)}
        config: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "api",
            "contexts": [{"name": "api", "context": {"cluster": "api", "user": "user"}}],
            "clusters": [{"name": "api", "cluster": cluster}],
            "users": [{"name": "user", "user": {"token": token or self._token}}],
        }
        path.write_text(json.dumps(config, indent=1))
        path.chmod(0o600)
        return path

    def start(self, before_controllers: Callable[[Client], None] | None = None) -> None:
        """Start all three and wait until they work.

        Args:
            before_controllers: called once the API answers and before the controllers start. CRDs
                belong there: the garbage collector looks for new kinds only every 30 seconds.

        Raises:
            RuntimeError: a process ended; the message has the end of its log.
        """
        for attempt in range(1, START_ATTEMPTS + 1):
            try:
                self._start_once(before_controllers)
                return
            except PortTakenError:
                self.stop()
                if attempt == START_ATTEMPTS:
                    raise
            except BaseException:
                self.stop()
                raise

    def _start_once(self, before_controllers: Callable[[Client], None] | None) -> None:
        self._etcd_port, peer_port, self.port, manager_port = free_ports(4)
        etcd_url, peer_url = (f"http://127.0.0.1:{p}" for p in (self._etcd_port, peer_port))
        command: list[str | Path] = [binaries("api")["etcd"], "--data-dir", self.folder / "etcd"]
        command += ["--unsafe-no-fsync", "--log-level", "warn"]
        command += ["--listen-client-urls", etcd_url, "--advertise-client-urls", etcd_url]
        command += ["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url]
        self._etcd.start([*command, "--initial-cluster", f"default={peer_url}"])
        self.start_api()
        self.kubeconfig_for(self.url, self.kubeconfig)
        if before_controllers is not None:
            before_controllers(self.client())
        self._controllers.start(self._controllers_command(manager_port))
        # The controllers work once they have made this account.
        self.client().wait_for("ServiceAccount", "default", "default", timeout_s=START_TIMEOUT_S)
        self._check()

    def _controllers_command(self, port: int) -> list[str | Path]:
        files = self.certificates
        return [
            binaries("api")["kube-controller-manager"],
            *("--kubeconfig", self.kubeconfig),
            *("--bind-address", "127.0.0.1", "--secure-port", str(port)),
            *("--tls-cert-file", files.certificate, "--tls-private-key-file", files.key),
            *("--service-account-private-key-file", files.service_account_key),
            *("--root-ca-file", files.ca),
            "--leader-elect=false",
            "--use-service-account-credentials=false",
            # Tests make and delete far more than a cluster of this size would.
            *("--kube-api-qps", "300", "--kube-api-burst", "600"),
        ]

    def start_api(self) -> None:
        """Start the API server, the first time or after `stop_api`, and wait until it is ready.

        From the main thread only: the process ends with the thread that started it.
        """
        files = self.certificates
        self._api.start(
            [
                binaries("api")["kube-apiserver"],
                *("--etcd-servers", f"http://127.0.0.1:{self._etcd_port}"),
                *("--bind-address", "127.0.0.1", "--secure-port", str(self.port)),
                *("--tls-cert-file", files.certificate, "--tls-private-key-file", files.key),
                *("--token-auth-file", self.folder / "tokens.csv"),
                *("--authorization-mode", "RBAC"),
                *("--service-cluster-ip-range", "10.0.0.0/16"),
                *("--service-account-issuer", "https://kubernetes.default.svc"),
                *("--service-account-key-file", files.service_account_key),
                *("--service-account-signing-key-file", files.service_account_key),
                # An outage in a test is to be short: by default a stop waits for open watches.
                "--shutdown-delay-duration=0s",
            ]
        )
        eventually(self._is_ready, START_TIMEOUT_S, interval_s=0.1)

    def stop_api(self, *, with_signal: signal.Signals = signal.SIGKILL) -> None:
        """Take the API away: connections break, and new ones are refused until `start_api`."""
        self._api.stop(with_signal=with_signal)

    def stop(self) -> None:
        """End all processes, the last one started first."""
        for daemon in reversed(self.daemons):
            daemon.stop()

    def report(self) -> str:
        """The ends of all logs, for a failure's report."""
        return "\n".join(f"--- {daemon.log}\n{daemon.tail()}" for daemon in self.daemons)

    def _check(self) -> None:
        for daemon in self.daemons:
            daemon.check()

    def _is_ready(self) -> bool:
        self._check()
        try:
            return self.client().request("GET", "/readyz").status == 200
        except OSError:
            return False
