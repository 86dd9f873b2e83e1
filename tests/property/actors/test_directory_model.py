"""The actor directory against a naive model of nodes that place, lose and refuse actors.

Safety: what a listener is told follows the life of an actor, an actor has one process at a time,
restarts are counted, a name has one holder. Liveness at the end: every actor is alive or dead, and
all who listen know which.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from freehold._core.actors import events as ev
from freehold._core.actors.directory import ActorDirectory
from freehold._core.ids import Address
from freehold._core.messages import (
    ActorEnded,
    ActorFound,
    ActorOptions,
    ActorRegistered,
    ActorSpec,
    ActorStarted,
    ActorState,
    ExitCause,
    FindActor,
    FromProcess,
    KillActor,
    NodeDied,
    NodeInfo,
    OwnerInfo,
    ProcessGone,
    RegisterActor,
    ReleaseActor,
    WatchActor,
)
from freehold._core.resources import UNIT, make_shape

NODES = ["a" * 32, "b" * 32]
NEXT = {
    "pending": {"alive", "restarting", "dead"},
    "alive": {"restarting", "dead"},
    "restarting": {"alive", "dead"},
    "dead": set(),
}
NAMES = ["", "", "x", "y"]
Placement = tuple[bytes, int]


HOW = ["starts", "starts", "starts", "raises", "ends", "ends", "ends", "chose", "no"]
LUCK = st.integers(0, 4)
"""What happens rarely happens at 0, so that actors live long enough to be restarted."""


class DirectoryModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = ActorDirectory()
        self.now = 0.0
        self.incarnations = dict.fromkeys(NODES, 0)
        self.up: set[str] = set()
        self.specs: dict[bytes, ActorSpec] = {}
        self.answers: dict[bytes, bool] = {}
        self.processes = [Address(NODES[0], 1), Address(NODES[1], 1), Address(NODES[1], 2)]
        self.gone: set[Address] = set()
        self.told: dict[tuple[Address, bytes], list[str]] = {}
        self.listens: set[tuple[Address, bytes]] = set()
        self.placed: dict[Placement, str] = {}
        """Placements that a node has and has not reported the end of."""
        self.taken_back: set[Placement] = set()
        self.has_process: set[Placement] = set()
        self.restarts: dict[bytes, int] = {}
        self.final: set[bytes] = set()
        self.found: ActorFound | None = None
        self.last = 0
        self.node_up(NODES[0], 2)

    # ---- carrying out ------------------------------------------------------------------------

    def tell(self, event: ev.ActorEvent) -> None:
        for effect in self.directory.handle(event, now=self.now):
            if isinstance(effect, ev.PlaceActorOn):
                self.place(effect)
            elif isinstance(effect, ev.Unplace):
                assert (effect.actor, effect.restart) in self.placed
                assert self.placed[effect.actor, effect.restart] == effect.node
                assert (effect.actor, effect.restart) not in self.taken_back
                self.taken_back.add((effect.actor, effect.restart))
            else:
                self.hear(effect.address, effect.message)
        self.directory.check_invariants()

    def place(self, effect: ev.PlaceActorOn) -> None:
        actor = effect.spec.actor
        assert actor not in self.final, "a dead actor was placed"
        assert effect.node in self.up
        others = [name for name in self.placed if name[0] == actor]
        assert not others, "an actor was placed while it may have a process"
        assert effect.restart >= self.restarts.get(actor, 0)
        self.restarts[actor] = effect.restart
        most = effect.spec.options.max_restarts
        assert most < 0 or effect.restart <= most
        self.placed[actor, effect.restart] = effect.node

    def hear(self, address: Address, message: Any) -> None:
        assert address not in self.gone, "a process that is gone was told"
        if isinstance(message, ActorState):
            info = message.info
            if info.state == "dead":
                self.final.add(info.actor)
                assert info.reason
            else:
                assert info.actor not in self.final
            assert (info.address is not None) == (info.state == "alive")
            heard = self.told.setdefault((address, info.actor), [])
            if heard and heard[-1] != info.state:
                assert info.state in NEXT[heard[-1]], f"{heard} then {info.state}"
            heard.append(info.state)
        elif isinstance(message, ActorRegistered):
            actor = self.last.to_bytes(16, "little")
            self.answers[actor] = message.info is not None and message.info.actor == actor
        elif isinstance(message, ActorFound):
            self.found = message

    # ---- rules: processes --------------------------------------------------------------------

    @rule(
        who=st.integers(0, 2),
        name=st.sampled_from(NAMES),
        cpus=st.sampled_from([0, 0, 1, 2, 4, 16]),
        max_restarts=st.sampled_from([0, 1, 2, -1, -1]),
        detached=st.booleans(),
        get_if_exists=st.booleans(),
    )
    def register(
        self, who: int, name: str, cpus: int, max_restarts: int, detached: bool, get_if_exists: bool
    ) -> None:
        owner = self.processes[who]
        self.last += 1
        actor = self.last.to_bytes(16, "little")
        options = ActorOptions(name=name, max_restarts=max_restarts, detached=detached)
        shape = make_shape({"CPU": cpus})
        spec = ActorSpec(actor, OwnerInfo(owner), options, shape, "", b"", b"")
        spec.get_if_exists = get_if_exists
        holders = [
            other
            for other, known in self.specs.items()
            if name and known.options.name == name and other not in self.dead()
        ]
        self.specs[actor] = spec
        self.listens.add((owner, actor))
        self.tell(FromProcess(owner, RegisterActor(self.last, spec)))
        assert self.answers[actor] == (not holders), "a name has two holders"
        if holders:
            del self.specs[actor]
            self.listens.discard((owner, actor))

    def dead(self) -> set[bytes]:
        return set(self.specs) - set(self.directory.rows)

    @precondition(lambda self: self.specs)
    @rule(data=st.data(), who=st.integers(0, 2), what=st.sampled_from("wwkrrsf"))
    def ask(self, data: st.DataObject, who: int, what: str) -> None:
        actor = data.draw(st.sampled_from(sorted(self.specs)))
        source = self.processes[who]
        if what == "w":
            self.listens.add((source, actor))
            self.tell(FromProcess(source, WatchActor(actor)))
        elif what == "f":
            name = self.specs[actor].options.name
            self.tell(FromProcess(source, FindActor(1, name, "")))
            assert self.found is not None
            holder = self.found.info
            assert holder is None or holder.options.name == name != ""
            assert holder is None or holder.actor not in self.final
        elif what == "s":
            self.tell(FromProcess(source, ReleaseActor(actor)))
            if not self.specs[actor].options.detached:
                assert actor in self.dead()
        else:
            self.tell(FromProcess(source, KillActor(actor, what == "k")))
            if what == "k":
                assert actor in self.dead()

    @rule(who=st.integers(0, 2), luck=LUCK)
    def process_ends(self, who: int, luck: int) -> None:
        if luck:
            return
        self.forget(self.processes[who])
        self.tell(ProcessGone(self.processes[who], ExitCause(code=1)))
        self.owner_is_gone(self.processes[who])
        last = max(p.process for p in self.processes)
        node = self.processes[who].node
        self.processes[who] = Address(node, last + 1, self.incarnations[node])

    def forget(self, address: Address) -> None:
        self.gone.add(address)
        self.listens = {pair for pair in self.listens if pair[0] != address}

    def owner_is_gone(self, address: Address) -> None:
        for actor, spec in self.specs.items():
            if spec.owner.address == address and not spec.options.detached:
                assert actor in self.dead(), "an actor outlives its owner"

    # ---- rules: nodes ------------------------------------------------------------------------

    def node_up(self, node: str, cpus: int) -> None:
        self.up.add(node)
        total = {"CPU": cpus * UNIT}
        info = NodeInfo(node, self.incarnations[node], total, dict(total))
        self.tell(ev.ViewChanged([info]))

    @rule(node=st.sampled_from(NODES), cpus=st.sampled_from([2, 4]))
    def node_reports(self, node: str, cpus: int) -> None:
        self.node_up(node, cpus)

    @precondition(lambda self: self.up)
    @rule(data=st.data(), luck=LUCK)
    def node_dies(self, data: st.DataObject, luck: int) -> None:
        if luck:
            return
        node = data.draw(st.sampled_from(sorted(self.up)))
        self.up.discard(node)
        old = self.incarnations[node]
        self.incarnations[node] += 1
        for name in [name for name, home in self.placed.items() if home == node]:
            self.ended(name)
        for who, process in enumerate(self.processes):
            if process.node == node:
                self.forget(process)
                self.processes[who] = Address(node, process.process, old + 1)
        self.tell(NodeDied(node, old, "power"))
        for address in sorted(self.gone):
            self.owner_is_gone(address)

    def ended(self, name: Placement) -> None:
        del self.placed[name]
        self.has_process.discard(name)
        self.taken_back.discard(name)

    @precondition(lambda self: self.placed)
    @rule(
        data=st.data(), how=st.sampled_from(["starts", "starts", "raises", "ends", "chose", "no"])
    )
    def placement_goes_on(self, data: st.DataObject, how: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.placed)))
        node = self.placed[name]
        actor, restart = name
        if how in ("starts", "raises"):
            if name not in self.has_process:
                self.has_process.add(name)
                address = Address(node, 100 + restart, self.incarnations[node])
                error = b"e" if how == "raises" else b""
                heard = {pair: len(states) for pair, states in self.told.items()}
                self.tell(ActorStarted(actor, restart, address, error))
                if name in self.taken_back and not error:
                    now = {pair: len(states) for pair, states in self.told.items()}
                    assert now == heard, "a placement that was taken back came alive"
        elif how == "no" and name not in self.has_process:
            self.ended(name)
            self.tell(ev.PlacementRejected(node, actor, restart, "no", is_final=False))
        elif how != "no":
            self.ended(name)
            self.tell(ActorEnded(actor, restart, ExitCause(code=1), how == "chose"))

    @precondition(lambda self: any(self.restarts.values()))
    @rule(data=st.data(), how=st.sampled_from(["started", "ended", "rejected"]))
    def late_news(self, data: st.DataObject, how: str) -> None:
        actor = data.draw(st.sampled_from(sorted(a for a, n in self.restarts.items() if n)))
        old = self.restarts[actor] - 1
        before = self.directory.snapshot()
        if how == "started":
            self.tell(ActorStarted(actor, old, self.processes[0]))
        elif how == "ended":
            self.tell(ActorEnded(actor, old, ExitCause(code=1)))
        else:
            self.tell(ev.PlacementRejected(NODES[0], actor, old, "no", is_final=True))
        after = self.directory.snapshot()
        assert after.ignored_events == before.ignored_events + 1, "late news was believed"

    @rule(seconds=st.sampled_from([0.05, 1.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        until = self.now + seconds
        for _ in range(100):
            due = self.directory.next_deadline()
            if due is None or due > until:
                break
            assert due > self.now, "a deadline was reached and stays"
            self.now = due
            self.tell(ev.DeadlineReached())
        else:
            raise AssertionError("deadlines without end")
        self.now = until

    # ---- liveness ----------------------------------------------------------------------------

    def teardown(self) -> None:
        for node in NODES:
            self.node_up(node, 4)
        for _ in range(50):
            self.time_passes(6.0)
            for name in sorted(self.placed):
                actor, restart = name
                node = self.placed[name]
                if name in self.taken_back:
                    self.ended(name)
                    self.tell(ActorEnded(actor, restart, ExitCause(signal=9)))
                elif name not in self.has_process:
                    self.has_process.add(name)
                    self.tell(ActorStarted(actor, restart, Address(node, 100 + restart)))
        snapshot = self.directory.snapshot()
        assert snapshot.pending == snapshot.restarting == snapshot.unplaced == 0
        alive = set(self.directory.rows)
        assert sorted(alive) == sorted(name[0] for name in self.placed)
        for address, actor in sorted(self.listens):
            heard = self.told.get((address, actor), ["nothing"])
            assert heard[-1] == ("alive" if actor in alive else "dead"), f"{address} heard {heard}"


TestDirectoryModel = DirectoryModel.TestCase
TestDirectoryModel.settings = settings(max_examples=300, stateful_step_count=60)
