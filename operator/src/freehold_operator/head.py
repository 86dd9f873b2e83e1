"""Speaks to clusters' control services: one watched stream a cluster, and the few calls it is told
by.

The connection trusts the cluster's own CA alone and pins the control service's name, whatever
address it is reached at; the token goes with each call. A stream that is silent for longer than the
service promises counts as broken: the report is gone, and nothing that needs the head is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import msgspec

from freehold_operator._proto import control_pb2 as pb
from freehold_operator.actions import Drain, SetGroups, TellEnded
from freehold_operator.errors import HeadError
from freehold_operator.facts import DemandFacts, HeadReport, NodeFacts

SILENCE_S = 25.0
"""The service sends a frame at least every 10 s."""

CALL_TIMEOUT_S = 10.0
RETRY_FIRST_S, RETRY_GROWTH, RETRY_MAX_S = 0.2, 1.25, 5.0
"""Between tries to reach a head: it is found a quarter later than it could be, at the most."""

FRAME_BYTES_MAX = 64 << 20
"""A cluster of thousands of nodes in one frame."""

_SERVICE = "/freehold.v1.Control"
_log = logging.getLogger(__name__)

ClusterKey = tuple[str, str]


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """How a head is reached and believed."""

    address: str
    tls_name: str
    token: str
    ca: bytes


def report_of(state: pb.ClusterState, received: float) -> HeadReport:
    """A frame as facts."""
    nodes = tuple(
        NodeFacts(
            id=node.id,
            name=node.name,
            state=pb.NodeState.Name(node.state).removeprefix("NODE_STATE_"),
            is_head=node.is_head,
            idle_s=node.idle_s,
            actors=node.actors,
            drivers=node.drivers,
            reason=node.reason,
            total=dict(node.total),
        )
        for node in state.nodes
    )
    demand = tuple(
        DemandFacts(
            resources=dict(one.resources),
            labels=dict(one.labels),
            queued=one.queued,
            running=one.running,
            oldest_s=one.oldest_s,
            infeasible=one.infeasible,
            reason=one.reason,
        )
        for one in state.demand
    )
    return HeadReport(
        incarnation=state.head_incarnation, nodes=nodes, demand=demand, received=received
    )


def differs(old: HeadReport | None, new: HeadReport) -> bool:
    """Whether a plan could come out differently; that time passes is the plan's own business."""

    def gist(report: HeadReport) -> object:
        nodes = [(n.id, n.state, n.idle_s > 0, n.actors, n.drivers) for n in report.nodes]
        work = [(d.resources, d.labels, d.queued, d.running, d.infeasible) for d in report.demand]
        return report.incarnation, nodes, work

    return old is None or gist(old) != gist(new)


class _Head:
    """One cluster's control service."""

    def __init__(
        self,
        access: Callable[[], Awaitable[Access]],
        changed: Callable[[], None],
        period_ms: int,
        clock: Callable[[], float],
    ) -> None:
        self._access = access
        self._changed = changed
        self._period_ms = period_ms
        self._clock = clock
        self._channel: grpc.aio.Channel | None = None
        self._token = ""
        self._kick = asyncio.Event()
        self._told: tuple[int, str] = (-1, "")
        self.report: HeadReport | None = None
        self.task = asyncio.create_task(self._run())

    def kick(self) -> None:
        """Try again now: its pod has just begun to run, or become ready."""
        self._kick.set()

    async def _run(self) -> None:
        delay_s = RETRY_FIRST_S
        while True:
            try:
                await self._watch()
                delay_s = RETRY_FIRST_S
            except (TimeoutError, grpc.aio.AioRpcError, HeadError) as error:
                _log.debug("head: %s", error)
            if self.report is not None:
                self.report = None
                delay_s = RETRY_FIRST_S
                self._changed()
            self._kick.clear()
            try:
                await asyncio.wait_for(self._kick.wait(), delay_s)
                delay_s = RETRY_FIRST_S
            except TimeoutError:
                delay_s = min(delay_s * RETRY_GROWTH, RETRY_MAX_S)

    async def _watch(self) -> None:
        access = await self._access()
        self._token = access.token
        options = [
            ("grpc.ssl_target_name_override", access.tls_name),
            ("grpc.max_receive_message_length", FRAME_BYTES_MAX),
            ("grpc.keepalive_time_ms", 20_000),
            ("grpc.enable_retries", 0),
            # It is in the same Kubernetes cluster, whatever proxy the rest of the world is behind.
            ("grpc.enable_http_proxy", 0),
        ]
        credentials = grpc.ssl_channel_credentials(root_certificates=access.ca)
        async with grpc.aio.secure_channel(access.address, credentials, options=options) as channel:
            self._channel = channel
            try:
                await self._read(channel)
            finally:
                self._channel = None

    async def _read(self, channel: grpc.aio.Channel) -> None:
        call = channel.unary_stream(
            f"{_SERVICE}/WatchCluster",
            request_serializer=pb.WatchClusterRequest.SerializeToString,
            response_deserializer=pb.ClusterState.FromString,
        )(pb.WatchClusterRequest(period_ms=self._period_ms), metadata=self._metadata())
        try:
            while True:
                frame = await asyncio.wait_for(call.read(), SILENCE_S)
                if not isinstance(frame, pb.ClusterState):
                    return  # the end of the stream
                new = report_of(frame, self._clock())
                if self._told[0] == new.incarnation:
                    new = msgspec.structs.replace(new, groups_told=self._told[1])
                old, self.report = self.report, new
                if differs(old, new):
                    self._changed()
        finally:
            call.cancel()

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._token}"),)

    async def call(self, method: str, request: Any, answer: Any) -> Any:
        """One call.

        Raises:
            HeadError: the head is away, or refused it.
        """
        if self._channel is None:
            raise HeadError("the head does not answer")
        make = self._channel.unary_unary(
            f"{_SERVICE}/{method}",
            request_serializer=type(request).SerializeToString,
            response_deserializer=answer.FromString,
        )
        try:
            return await make(request, metadata=self._metadata(), timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            raise HeadError(f"{method}: {error.code().name}: {error.details()}") from None

    async def set_groups(self, action: SetGroups) -> None:
        """Tell it what nodes could be added."""
        incarnation = self.report.incarnation if self.report is not None else -1
        groups = [pb.Group(**group) for group in action.groups]
        await self.call("SetGroups", pb.SetGroupsRequest(groups=groups), pb.SetGroupsResponse)
        self._told = (incarnation, action.hash)
        if self.report is not None and self.report.incarnation == incarnation:
            self.report = msgspec.structs.replace(self.report, groups_told=action.hash)


class Heads:
    """The control services of all clusters.

    Args:
        changed: called with a cluster's key when its report has changed or is gone.
        period_ms: of reports, at most.
    """

    def __init__(
        self, changed: Callable[[ClusterKey], None], period_ms: int, clock: Callable[[], float]
    ) -> None:
        self._changed = changed
        self._period_ms = period_ms
        self._clock = clock
        self._heads: dict[ClusterKey, tuple[str, _Head]] = {}

    def watch(self, key: ClusterKey, uid: str, access: Callable[[], Awaitable[Access]]) -> None:
        """Keep a stream open to this cluster's head from now on."""
        known = self._heads.get(key)
        if known is not None and known[0] == uid:
            return
        self.forget(key)
        head = _Head(access, lambda: self._changed(key), self._period_ms, self._clock)
        self._heads[key] = (uid, head)

    def kick(self, key: ClusterKey) -> None:
        """Its head's pod has begun to run or become ready: do not wait until the next try."""
        if key in self._heads:
            self._heads[key][1].kick()

    def forget(self, key: ClusterKey) -> None:
        """Close the stream of a cluster that is gone or suspended."""
        known = self._heads.pop(key, None)
        if known is not None:
            known[1].task.cancel()

    def report(self, key: ClusterKey) -> HeadReport | None:
        """What it said last; None if it is away."""
        known = self._heads.get(key)
        return known[1].report if known is not None else None

    def connected(self) -> int:
        """How many report."""
        return sum(head.report is not None for _, head in self._heads.values())

    def _head(self, key: ClusterKey) -> _Head:
        if key not in self._heads:
            raise HeadError("the head is not watched")
        return self._heads[key][1]

    async def drain(self, key: ClusterKey, action: Drain) -> str:
        """Ask for a drain; why it was refused, or nothing."""
        reasons = pb.DrainNodeRequest
        request = pb.DrainNodeRequest(
            node=action.node,
            reason=reasons.REASON_IDLE if action.is_idle else reasons.REASON_REQUESTED,
            deadline_s=action.deadline_s,
            message=f"operator: {action.why}",
        )
        answer = await self._head(key).call("DrainNode", request, pb.DrainNodeResponse)
        return "" if answer.accepted else answer.refusal or "refused"

    async def node_ended(self, key: ClusterKey, action: TellEnded) -> None:
        """Tell a head that a node's process has ended."""
        request = pb.NodeEndedRequest(node=action.node, reason=action.why)
        await self._head(key).call("NodeEnded", request, pb.NodeEndedResponse)

    async def set_groups(self, key: ClusterKey, action: SetGroups) -> None:
        """Tell a head what nodes could be added."""
        await self._head(key).set_groups(action)

    async def close(self) -> None:
        """Close all streams."""
        tasks = [head.task for _, head in self._heads.values()]
        for key in list(self._heads):
            self.forget(key)
        await asyncio.gather(*tasks, return_exceptions=True)
