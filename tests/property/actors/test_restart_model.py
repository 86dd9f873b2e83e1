"""The actor directory dies after any prefix of an event's effects and goes on from its volume.

A naive cluster of two nodes holds the truth: which placements are there, which have processes, who
asked what and was not answered. Safety: an actor never has two processes that nobody is ending, and
no restart twice. Liveness at the end: every actor lives where the directory says, or is dead, and
its owner has heard which; all requests were answered.
"""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from freehold._core.actors import events as ev
from freehold._core.actors.directory import ActorDirectory
from freehold._core.actors.events import ActorLife
from freehold._core.ids import Address
from freehold._core.messages import (
    ActorEnded,
    ActorOptions,
    ActorRegistered,
    ActorSpec,
    ActorStarted,
    ActorState,
    ExitCause,
    FromProcess,
    KillActor,
    LivingActor,
    NodeInfo,
    OwnerInfo,
    ProcessGone,
    RegisterActor,
    ReleaseActor,
)
from freehold._core.resources import UNIT, make_shape

NODES = ["a" * 32, "b" * 32]
Placement = tuple[bytes, int]
encode = msgspec.msgpack.encode


class Crash(Exception):
    pass


class Node:
    """The truth about one node."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.there: dict[Placement, Address | None] = {}
        """Placements, with the address of those whose constructor ran."""
        self.ever: set[Placement] = set()
        self.ending: set[Placement] = set()
        self.processes = [1, 2]
        self.unheard: list[Any] = []
        """Reports and orders that the directory may not have taken."""
        self.gone: list[ProcessGone] = []
        self.open: dict[int, FromProcess] = {}
        """Questions that were not answered."""


class RestartModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.nodes = {name: Node(name) for name in NODES}
        self.volume: dict[tuple[str, bytes], bytes] = {}
        self.directory: ActorDirectory | None = None
        self.crash_in: int | None = None
        self.heard: dict[bytes, str] = {}
        self.specs: dict[bytes, ActorSpec] = {}
        self.released: set[bytes] = set()
        self.kills: dict[tuple[str, int], int] = {}
        self.last = 0
        self.head_returns()

    # ---- the head ----------------------------------------------------------------------------

    def tell(self, event: ev.ActorEvent) -> bool:
        """Whether the directory lived to the end of it."""
        if self.directory is None:
            return False
        try:
            for effect in self.directory.handle(event, now=self.now):
                if self.crash_in is not None:
                    self.crash_in -= 1
                    if self.crash_in < 0:
                        raise Crash
                self.carry_out(effect)
        except Crash:
            self.directory = None
            self.crash_in = None
            return False
        self.directory.check_invariants()
        self.check_volume()
        return True

    def carry_out(self, effect: ev.ActorEffect) -> None:
        if isinstance(effect, ev.KeepActor):
            self.volume["life", effect.actor] = encode(effect.life)
            if effect.spec is not None:
                self.volume["spec", effect.actor] = encode(effect.spec)
        elif isinstance(effect, ev.KeepDead | ev.ForgetActor):
            self.volume.pop(("life", effect.actor), None)
            self.volume.pop(("spec", effect.actor), None)
            self.volume.pop(("dead", effect.actor), None)
            if isinstance(effect, ev.KeepDead):
                self.volume["dead", effect.actor] = encode(effect.state)
        elif isinstance(effect, ev.PlaceActorOn):
            self.place(effect)
        elif isinstance(effect, ev.Unplace):
            self.unplace(effect)
        else:
            self.hear(effect.address, effect.message)

    def place(self, effect: ev.PlaceActorOn) -> None:
        name = (effect.spec.actor, effect.restart)
        node = self.nodes[effect.node]
        if name in node.there:
            return  # said again: a node takes it once
        for other in self.nodes.values():
            assert name not in other.ever, f"{name} has a second process"
            for held in other.there:
                assert held[0] != name[0] or held in other.ending, "an actor has two processes"
        node.ever.add(name)
        node.there[name] = None

    def unplace(self, effect: ev.Unplace) -> None:
        name = (effect.actor, effect.restart)
        node = self.nodes[effect.node]
        if name in node.there:
            node.ending.add(name)

    def hear(self, address: Address, message: Any) -> None:
        node = self.nodes[address.node]
        if address.process not in node.processes:
            return
        if isinstance(message, ActorRegistered):
            node.open.pop(message.request, None)
        elif isinstance(message, ActorState):
            actor = message.info.actor
            if self.specs[actor].owner.address == address:
                assert self.heard.get(actor) != "dead" or message.info.state == "dead"
                self.heard[actor] = message.info.state

    def check_volume(self) -> None:
        """What is kept is what is, after every event."""
        assert self.directory is not None
        rows = self.directory.rows
        lives = {k: v for (kind, k), v in self.volume.items() if kind == "life"}
        assert lives == {actor: encode(row.life()) for actor, row in rows.items()}
        dead = {k for kind, k in self.volume if kind == "dead"}
        assert dead == set(self.directory.dead)

    @rule(count=st.integers(0, 6))
    def head_is_about_to_die(self, count: int) -> None:
        if self.directory is not None:
            self.crash_in = count

    @rule()
    def head_dies(self) -> None:
        self.directory = None
        self.crash_in = None

    @precondition(lambda self: self.directory is None)
    @rule(order=st.permutations(NODES), late=st.booleans())
    def nodes_find_the_head(self, order: list[str], late: bool) -> None:
        self.head_returns(order, late)

    def head_returns(self, order: list[str] | None = None, late: bool = False) -> None:
        self.directory = ActorDirectory(keeps=True)
        lives = {k: v for (kind, k), v in self.volume.items() if kind == "life"}
        actors = [
            (
                msgspec.msgpack.decode(self.volume["spec", actor], type=ActorSpec),
                msgspec.msgpack.decode(life, type=ActorLife),
            )
            for actor, life in lives.items()
        ]
        dead = [
            msgspec.msgpack.decode(value, type=ActorState)
            for (kind, _), value in self.volume.items()
            if kind == "dead"
        ]
        infos = [self.info(name) for name in NODES]
        self.tell(ev.Restored(actors, dead, infos))
        for name in order or NODES:
            if late:
                self.time_passes(1.0)
            self.join(name)

    def info(self, name: str) -> NodeInfo:
        total = {"CPU": 4 * UNIT}
        return NodeInfo(name, 0, total, dict(total), host="here")

    def join(self, name: str) -> None:
        node = self.nodes[name]
        unheard = list(node.unheard)
        reports = [x for x in unheard if isinstance(x, ActorStarted | ActorEnded)]
        there = [LivingActor(a, r, address) for (a, r), address in node.there.items()]
        returned = ev.NodeReturned(name, 0, there, list(node.processes), reports, list(node.gone))
        if not self.tell(returned):
            return
        node.unheard = [x for x in node.unheard if x not in reports]
        self.tell(ev.ViewChanged([self.info(name)]))
        for order in [x for x in unheard if isinstance(x, FromProcess)]:
            if self.tell(order):
                node.unheard.remove(order)
        for question in list(node.open.values()):
            self.tell(question)

    # ---- processes ---------------------------------------------------------------------------

    @rule(
        where=st.sampled_from(NODES),
        who=st.integers(0, 1),
        max_restarts=st.sampled_from([0, 1, -1, -1]),
        cpus=st.sampled_from([0, 1, 1]),
        detached=st.booleans(),
    )
    def register(self, where: str, who: int, max_restarts: int, cpus: int, detached: bool) -> None:
        node = self.nodes[where]
        self.last += 1
        actor = self.last.to_bytes(16, "little")
        owner = Address(where, node.processes[who])
        options = ActorOptions(max_restarts=max_restarts, detached=detached)
        shape = make_shape({"CPU": cpus})
        self.specs[actor] = spec = ActorSpec(actor, OwnerInfo(owner), options, shape, "", b"", b"")
        question = FromProcess(owner, RegisterActor(self.last, spec), self.last)
        node.open[self.last] = question
        self.tell(question)

    @precondition(lambda self: self.specs)
    @rule(data=st.data(), where=st.sampled_from(NODES), what=st.sampled_from("rrrks"))
    def order(self, data: st.DataObject, where: str, what: str) -> None:
        actor = data.draw(st.sampled_from(sorted(self.specs)))
        node = self.nodes[where]
        self.last += 1
        message: Any = ReleaseActor(actor)
        if what != "s":
            message = KillActor(actor, no_restart=what == "k")
        elif self.specs[actor].options.detached:
            return
        order = FromProcess(Address(where, node.processes[0]), message, self.last)
        node.unheard.append(order)
        if self.tell(order):
            node.unheard.remove(order)

    @rule(where=st.sampled_from(NODES), luck=st.integers(0, 4))
    def process_ends(self, where: str, luck: int) -> None:
        if luck:
            return
        node = self.nodes[where]
        number = node.processes.pop(0)
        self.last += 1
        node.processes.append(self.last + 100)
        address = Address(where, number)
        node.open = {n: q for n, q in node.open.items() if q.source != address}
        gone = ProcessGone(address, ExitCause(code=1))
        node.gone.append(gone)
        self.tell(gone)

    # ---- nodes -------------------------------------------------------------------------------

    def report(self, node: Node, message: Any) -> None:
        node.unheard.append(message)
        if self.tell(message):
            node.unheard.remove(message)

    @precondition(lambda self: any(node.there for node in self.nodes.values()))
    @rule(data=st.data(), how=st.sampled_from(["starts", "starts", "raises", "ends", "chose"]))
    def placement_goes_on(self, data: st.DataObject, how: str) -> None:
        names = [(n.name, *name) for n in self.nodes.values() for name in n.there]
        where, actor, restart = data.draw(st.sampled_from(sorted(names)))
        node, name = self.nodes[where], (actor, restart)
        if how in ("starts", "raises") and name not in node.ending:
            if node.there[name] is None:
                self.last += 1
                address = Address(where, self.last + 100)
                error = b"e" if how == "raises" else b""
                if not error:
                    node.there[name] = address
                self.report(node, ActorStarted(actor, restart, address, error))
        elif how in ("ends", "chose"):
            self.ends(node, name, is_intended=how == "chose" and node.there[name] is not None)

    def ends(self, node: Node, name: Placement, is_intended: bool = False) -> None:
        del node.there[name]
        node.ending.discard(name)
        self.report(node, ActorEnded(*name, ExitCause(code=1), is_intended))

    @rule(seconds=st.sampled_from([0.2, 2.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        until = self.now + seconds
        while self.directory is not None:
            due = self.directory.next_deadline()
            if due is None or due > until:
                break
            assert due >= self.now
            self.now = due
            before = self.directory
            self.tell(ev.DeadlineReached())
            if self.directory is before:
                after = before.next_deadline()
                assert after is None or after > self.now, "a deadline was reached and stays"
        self.now = until

    # ---- the end -----------------------------------------------------------------------------

    def teardown(self) -> None:
        self.crash_in = None
        self.head_returns()
        for _ in range(40):
            self.time_passes(6.0)
            for node in self.nodes.values():
                for name in sorted(node.there):
                    if name in node.ending:
                        self.ends(node, name)
                    elif node.there[name] is None:
                        self.last += 1
                        node.there[name] = Address(node.name, self.last + 100)
                        self.report(node, ActorStarted(*name, node.there[name]))
        assert self.directory is not None
        alive = {actor: row.restart for actor, row in self.directory.rows.items()}
        there = [(name, node.name) for node in self.nodes.values() for name in node.there]
        assert sorted(name for name, _ in there) == sorted(alive.items())
        for (actor, _), home in there:
            row = self.directory.rows[actor]
            assert row.state == "alive"
            assert row.placed_on == home
            assert row.address == self.nodes[home].there[actor, row.restart]
        for node in self.nodes.values():
            assert not node.open, "a question was never answered"
            assert not node.unheard
        for actor, spec in self.specs.items():
            owner = spec.owner.address
            if owner.process in self.nodes[owner.node].processes:
                assert self.heard[actor] == ("alive" if actor in alive else "dead")


TestRestartModel = RestartModel.TestCase
TestRestartModel.settings = settings(max_examples=200, stateful_step_count=50)
