"""The directory after a restart of the control service: what nodes say, and what follows."""

from __future__ import annotations

from typing import Any

from freehold._core.actors import events as ev
from freehold._core.actors.directory import ActorDirectory
from freehold._core.actors.restoring import AWAY
from freehold._core.ids import Address
from freehold._core.limits import RETURN_S
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
    NodeDied,
    NodeGroup,
    NodeInfo,
    OwnerInfo,
    PlacementFailed,
    ProcessGone,
    RegisterActor,
    WatchActor,
)
from freehold._core.resources import make_shape

NODE, OTHER = "a" * 32, "b" * 32
DRIVER = Address(NODE, 1)
HOME = Address(NODE, 7)
A = b"a" * 16


def info(node: str, cpus: float = 4.0) -> NodeInfo:
    total = dict(make_shape({"CPU": cpus}))
    return NodeInfo(node, 0, total, dict(total), host="here")


class World:
    def __init__(self) -> None:
        self.now = 10.0
        self.kept: dict[bytes, tuple[ActorSpec, ev.ActorLife]] = {}
        self.dead: dict[bytes, ActorState] = {}
        self.directory = ActorDirectory(keeps=True)

    def tell(self, event: ev.ActorEvent) -> list[ev.ActorEffect]:
        effects = self.directory.handle(event, now=self.now)
        self.directory.check_invariants()
        told = False
        for effect in effects:
            if isinstance(effect, ev.KeepActor):
                spec = effect.spec or self.kept[effect.actor][0]
                self.kept[effect.actor] = spec, effect.life
            elif isinstance(effect, ev.KeepDead):
                self.kept.pop(effect.actor, None)
                self.dead[effect.actor] = effect.state
            told |= not isinstance(effect, ev.KeepActor | ev.KeepDead | ev.ForgetActor)
            kept = isinstance(effect, ev.KeepActor | ev.KeepDead | ev.ForgetActor)
            assert not (kept and told), "something was told before all was kept"
        return [e for e in effects if not isinstance(e, ev.KeepActor | ev.KeepDead)]

    def view(self, *nodes: str) -> list[ev.ActorEffect]:
        return self.tell(ev.ViewChanged([info(node) for node in nodes]))

    def register(self, cpus: float = 1.0, **options: Any) -> list[ev.ActorEffect]:
        shape = make_shape({"CPU": cpus})
        spec = ActorSpec(A, OwnerInfo(DRIVER), ActorOptions(**options), shape, "", b"", b"")
        return self.tell(FromProcess(DRIVER, RegisterActor(5, spec), 1))

    def restart(self, *nodes: NodeInfo, groups: list[NodeGroup] | None = None) -> list[Any]:
        self.directory = ActorDirectory(keeps=True)
        actors, dead = list(self.kept.values()), list(self.dead.values())
        return self.tell(ev.Restored(actors, dead, list(nodes), groups or []))

    def returns(
        self,
        *actors: LivingActor,
        node: str = NODE,
        processes: tuple[int, ...] = (1, 7),
        reports: tuple[Any, ...] = (),
        gone: tuple[Any, ...] = (),
    ) -> list[ev.ActorEffect]:
        returned = ev.NodeReturned(
            node, 0, list(actors), list(processes), list(reports), list(gone)
        )
        return [*self.tell(returned), *self.view(node)]

    def alive(self, **options: Any) -> None:
        """An actor that lives on NODE, and a control service that was just started again."""
        self.view(NODE)
        self.register(**options)
        self.tell(ActorStarted(A, 0, HOME))
        self.restart(info(NODE), info(OTHER))


def placed(effects: list[ev.ActorEffect]) -> list[tuple[str, int]]:
    return [(e.node, e.restart) for e in effects if isinstance(e, ev.PlaceActorOn)]


def unplaced(effects: list[ev.ActorEffect]) -> list[tuple[str, int]]:
    return [(e.node, e.restart) for e in effects if isinstance(e, ev.Unplace)]


def states(effects: list[ev.ActorEffect]) -> list[str]:
    found = [e.message for e in effects if isinstance(e, ev.Tell)]
    return [x.info.state for x in found if isinstance(x, ActorState)]


def test_an_actor_is_where_it_was_and_its_owner_hears_so() -> None:
    world = World()
    world.alive(name="x")
    effects = world.returns(LivingActor(A, 0, HOME))
    assert (placed(effects), unplaced(effects)) == ([], [])
    assert states(effects) == ["alive"]
    assert world.directory.snapshot().named == 1


def test_a_placement_that_the_node_does_not_name_is_made_again_as_the_same() -> None:
    world = World()
    world.view(NODE)
    assert placed(world.register()) == [(NODE, 0)]
    world.restart(info(NODE))
    assert placed(world.returns()) == [(NODE, 0)]


def test_a_placement_that_was_not_even_sent_is_made_when_a_node_is_there() -> None:
    world = World()
    world.register()
    world.restart(info(NODE))
    assert placed(world.returns()) == [(NODE, 0)]


def test_a_placement_that_the_node_is_about_to_start_is_left_to_it() -> None:
    world = World()
    world.view(NODE)
    world.register()
    world.restart(info(NODE))
    assert placed(world.returns(LivingActor(A, 0))) == []
    assert states(world.tell(ActorStarted(A, 0, HOME))) == ["alive"]


def test_what_started_unheard_is_alive() -> None:
    world = World()
    world.view(NODE)
    world.register()
    world.restart(info(NODE))
    effects = world.returns(LivingActor(A, 0, HOME))
    assert states(effects)[-1] == "alive"
    assert world.directory.rows[A].address == HOME


def test_what_ended_unheard_is_restarted_or_dead() -> None:
    world = World()
    world.alive(max_restarts=1)
    effects = world.returns()
    assert placed(effects) == [(NODE, 1)]
    assert world.directory.rows[A].reason == AWAY
    world = World()
    world.alive()
    effects = world.returns()
    assert states(effects)[-1] == "dead"
    assert world.dead[A].info.reason == AWAY


def test_a_report_tells_how_it_ended_though_it_may_not_have_been_heard() -> None:
    world = World()
    world.alive(max_restarts=1)
    chose = ActorEnded(A, 0, ExitCause(reason="exit_actor() was called"), is_intended=True)
    effects = world.returns(reports=(chose,))
    assert placed(effects) == []
    assert world.dead[A].info.reason == "exit_actor() was called"


def test_a_constructors_error_is_reported_late_and_not_tried_again() -> None:
    world = World()
    world.view(NODE)
    world.register(max_restarts=-1)
    world.restart(info(NODE))
    raised = ActorStarted(A, 0, HOME, b"error")
    ended = ActorEnded(A, 0, ExitCause(code=0))
    effects = world.returns(reports=(raised, ended))
    assert placed(effects) == []
    assert world.dead[A].info.error == b"error"


def test_what_a_report_moved_is_not_looked_for_where_it_was() -> None:
    world = World()
    world.alive(max_restarts=-1)
    world.returns(node=OTHER, processes=(2,))
    ended = ActorEnded(A, 0, ExitCause(signal=9))
    effects = world.tell(ev.NodeReturned(NODE, 0, [], [1], [ended]))
    assert placed(effects) == [(OTHER, 1)], "once, as the next restart"


def test_a_refusal_unheard_has_it_placed_elsewhere() -> None:
    world = World()
    world.view(NODE)
    world.register()
    world.restart(info(NODE), info(OTHER))
    world.returns(node=OTHER, processes=())
    effects = world.returns(reports=(PlacementFailed(A, 0, "no room"),))
    assert placed(effects) == [(OTHER, 0)]


def test_processes_that_are_nobodys_present_actor_are_ended() -> None:
    world = World()
    world.alive(max_restarts=1)
    stale = LivingActor(A, 3, Address(NODE, 9))
    unknown = LivingActor(b"?" * 16, 0, Address(NODE, 8))
    effects = world.returns(LivingActor(A, 0, HOME), stale, unknown)
    assert unplaced(effects) == [(NODE, 3), (NODE, 0)]
    assert world.directory.rows[A].state == "alive"


def test_a_kill_that_was_lost_is_said_again() -> None:
    world = World()
    world.view(NODE)
    world.register(max_restarts=1)
    world.tell(ActorStarted(A, 0, HOME))
    world.tell(FromProcess(DRIVER, KillActor(A, no_restart=False), 2))
    world.restart(info(NODE))
    assert unplaced(world.returns(LivingActor(A, 0, HOME))) == [(NODE, 0)]
    assert placed(world.tell(ActorEnded(A, 0, ExitCause(signal=9)))) == [(NODE, 1)]


def test_a_kill_said_again_does_not_kill_the_next_life() -> None:
    world = World()
    world.view(NODE)
    world.register(max_restarts=-1)
    world.tell(ActorStarted(A, 0, HOME))
    kill = FromProcess(DRIVER, KillActor(A, no_restart=False), 2)
    assert unplaced(world.tell(kill)) == [(NODE, 0)]
    world.tell(ActorEnded(A, 0, ExitCause(signal=9)))
    world.tell(ActorStarted(A, 1, HOME))
    world.restart(info(NODE))
    world.returns(LivingActor(A, 1, HOME))
    assert unplaced(world.tell(kill)) == []
    again = FromProcess(DRIVER, KillActor(A, no_restart=False), 3)
    assert unplaced(world.tell(again)) == [(NODE, 1)]


def test_a_dead_actor_stays_dead_and_who_asks_learns_why() -> None:
    world = World()
    world.alive()
    world.tell(FromProcess(DRIVER, KillActor(A), 2))
    world.restart(info(NODE))
    effects = world.returns(LivingActor(A, 0, HOME))
    assert unplaced(effects) == [(NODE, 0)]
    assert states(effects) == ["dead"]
    assert states(world.tell(FromProcess(Address(NODE, 7), WatchActor(A)))) == ["dead"]


def test_requests_that_are_said_again_change_nothing() -> None:
    world = World()
    world.alive(name="x")
    world.returns(LivingActor(A, 0, HOME))
    effects = world.register(name="x")
    (answer,) = [e.message for e in effects if isinstance(e, ev.Tell)]
    assert isinstance(answer, ActorRegistered)
    assert answer.info is not None
    assert (answer.info.state, answer.info.address) == ("alive", HOME)
    assert placed(effects) == []


def test_an_owner_that_ended_meanwhile_takes_its_actors_along_unless_detached() -> None:
    for how in ({"processes": (7,)}, {"processes": (7,), "gone": (gone(DRIVER),)}):
        world = World()
        world.alive()
        assert unplaced(world.returns(LivingActor(A, 0, HOME), **how)) == [(NODE, 0)]  # type: ignore[arg-type]
        assert A in world.dead
    world = World()
    world.alive(detached=True)
    assert unplaced(world.returns(LivingActor(A, 0, HOME), processes=(7,))) == []
    assert world.kept[A][1].is_orphan


def gone(address: Address) -> ProcessGone:
    return ProcessGone(address, ExitCause(signal=9))


def test_a_node_that_does_not_return_is_declared_dead_and_its_actors_restarted() -> None:
    world = World()
    world.alive(max_restarts=1, detached=True)
    world.returns(node=OTHER, processes=())
    effects = world.tell(NodeDied(NODE, 0, "it did not come back"))
    assert placed(effects) == [(OTHER, 1)]


def test_what_was_on_a_node_whose_death_was_kept_is_restarted_at_once() -> None:
    world = World()
    world.view(NODE)
    world.register(max_restarts=1, detached=True)
    world.tell(ActorStarted(A, 0, HOME))
    dead = NodeInfo(NODE, 0, {}, {}, is_alive=False)
    world.restart(dead, info(OTHER))
    assert world.kept[A][1].is_orphan
    assert placed(world.returns(node=OTHER, processes=())) == [(OTHER, 1)]


def test_what_only_an_absent_node_fits_waits_for_it_until_the_grace_is_over() -> None:
    world = World()
    world.register(cpus=3.0)
    world.restart(info(NODE), info(OTHER))
    small = NodeInfo(OTHER, 0, *[dict(make_shape({"CPU": 1})) for _ in "12"])
    assert states(world.tell(ev.ViewChanged([small]))) == []
    world.now += RETURN_S + 1.0
    assert states(world.tell(ev.DeadlineReached())) == ["dead"]


def test_what_fits_a_group_waits_for_a_node_of_it() -> None:
    world = World()
    world.view(NODE)
    groups = [NodeGroup("big", dict(make_shape({"CPU": 64})), {}, 2)]
    world.tell(ev.GroupsSet(groups))
    assert "dead" not in states(world.register(cpus=32.0))
    world.restart(info(NODE), groups=groups)
    assert "dead" not in states(world.returns())
    world.now += RETURN_S + 1.0
    assert "dead" not in states(world.view(NODE))
    without = ev.GroupsSet([NodeGroup("big", groups[0].resources, {}, 0)])
    assert states(world.tell(without)) == ["dead"]


def test_a_handle_that_overtook_its_actor_is_not_unknown_while_a_node_is_away() -> None:
    world = World()
    world.restart(info(NODE), info(OTHER))
    world.returns(node=OTHER, processes=(2,))
    world.tell(FromProcess(Address(OTHER, 2), WatchActor(A)))
    world.now += 5.0
    assert world.tell(ev.DeadlineReached()) == []
    effects = world.returns(processes=(1,))
    assert states(effects) == []
    assert states(world.register()) == ["pending"]


def test_a_node_whose_connection_goes_on_is_not_away() -> None:
    world = World()
    world.view(NODE, OTHER)
    world.tell(ev.NodeAway(NODE))
    world.tell(FromProcess(Address(OTHER, 2), WatchActor(A)))
    world.now += 5.0
    assert world.tell(ev.DeadlineReached()) == []
    world.tell(ev.NodeAway(NODE, is_away=False))
    assert states(world.tell(ev.DeadlineReached())) == ["dead"]
