"""A cluster's control service as the operator sees it: real gRPC, real TLS, a scripted state.

Its certificate is signed with the CA from the Secret that the operator made, under the name that
the operator has to pin; a call without the token is refused. Nodes follow the worker pods that are
ready.
"""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.api.client import Client

from freehold.testing import eventually
from freehold_operator._proto import control_pb2 as pb

PERIOD_S = 0.1
FRAME_S = 8.0
"""A frame comes at least every 10 s: silence means a dead connection."""
ALIVE, DRAINING, DRAINED, DEAD = 1, 2, 3, 4


def _leaf(ca_pem: bytes, key_pem: bytes, name: str) -> tuple[bytes, bytes]:
    ca = x509.load_pem_x509_certificate(ca_pem)
    ca_key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(pem), private


class FakeHead:
    """A control service on a port of loopback, for one cluster.

    Attributes:
        demand: what is reported; change it under `lock`.
        drained_after_s: how long a drain takes; None: for ever.
        refuses_idle: idle drains are refused, as a node does that has got work.
        is_busy: whether nodes are in use; else they have been idle since they joined.
        drains: all that were asked for, by node's name, with the reason.
        groups: what was told last.
        hears_ends: nodes are dead as soon as their pods are not ready; else when it is told.
        ended: the nodes whose end it was told of, with the reason.
    """

    def __init__(self, client: Client, namespace: str, cluster: str, port: int) -> None:
        self._client = client
        self._namespace = namespace
        self._cluster = cluster
        self._port = port
        self._stop = threading.Event()
        self._server: grpc.Server | None = None
        self._token = ""
        self._pods: dict[str, str] = {}
        self._states: dict[str, int] = {}
        self._joined: dict[str, float] = {}
        self._drain_done: dict[str, float] = {}
        self._incarnation = 0
        self.lock = threading.Lock()
        self.demand: list[pb.Demand] = []
        self.drained_after_s: float | None = 0.2
        self.refuses_idle = False
        self.is_busy = False
        self.actors: dict[str, int] = {}
        self.idle_for_s = 0.0
        self.drains: list[tuple[str, str]] = []
        self.groups: list[pb.Group] = []
        self.hears_ends = True
        self.ended: list[tuple[str, str]] = []
        self.refused = 0
        self._watching = threading.Thread(target=self._watch_pods)

    def __enter__(self) -> Self:
        self._watching.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self.stop()
        self._watching.join()

    def start(self) -> None:
        """Serve, once the operator has made the Secrets; again under the next incarnation."""
        ca = self._secret(f"{self._cluster}-ca")
        auth = self._secret(f"{self._cluster}-auth")
        self._token = auth["token"].decode()
        uid = self._client.get("FuturesCluster", self._cluster, self._namespace)["metadata"]["uid"]
        cluster_id = hashlib.sha256(uid.encode()).hexdigest()[:12]
        leaf, key = _leaf(ca["ca.crt"], ca["ca.key"], f"control.{cluster_id}.freehold.invalid")
        self._incarnation += 1
        server = grpc.server(futures.ThreadPoolExecutor(8))
        server.add_generic_rpc_handlers((self._handlers(),))
        credentials = grpc.ssl_server_credentials([(key, leaf)])
        assert server.add_secure_port(f"127.0.0.1:{self._port}", credentials) == self._port
        server.start()
        self._server = server

    def stop(self) -> None:
        """Be away."""
        server, self._server = self._server, None
        if server is not None:
            server.stop(0).wait(10)

    def set_demand(self, queued: int = 0, running: int = 0, **resources: float) -> None:
        """Report work of one shape; one CPU a task unless told otherwise."""
        shape = resources or {"CPU": 1.0}
        one = pb.Demand(resources=shape, queued=queued, running=running, oldest_s=1.0)
        with self.lock:
            self.demand = [one] if queued or running else []

    def states(self) -> dict[str, int]:
        """The nodes that joined, by name."""
        with self.lock:
            return dict(self._states)

    def _secret(self, name: str) -> dict[str, bytes]:
        found = self._client.wait_for("Secret", name, self._namespace)
        return {key: base64.b64decode(value) for key, value in found["data"].items()}

    def _watch_pods(self) -> None:
        """Nodes are the worker pods that are ready; one that is gone is dead."""
        labels = f"freehold.dev/cluster={self._cluster},freehold.dev/role=worker"
        while not self._stop.wait(PERIOD_S):
            try:
                pods = self._client.objects("Pod", self._namespace, labels=labels)
            except OSError:
                continue
            ready = {
                pod["metadata"]["name"]
                for pod in pods
                if any(
                    c["type"] == "Ready" and c["status"] == "True"
                    for c in pod.get("status", {}).get("conditions", ())
                )
            }
            with self.lock:
                for name in ready - self._states.keys():
                    self._states[name] = ALIVE
                    self._joined[name] = time.monotonic()
                for name in self._states.keys() - ready if self.hears_ends else ():
                    self._states[name] = DEAD
                for name, at in list(self._drain_done.items()):
                    if time.monotonic() >= at and self._states.get(name) == DRAINING:
                        self._states[name] = DRAINED

    def _state(self) -> pb.ClusterState:
        with self.lock:
            nodes = []
            for name, state in self._states.items():
                idle_s = time.monotonic() - self._joined[name] + self.idle_for_s + 0.001
                nodes.append(
                    pb.Node(
                        id=hashlib.sha256(name.encode()).hexdigest()[:32],
                        name=name,
                        state=state,  # type: ignore[arg-type]
                        idle_s=0.0 if self.is_busy or self.actors.get(name) else idle_s,
                        actors=self.actors.get(name, 0),
                    )
                )
            return pb.ClusterState(
                cluster="x",
                head_incarnation=self._incarnation,
                nodes=nodes,
                demand=self.demand,
            )

    def _allow(self, context: Any) -> None:
        given = dict(context.invocation_metadata()).get("authorization", "")
        if given != f"Bearer {self._token}":
            self.refused += 1
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no or a wrong token")

    def _watch(self, request: pb.WatchClusterRequest, context: Any) -> Iterator[pb.ClusterState]:
        self._allow(context)
        server, last, sent = self._server, None, 0.0
        while context.is_active() and self._server is server and not self._stop.is_set():
            state = self._state()
            gist = (
                [(n.name, n.state, n.idle_s > 0, n.actors) for n in state.nodes],
                list(state.demand),
            )
            if gist != last or time.monotonic() - sent > FRAME_S:
                last, sent = gist, time.monotonic()
                yield state
            self._stop.wait(PERIOD_S)

    def _drain(self, request: pb.DrainNodeRequest, context: Any) -> pb.DrainNodeResponse:
        self._allow(context)
        with self.lock:
            ids = {hashlib.sha256(n.encode()).hexdigest()[:32]: n for n in self._states}
            name = ids.get(request.node, request.node)
            reason = "idle" if request.reason == pb.DrainNodeRequest.REASON_IDLE else "requested"
            self.drains.append((name, reason))
            if name not in self._states:
                context.abort(grpc.StatusCode.NOT_FOUND, f"no node {name}")
            if reason == "idle" and self.refuses_idle:
                return pb.DrainNodeResponse(accepted=False, refusal="it is not idle any more")
            if self._states[name] == ALIVE:
                self._states[name] = DRAINING
                if self.drained_after_s is not None:
                    self._drain_done[name] = time.monotonic() + self.drained_after_s
            return pb.DrainNodeResponse(accepted=True, state=self._states[name])  # type: ignore[arg-type]

    def _set_groups(self, request: pb.SetGroupsRequest, context: Any) -> pb.SetGroupsResponse:
        self._allow(context)
        with self.lock:
            self.groups = list(request.groups)
        return pb.SetGroupsResponse()

    def _node_ended(self, request: pb.NodeEndedRequest, context: Any) -> pb.NodeEndedResponse:
        self._allow(context)
        with self.lock:
            ids = {hashlib.sha256(n.encode()).hexdigest()[:32]: n for n in self._states}
            if request.node not in ids:
                context.abort(grpc.StatusCode.NOT_FOUND, f"no node {request.node}")
            self._states[ids[request.node]] = DEAD
            self.ended.append((ids[request.node], request.reason))
        return pb.NodeEndedResponse()

    def _handlers(self) -> grpc.GenericRpcHandler:
        def unary(method: Callable[[Any, Any], Any], request: Any, answer: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                method, request.FromString, answer.SerializeToString
            )

        return grpc.method_handlers_generic_handler(
            "freehold.v1.Control",
            {
                "WatchCluster": grpc.unary_stream_rpc_method_handler(
                    self._watch,
                    pb.WatchClusterRequest.FromString,
                    pb.ClusterState.SerializeToString,
                ),
                "DrainNode": unary(self._drain, pb.DrainNodeRequest, pb.DrainNodeResponse),
                "NodeEnded": unary(self._node_ended, pb.NodeEndedRequest, pb.NodeEndedResponse),
                "SetGroups": unary(self._set_groups, pb.SetGroupsRequest, pb.SetGroupsResponse),
            },
        )

    def start_when_ready(self) -> None:
        """Serve as soon as the Secrets are there."""
        eventually(
            lambda: (
                self._client.find("Secret", f"{self._cluster}-auth", self._namespace) is not None
            ),
            20.0,
            interval_s=0.02,
        )
        self.start()
