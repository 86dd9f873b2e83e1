"""The control service: who is in the cluster, where its actors are, and which jobs run.

Place in the flow: node managers send it what concerns the whole cluster (`handle`), and it answers
through the `NodeLink` each joined with; in its own process that is a direct call put off to the
next turn, else a connection. Clients and the operator ask through whoever serves them. It decides
nothing itself: `Membership`, `ActorDirectory` and `JobTable` do. It knows nodes, actors, jobs and
their processes; never a task or an object.

With a `StateDb` it takes up what an earlier control service of the cluster kept, keeps what
changes, and tells nobody what is not kept yet.
"""

from __future__ import annotations

import functools
import itertools
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from freehold._core import messages as m
from freehold._core.actors import events as actor_events
from freehold._core.actors.directory import ActorDirectory
from freehold._core.ids import Address
from freehold._core.jobs import events as job_events
from freehold._core.jobs.machine import JobTable
from freehold._core.limits import DEATH_SILENCE_S, HEIRS, LAST_WORDS_S
from freehold._core.membership import events as member_events
from freehold._core.membership.machine import Membership
from freehold._core.membership.recent import RecentEnds
from freehold._io import clock
from freehold._io.reactor import Reactor
from freehold._processes.control.cluster_state import ClusterState, shown_jobs, sum_demand, view_of
from freehold._processes.control.outgoing import Outgoing
from freehold.errors import HeadStateError

if TYPE_CHECKING:
    from freehold._io.state_db import Record, StateDb

Send = Callable[[m.Message], None]
OnDrain = Callable[[member_events.AnswerDrain], None]
OnBegin = Callable[[job_events.AnswerBegin], None]


class NodeLink:
    """The way to one node manager, and the watch over its process."""

    def __init__(self, info: m.NodeInfo, send: Send, *, is_remote: bool = False) -> None:
        self.info = info
        self.send = send
        self.is_remote = is_remote
        """Whether it may be on another machine: its process is not watched, its silence counts."""
        self.pidfd = -1
        self.is_connected = True
        self.draining = ""
        """Why it drains, if it does."""
        self.ended = ""
        """How its process ended, if somebody has seen that: it is dead once all it said is read."""


class ControlService:
    """One per cluster, in its first node process.

    Args:
        own_node: the id of the node that it lives in.
        db: what outlives it; None on one machine, where the cluster ends with it.
        cluster: the cluster's id, which the database must be of.
        head_incarnation: one more with each start of this cluster's control service.

    Raises:
        HeadStateError: the database is another cluster's, or cannot be understood.
    """

    def __init__(
        self,
        reactor: Reactor,
        own_node: str,
        *,
        db: StateDb | None = None,
        cluster: str = "",
        head_incarnation: int = 0,
    ) -> None:
        self._reactor = reactor
        self._own_node = own_node
        self._db = db
        self._cluster = cluster
        self._head_incarnation = head_incarnation
        self._started = clock.now()
        self._links: dict[str, NodeLink] = {}
        self._out = Outgoing(reactor, db)
        self._ends = RecentEnds()
        self._heirs: dict[Address, m.ProcessDied] = {}  # for nodes that join later
        self._numbers = itertools.count(1)
        self._asking: dict[int, Any] = {}
        """Questions of clients by number → who is told the answer."""
        self._granted = 0
        self.membership = Membership()
        self.directory = ActorDirectory(keeps=db is not None)
        self.jobs = JobTable()
        self.on_change: Callable[[list[m.NodeInfo]], None] = lambda nodes: None
        """Is told of nodes that changed, joined or died."""
        self._member_alarm = clock.MachineAlarm(
            reactor, lambda: self._member(member_events.DeadlineReached())
        )
        self._actor_alarm = clock.MachineAlarm(
            reactor, lambda: self._actor(actor_events.DeadlineReached())
        )
        self._handlers: dict[type, Callable[[str, Any], None]] = {
            m.NodeReported: self._reported,
            m.FromProcess: self._from_process,
            m.ActorStarted: self._actor_reported,
            m.ActorEnded: self._actor_reported,
            m.ActorLeft: self._actor_reported,
            m.PlacementFailed: self._placement_failed,
            m.ProcessGone: self._process_gone,
            m.Heartbeat: self._heartbeat,
            m.DrainAnswered: self._drain_answered,
            m.DriverAttached: self._driver_attached,
            m.ShutDown: self._left,
        }
        self._doers: dict[type, Callable[[Any], None]] = {
            member_events.PushView: self._push_view,
            member_events.TellDead: lambda e: self._send(e.target, m.DeadNodes(e.nodes)),
            member_events.DeclareDead: self._declare_dead,
            member_events.RefuseNode: self._refuse,
            member_events.AskDrain: lambda e: self._send(e.node, e.message),
            member_events.AnswerDrain: self._answer,
            member_events.AnswerQuery: self._answer_query,
            member_events.NotifyChange: self._notify_change,
            member_events.KeepGroups: lambda e: self._actor(actor_events.GroupsSet(e.groups)),
            member_events.GrantIncarnation: self._grant,
            actor_events.PlaceActorOn: self._place,
            actor_events.Unplace: self._unplace,
            actor_events.MoveActorFrom: self._move,
            actor_events.Tell: lambda e: self._tell(e.address, e.message),
            job_events.AnswerBegin: self._answer,
        }
        self._records_of: Callable[[Any], list[Record]] | None = None
        if db is not None:
            self._restore(db)
        else:
            # Nodes count on the grace after every start: see `fencing`.
            self._member(member_events.Restored([]))

    def _restore(self, db: StateDb) -> None:
        # Not on one machine: there it would be imported for nothing.
        from freehold._processes.control.keeping import read_saved, records_of

        self._records_of = records_of
        saved = read_saved(db, self._cluster)
        restored = member_events.Restored(saved.nodes, saved.groups, saved.incarnation)
        # The directory first: what membership tells it of is not news of before.
        nodes = [info for info in saved.nodes if info.is_alive]
        self._actor(actor_events.Restored(saved.actors, saved.dead_actors, nodes, saved.groups))
        living = [(info.node, info.incarnation) for info in nodes]
        self._job(job_events.Restored(saved.jobs, living, _unix_ms()))
        self._member(restored)

    def close(self) -> None:
        """Give back what it holds; what is to be kept is written."""
        for link in self._links.values():
            self._unwatch(link)
        if self._db is not None:
            self._out.flush()
            self._db.close()

    # ---- nodes -----------------------------------------------------------------------------------

    def join(
        self, message: m.NodeJoined, send: Send, *, is_remote: bool = False
    ) -> NodeLink | None:
        """A node manager reports its node; `send` is the way back to it.

        None if it is refused: it was told, and is not listened to. Of a remote one the process
        cannot be watched: its silence counts.
        """
        info = message.info
        if self.membership.is_refused(info.node, info.incarnation):
            send(_refusal(NodeLink(info, send, is_remote=is_remote), "it was declared dead"))
            return None
        link = NodeLink(info, send, is_remote=is_remote)
        old = self._links.get(info.node)
        if old is not None:
            self._unwatch(old)
        self._links[info.node] = link
        if info.node != self._own_node and not is_remote:
            self._watch(link)
        # Membership paces its views; a new node is told at once, and before it is told that it has
        # joined: what needs it must not be called infeasible for a second. But not before it is
        # kept: a head that comes back without it would never declare it dead.
        self._carry_out([member_events.KeepNode(info)])
        for node in self._links:
            if node != info.node:
                self._send(node, m.ClusterView([info]))
        for died in self._ends.since(clock.now(), info.node):
            self._send(info.node, died)
        for gone in message.gone:
            self._tell_process_died(info.node, gone)
        # Before membership tells the directory that there is room: what is placed there from then
        # on the node cannot have named.
        self._actor(
            actor_events.NodeReturned(
                info.node,
                info.incarnation,
                message.actors,
                message.processes,
                message.reports,
                message.gone,
            )
        )
        self._member(message)
        for died in self._heirs.values():
            if died.address.node != info.node:
                self._send(info.node, died)
        for gone in message.gone:
            self._job(job_events.DriverWent(gone, _unix_ms()))
        self._job(
            job_events.NodeReturned(info.node, info.incarnation, message.processes, _unix_ms())
        )
        return link

    def handle(self, node: str, message: m.Message) -> None:
        """Take a message of a joined node manager."""
        handler = self._handlers.get(type(message))
        link = self._links.get(node)
        if handler is not None and link is not None:
            if link.is_remote:
                self.heard(node)
            handler(node, message)

    def heard(self, node: str) -> None:
        """A joined node is there, whatever it said."""
        link = self._links.get(node)
        if link is None:
            return
        self._member(member_events.NodeHeard(node, link.info.incarnation))
        if not link.is_connected:
            link.is_connected = True
            self._actor(actor_events.NodeAway(node, is_away=False))

    def disconnected(self, node: str) -> None:
        """A node manager's connection ended; it is dead when its process is, or stays silent."""
        link = self._links.get(node)
        if link is None:
            return
        link.is_connected = False
        if link.ended:
            self._lost(link, link.ended)
            return
        if link.is_remote:
            self._actor(actor_events.NodeAway(node))
            return
        if link.pidfd < 0:
            self._lost(link, "its connection ended and its process is gone")
            return
        self._reactor.call_later(DEATH_SILENCE_S, lambda: self._silent(link))

    def lose(self, node: str, reason: str) -> None:
        """A node is gone for good."""
        link = self._links.get(node)
        if link is not None:
            self._lost(link, reason)

    def next_incarnation(self, node: str) -> int:
        """A node enrolls: an incarnation above all that any node ever had.

        It is on the disk when this returns, which a node's start can wait for.

        Raises:
            HeadStateError: the disk does not take it.
        """
        self._member(member_events.NodeEnrolled(node))
        if self._db is not None:
            self._out.flush()
            if not self._db.settle():
                raise HeadStateError(path=self._db.path, reason=self._db.problem or "it is slow")
        return self._granted

    def _watch(self, link: NodeLink) -> None:
        try:
            link.pidfd = os.pidfd_open(link.info.pid)
        except OSError:
            return  # it has ended already: its connection says so
        self._reactor.register(link.pidfd, lambda _events: self._ended(link))

    def _unwatch(self, link: NodeLink) -> None:
        if link.pidfd >= 0:
            self._reactor.unregister(link.pidfd)
            os.close(link.pidfd)
            link.pidfd = -1

    def _ended(self, link: NodeLink) -> None:
        self._unwatch(link)
        # What it sent before may still be unread; the connection's end comes behind it.
        if not link.is_connected:
            self._lost(link, "its node process ended")

    def _silent(self, link: NodeLink) -> None:
        if self._links.get(link.info.node) is link and not link.is_connected:
            self._lost(link, f"it was silent for {DEATH_SILENCE_S:g} s")

    def _lost(self, link: NodeLink, reason: str) -> None:
        self._unwatch(link)
        info = link.info
        if link.draining and not link.is_remote:  # which says so itself
            reason = f"it was drained: {link.draining}"
        if self._links.get(info.node) is link:
            self._member(member_events.NodeLost(info.node, reason, info.incarnation))

    def _reported(self, node: str, message: m.NodeReported) -> None:
        self._links[node].draining = message.reason if message.state != "alive" else ""
        self._member(message)

    # ---- clients and the operator ----------------------------------------------------------------

    def cluster_state(self) -> ClusterState:
        """The cluster now."""
        statuses = self.membership.nodes(clock.now())
        return ClusterState(
            cluster=self._cluster,
            head_incarnation=self._head_incarnation,
            nodes=[view_of(status) for status in statuses],
            demand=sum_demand(statuses),
            jobs=shown_jobs(self.jobs.records()),
            problem=self._db.problem if self._db is not None else "",
        )

    def drain(
        self, node: str, *, is_idle_only: bool, deadline_s: float, reason: str, then: OnDrain
    ) -> None:
        """Have a node (by id, its beginning, or name) drained; `then(answer)` is called once."""
        number = self._ask(then)
        self._member(member_events.DrainAsked(number, node, is_idle_only, deadline_s, reason))

    def node_ended(self, node: str, reason: str) -> str:
        """Somebody has seen that a node's process has ended, be it one that has not come back; why
        that is not taken, if it is not."""
        link = self._links.get(node)
        if link is None:
            self._member(member_events.NodeLost(node, reason))
        elif not link.is_remote:
            return "it is on the head's own machine, where the head sees its process"
        elif link.is_connected:
            # What it said last may still be unread: that comes by another way than this.
            link.ended = reason
            self._reactor.call_later(LAST_WORDS_S, lambda: self._lost(link, reason))
        else:
            self._lost(link, reason)
        return ""

    def set_groups(self, groups: list[m.NodeGroup], then: Callable[[], None]) -> None:
        """What nodes could be added, in place of what was said before."""
        self._member(member_events.GroupsSet(groups))
        self._out.do(then)

    def begin_job(self, job: str, attempt: int, node: str, entrypoint: str, then: OnBegin) -> None:
        """An attempt wants to begin on a node; `then(answer)` is called once."""
        number = self._ask(then)
        link = self._links.get(node)
        if link is None:
            refusal = f"node {node[:12]} has not joined this cluster"
            self._answer(job_events.AnswerBegin(number, False, refusal))
            return
        incarnation = link.info.incarnation
        self._job(
            job_events.BeginAsked(number, job, attempt, node, incarnation, entrypoint, _unix_ms())
        )

    def end_job(
        self, job: str, attempt: int, exit_code: int, message: str, then: Callable[[], None]
    ) -> None:
        """An attempt has ended; `then()` when that will not be forgotten."""
        self._job(job_events.EndTold(job, attempt, exit_code, message, _unix_ms()))
        self._out.do(then)

    def _ask(self, then: Any) -> int:
        number = next(self._numbers)
        self._asking[number] = then
        return number

    def _answer(self, effect: Any) -> None:
        then = self._asking.pop(effect.request, None)
        if then is not None:
            self._out.do(lambda: then(effect))

    # ---- messages --------------------------------------------------------------------------------

    def _from_process(self, node: str, message: m.FromProcess) -> None:
        inner = message.message
        if isinstance(inner, m.ClusterQuery):
            self._member(member_events.ClusterQueried(message.source, inner.request))
        else:
            self._actor(message)

    def _actor_reported(
        self, node: str, message: m.ActorStarted | m.ActorEnded | m.ActorLeft
    ) -> None:
        self._actor(message)

    def _placement_failed(self, node: str, message: m.PlacementFailed) -> None:
        self._actor(
            actor_events.PlacementRejected(
                node, message.actor, message.restart, message.reason, message.is_final
            )
        )

    def _process_gone(self, node: str, message: m.ProcessGone) -> None:
        self._tell_process_died(node, message)
        self._actor(message)
        self._job(job_events.DriverWent(message, _unix_ms()))

    def _tell_process_died(self, node: str, message: m.ProcessGone) -> None:
        died = m.ProcessDied(message.address, message.cause, message.heir)
        if message.heir is not None:
            self._heirs[message.address] = died
            if len(self._heirs) > HEIRS:
                del self._heirs[next(iter(self._heirs))]
        link = self._links[node]
        if link.is_remote:
            self._ends.add(died, clock.now())
        for other in self._links:
            if other != node:
                self._send(other, died)

    def _heartbeat(self, node: str, message: m.Heartbeat) -> None:
        uptime_s = clock.now() - self._started
        self._send(node, m.HeartbeatAnswered(message.number, self._head_incarnation, uptime_s))

    def _drain_answered(self, node: str, message: m.DrainAnswered) -> None:
        self._member(member_events.NodeAnsweredDrain(node, message))

    def _driver_attached(self, node: str, message: m.DriverAttached) -> None:
        self._job(job_events.DriverCame(message, _unix_ms()))

    def _left(self, node: str, message: m.ShutDown) -> None:
        self.lose(node, message.reason or "it ended")

    # ---- machines --------------------------------------------------------------------------------

    def _member(self, event: member_events.MembershipEvent) -> None:
        self._carry_out(self.membership.handle(event, now=clock.now()))
        self._member_alarm.arm(self.membership.next_deadline())

    def _actor(self, event: actor_events.ActorEvent) -> None:
        self._carry_out(self.directory.handle(event, now=clock.now()))
        self._actor_alarm.arm(self.directory.next_deadline())

    def _job(self, event: job_events.JobEvent) -> None:
        self._carry_out(self.jobs.handle(event, now=clock.now()))

    def _carry_out(self, effects: Any) -> None:
        for effect in effects:
            if self._records_of is not None:
                self._out.keep(self._records_of(effect))
            doer = self._doers.get(type(effect))
            if doer is not None:
                doer(effect)

    def _push_view(self, effect: member_events.PushView) -> None:
        self._send(effect.target, m.ClusterView(effect.nodes, effect.groups))

    def _declare_dead(self, effect: member_events.DeclareDead) -> None:
        died = m.NodeDied(effect.node, effect.incarnation, effect.reason)
        link = self._links.get(effect.node)
        if link is not None and link.info.incarnation == effect.incarnation:
            if link.is_remote:
                self._send(effect.node, m.Fenced(effect.incarnation, effect.reason))
            self._unwatch(link)
            del self._links[effect.node]
        for node in self._links:
            if node != effect.node:
                self._send(node, died)
        self._actor(died)
        self._job(job_events.NodeWent(died, _unix_ms()))

    def _refuse(self, effect: member_events.RefuseNode) -> None:
        link = self._links.get(effect.node)
        if link is not None:
            self._send(effect.node, _refusal(link, effect.reason))

    def _answer_query(self, effect: member_events.AnswerQuery) -> None:
        answer = m.ClusterReply(effect.request, effect.nodes)
        self._send(effect.target.node, m.ToProcess(effect.target, answer))

    def _notify_change(self, effect: member_events.NotifyChange) -> None:
        self._actor(actor_events.ViewChanged(effect.nodes))
        self.on_change(effect.nodes)

    def _grant(self, effect: member_events.GrantIncarnation) -> None:
        self._granted = effect.incarnation

    def _place(self, effect: actor_events.PlaceActorOn) -> None:
        self._send(effect.node, m.PlaceActor(effect.spec, effect.restart))

    def _unplace(self, effect: actor_events.Unplace) -> None:
        self._send(
            effect.node,
            m.UnplaceActor(effect.actor, effect.restart, effect.grace_s, effect.reason),
        )

    def _move(self, effect: actor_events.MoveActorFrom) -> None:
        self._send(
            effect.node,
            m.MoveActor(effect.actor, effect.restart, effect.callers, effect.reason),
        )

    def _tell(self, address: Address, message: m.ControlAnswer) -> None:
        self._send(address.node, m.ToProcess(address, message))

    def _send(self, node: str, message: m.Message) -> None:
        link = self._links.get(node)
        if link is not None:
            if self._db is None:
                link.send(message)
            else:
                self._out.do(functools.partial(link.send, message))


def _refusal(link: NodeLink, reason: str) -> m.Message:
    """What a node hears that may not come (back) under its incarnation."""
    if link.is_remote:
        return m.Fenced(link.info.incarnation, reason)
    return m.ShutDown(reason)


def _unix_ms() -> int:
    """For people to read; nothing is decided by it."""
    return time.time_ns() // 1_000_000
