"""The actor directory: placing, telling, restarting, killing, naming, forgetting."""

from __future__ import annotations

from typing import Any

from freehold._core.actors import events as ev
from freehold._core.actors.directory import DEAD_ACTORS, ActorDirectory
from freehold._core.ids import Address
from freehold._core.limits import REPLACEMENT_S
from freehold._core.messages import (
    ActorEnded,
    ActorFound,
    ActorInfo,
    ActorList,
    ActorOptions,
    ActorRegistered,
    ActorSpec,
    ActorStarted,
    ActorState,
    ClusterQuery,
    ExitCause,
    FindActor,
    FromProcess,
    KillActor,
    ListActors,
    NodeDied,
    NodeInfo,
    OwnerInfo,
    ProcessGone,
    RegisterActor,
    ReleaseActor,
    WatchActor,
)
from freehold._core.resources import UNIT, Shape, make_shape

NODE, OTHER, THIRD = "a" * 32, "b" * 32, "c" * 32
DRIVER = Address(NODE, 1)
WATCHER = Address(OTHER, 2)
HOME = Address(NODE, 7)
A = b"a" * 16
CRASH = ExitCause(signal=11, log=["last words"])


class World:
    def __init__(self, **cpus: float) -> None:
        self.directory = ActorDirectory()
        self.now = 10.0
        for node, count in (cpus or {NODE: 2.0}).items():
            self.view(node, count)

    def view(self, node: str, cpus: float, free: float | None = None) -> list[ev.ActorEffect]:
        total = dict(make_shape({"CPU": cpus}))
        available = total if free is None else {"CPU": round(free * UNIT)}
        return self.tell(ev.ViewChanged([NodeInfo(node, 0, total, dict(available))]))

    def tell(self, event: ev.ActorEvent) -> list[ev.ActorEffect]:
        effects = self.directory.handle(event, now=self.now)
        self.directory.check_invariants()
        return effects

    def ask(self, source: Address, message: Any) -> list[ev.ActorEffect]:
        return self.tell(FromProcess(source, message))

    def register(
        self, actor: bytes = A, shape: Shape = (), owner: Address = DRIVER, **options: Any
    ) -> list[ev.ActorEffect]:
        exists = options.pop("get_if_exists", False)
        spec = ActorSpec(
            actor,
            OwnerInfo(owner),
            ActorOptions(**options),
            shape,
            "",
            b"",
            b"",
            None,
            None,
            exists,
        )
        return self.ask(owner, RegisterActor(5, spec))

    def alive(self, actor: bytes = A, **options: Any) -> None:
        self.register(actor, **options)
        self.tell(ActorStarted(actor, 0, HOME))

    def pass_time(self, seconds: float) -> list[ev.ActorEffect]:
        until = self.now + seconds
        effects: list[ev.ActorEffect] = []
        due = self.directory.next_deadline()
        while due is not None and due <= until:
            self.now = due
            effects += self.tell(ev.DeadlineReached())
            due = self.directory.next_deadline()
            assert due is None or due > self.now
        self.now = until
        return effects


def states(effects: list[ev.ActorEffect]) -> list[tuple[Address, str]]:
    return [
        (effect.address, effect.message.info.state)
        for effect in effects
        if isinstance(effect, ev.Tell) and isinstance(effect.message, ActorState)
    ]


def last_state(effects: list[ev.ActorEffect]) -> ActorState:
    found = [e.message for e in effects if isinstance(e, ev.Tell)]
    assert isinstance(found[-1], ActorState)
    return found[-1]


def placed(effects: list[ev.ActorEffect]) -> list[tuple[str, int]]:
    return [(e.node, e.restart) for e in effects if isinstance(e, ev.PlaceActorOn)]


def unplaced(effects: list[ev.ActorEffect]) -> list[tuple[str, int, float]]:
    return [(e.node, e.restart, e.grace_s) for e in effects if isinstance(e, ev.Unplace)]


def answer(effects: list[ev.ActorEffect]) -> Any:
    assert isinstance(effects[0], ev.Tell)
    return effects[0].message


# ---- placing -------------------------------------------------------------------------------------


def test_an_actor_is_registered_and_placed() -> None:
    world = World()
    effects = world.register()
    registered = answer(effects)
    assert isinstance(registered, ActorRegistered)
    assert registered.info is not None
    assert (registered.request, registered.info.state) == (5, "pending")
    assert placed(effects) == [(NODE, 0)]


def test_saying_a_registration_twice_places_it_once() -> None:
    world = World()
    world.register()
    effects = world.register()
    assert len(effects) == 1
    assert answer(effects).info.actor == A


def test_owner_and_watchers_are_told_when_it_lives() -> None:
    world = World()
    world.register()
    assert states(world.ask(WATCHER, WatchActor(A))) == [(WATCHER, "pending")]
    effects = world.tell(ActorStarted(A, 0, HOME))
    assert states(effects) == [(DRIVER, "alive"), (WATCHER, "alive")]
    assert last_state(effects).info.address == HOME


def test_actors_go_to_the_owners_node_until_it_is_half_full_then_where_least_is_used() -> None:
    world = World(**{NODE: 4, OTHER: 4})
    one = make_shape({"CPU": 1})
    nodes = [placed(world.register(bytes([i]) * 16, one))[0][0] for i in range(6)]
    assert nodes == [NODE, NODE, OTHER, OTHER, NODE, OTHER]
    for i in range(6):
        world.tell(ActorStarted(bytes([i]) * 16, 0, Address(nodes[i], 7 + i)))
    world.view(NODE, 4)
    assert placed(world.register(A, one)) == [(NODE, 0)]


def test_what_is_on_its_way_to_a_node_counts_there_whatever_the_node_reports() -> None:
    world = World(**{NODE: 2, OTHER: 2})
    one = make_shape({"CPU": 1})
    first = [placed(world.register(bytes([i]) * 16, one))[0][0] for i in range(2)]
    assert first == [NODE, OTHER]
    world.view(OTHER, 2)  # it waits there for a worker, so that the node's figures are the old ones
    second = [placed(world.register(bytes([2 + i]) * 16, one))[0][0] for i in range(2)]
    assert second == [NODE, OTHER]
    world.tell(ActorEnded(bytes([0]) * 16, 0, CRASH, True))
    world.tell(ActorStarted(bytes([2]) * 16, 0, HOME))
    world.view(NODE, 2, free=1)
    assert placed(world.register(A, one)) == [(NODE, 0)]


def test_an_actor_goes_where_it_fits_at_all() -> None:
    world = World(**{NODE: 2, OTHER: 8})
    assert placed(world.register(A, make_shape({"CPU": 4}))) == [(OTHER, 0)]


def test_an_actor_that_fits_no_node_is_dead_and_says_what_is_lacking() -> None:
    world = World()
    state = last_state(world.register(A, make_shape({"CPU": 4})))
    assert state.is_infeasible
    assert state.info.state == "dead"
    assert state.info.reason.startswith("infeasible: ")
    assert "CPU: 4 needed, 2 there" in state.info.reason


def test_an_actor_that_only_a_dead_node_fitted_waits_for_another_of_its_kind() -> None:
    world = World(**{NODE: 2, OTHER: 8})
    four = make_shape({"CPU": 4})
    assert placed(world.register(A, four, max_restarts=1)) == [(OTHER, 0)]
    world.tell(ActorStarted(A, 0, Address(OTHER, 7)))
    assert states(world.tell(NodeDied(OTHER, 0, "gone"))) == [(DRIVER, "restarting")]
    assert world.pass_time(REPLACEMENT_S - 1) == []
    assert placed(world.view(THIRD, 8)) == [(THIRD, 1)]


def test_it_is_dead_if_none_comes() -> None:
    world = World(**{NODE: 2, OTHER: 8})
    world.tell(NodeDied(OTHER, 0, "gone"))
    assert states(world.register(A, make_shape({"CPU": 4}))) == []
    assert last_state(world.register(b"b" * 16, make_shape({"CPU": 9}))).is_infeasible
    effects = world.pass_time(REPLACEMENT_S)
    assert last_state(effects).is_infeasible
    assert last_state(effects).info.actor == A
    assert world.directory.next_deadline() is None


def test_without_any_node_an_actor_waits_for_one() -> None:
    world = World(**{NODE: 1})
    world.tell(NodeDied(NODE, 0, "gone"))
    assert placed(world.register(owner=WATCHER)) == []
    assert placed(world.view(NODE, 1)) == [(NODE, 0)]


def test_a_node_that_refuses_is_not_asked_again_soon() -> None:
    world = World(**{NODE: 2, OTHER: 2})
    world.register()
    assert placed(world.tell(ev.PlacementRejected(NODE, A, 0, "no room"))) == [(OTHER, 0)]
    assert placed(world.tell(ev.PlacementRejected(OTHER, A, 0, "no room"))) == []
    assert placed(world.pass_time(0.9)) == []
    assert placed(world.pass_time(0.2)) == [(NODE, 0)]


def test_a_final_refusal_is_the_end() -> None:
    world = World()
    world.register(max_restarts=-1)
    effects = world.tell(ev.PlacementRejected(NODE, A, 0, "no such folder", is_final=True))
    assert last_state(effects).info.reason == "no such folder"
    assert states(effects) == [(DRIVER, "dead")]
    assert unplaced(effects) == []


def test_a_late_refusal_by_another_node_is_ignored() -> None:
    world = World(**{NODE: 2, OTHER: 2})
    world.register()
    assert world.tell(ev.PlacementRejected(OTHER, A, 0, "no room", is_final=True)) == []


# ---- ends and restarts ---------------------------------------------------------------------------


def test_a_crash_without_restarts_is_death_with_the_last_lines() -> None:
    world = World()
    world.alive()
    world.ask(WATCHER, WatchActor(A))
    effects = world.tell(ActorEnded(A, 0, CRASH))
    assert states(effects) == [(DRIVER, "dead"), (WATCHER, "dead")]
    assert "signal 11" in last_state(effects).info.reason
    assert last_state(effects).info.cause == CRASH
    assert unplaced(effects) == []


def test_a_crash_is_followed_by_as_many_restarts_as_allowed() -> None:
    world = World()
    world.alive(max_restarts=2)
    for restart in (1, 2):
        effects = world.tell(ActorEnded(A, restart - 1, CRASH))
        assert states(effects) == [(DRIVER, "restarting")]
        assert placed(effects) == [(NODE, restart)]
        assert states(world.tell(ActorStarted(A, restart, HOME))) == [(DRIVER, "alive")]
    assert states(world.tell(ActorEnded(A, 2, CRASH))) == [(DRIVER, "dead")]


def test_restarts_without_end_before_it_ever_lived_are_paced() -> None:
    world = World()
    world.register(max_restarts=-1)
    restart = 0
    for pause in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
        assert placed(world.tell(ActorEnded(A, restart, CRASH))) == []
        restart += 1
        assert placed(world.pass_time(pause - 0.01)) == []
        assert placed(world.pass_time(0.02)) == [(NODE, restart)]
    world.tell(ActorStarted(A, restart, HOME))
    assert placed(world.tell(ActorEnded(A, restart, CRASH))) == [(NODE, restart + 1)]


def test_what_is_said_late_of_an_earlier_placement_is_ignored() -> None:
    world = World()
    world.alive(max_restarts=-1)
    world.tell(ActorEnded(A, 0, CRASH))
    assert world.tell(ActorStarted(A, 0, HOME)) == []
    assert world.tell(ActorEnded(A, 0, CRASH)) == []
    assert world.tell(ev.PlacementRejected(NODE, A, 0, "no", is_final=True)) == []
    assert world.directory.snapshot().restarting == 1


def test_an_actor_that_chose_to_end_is_not_restarted() -> None:
    world = World()
    world.alive(max_restarts=-1)
    effects = world.tell(ActorEnded(A, 0, ExitCause(code=0, reason="exit_actor"), True))
    assert states(effects) == [(DRIVER, "dead")]
    assert last_state(effects).info.reason == "exit_actor"


def test_a_constructors_error_reaches_every_watcher_and_is_final() -> None:
    world = World()
    world.register(max_restarts=-1)
    world.ask(WATCHER, WatchActor(A))
    effects = world.tell(ActorStarted(A, 0, HOME, b"the error"))
    assert states(effects) == [(DRIVER, "dead"), (WATCHER, "dead")]
    assert last_state(effects).info.error == b"the error"
    assert last_state(effects).info.reason == "the constructor raised"
    assert unplaced(effects) == [(NODE, 0, 0.0)]
    late = last_state(world.ask(Address(NODE, 55), WatchActor(A)))
    assert late.info.error == b"the error"


def test_a_killed_actor_is_dead_at_once() -> None:
    world = World()
    world.alive(max_restarts=-1)
    effects = world.ask(WATCHER, KillActor(A))
    assert unplaced(effects) == [(NODE, 0, 0.0)]
    assert states(effects) == [(DRIVER, "dead")]
    assert world.tell(ActorEnded(A, 0, CRASH)) == []
    assert world.ask(WATCHER, KillActor(A)) == []


def test_a_kill_that_allows_it_restarts_once_the_process_has_ended() -> None:
    world = World()
    world.alive(max_restarts=1)
    effects = world.ask(WATCHER, KillActor(A, no_restart=False))
    assert unplaced(effects) == [(NODE, 0, 0.0)]
    assert states(effects) == [(DRIVER, "restarting")]
    assert world.ask(WATCHER, KillActor(A, no_restart=False)) == []
    effects = world.tell(ActorEnded(A, 0, CRASH))
    assert placed(effects) == [(NODE, 1)]
    world.tell(ActorStarted(A, 1, HOME))
    assert states(world.ask(WATCHER, KillActor(A, no_restart=False))) == [(DRIVER, "dead")]


def test_an_actor_that_starts_while_it_is_being_killed_is_not_alive() -> None:
    world = World()
    world.register(max_restarts=1)
    world.ask(WATCHER, KillActor(A, no_restart=False))
    assert world.tell(ActorStarted(A, 0, HOME)) == []
    assert world.directory.snapshot().restarting == 1
    effects = world.ask(WATCHER, KillActor(A))
    assert states(effects) == [(DRIVER, "dead")]
    assert unplaced(effects) == []


def test_a_released_actor_ends_with_a_grace_and_is_not_restarted() -> None:
    world = World()
    world.alive(max_restarts=-1, name="x")
    effects = world.ask(DRIVER, ReleaseActor(A))
    ((node, restart, grace_s),) = unplaced(effects)
    assert (node, restart) == (NODE, 0)
    assert grace_s > 0
    assert world.tell(ActorEnded(A, 0, CRASH)) == []
    assert world.directory.snapshot().named == 0


def test_a_detached_actor_is_not_released() -> None:
    world = World()
    world.alive(detached=True, name="x")
    assert world.ask(DRIVER, ReleaseActor(A)) == []
    assert world.directory.snapshot().alive == 1


# ---- owners and nodes ----------------------------------------------------------------------------


def test_actors_end_with_their_owner_unless_detached() -> None:
    world = World()
    world.alive(max_restarts=-1)
    world.alive(b"d" * 16, detached=True)
    world.ask(WATCHER, WatchActor(A))
    effects = world.tell(ProcessGone(DRIVER, ExitCause(code=1)))
    assert [e.actor for e in effects if isinstance(e, ev.Unplace)] == [A]
    assert (WATCHER, "dead") in states(effects)
    assert "a" * 8 + ":1" in last_state(effects).info.reason
    assert world.directory.snapshot().alive == 1


def test_an_heir_is_told_of_the_actors_it_answers_for() -> None:
    """It may have been given none of them: the owner was killed as it left."""
    world = World()
    world.alive(max_restarts=-1)
    effects = world.tell(ProcessGone(DRIVER, ExitCause(None, 9), heir=WATCHER))
    assert states(effects) == [(WATCHER, "alive")]
    assert last_state(effects).info.owner.address == WATCHER
    world.ask(WATCHER, ReleaseActor(A))
    assert world.directory.snapshot().alive == 0


def test_a_process_that_is_gone_is_told_nothing() -> None:
    world = World()
    world.alive()
    world.ask(WATCHER, WatchActor(A))
    world.tell(ProcessGone(WATCHER, ExitCause(code=1)))
    assert states(world.ask(DRIVER, KillActor(A))) == [(DRIVER, "dead")]


def test_a_dead_nodes_actors_are_restarted_elsewhere() -> None:
    world = World(**{OTHER: 2})
    world.alive(max_restarts=1)
    world.view(NODE, 2)
    effects = world.tell(NodeDied(OTHER, 0, "its process ended"))
    assert states(effects) == [(DRIVER, "restarting")]
    assert placed(effects) == [(NODE, 1)]
    assert unplaced(effects) == []


def test_a_node_that_died_under_an_earlier_incarnation_takes_nothing_with_it() -> None:
    world = World()
    world.alive()
    assert world.tell(NodeDied(NODE, 5, "late news")) == []


def test_a_dead_nodes_owners_take_their_actors_with_them() -> None:
    world = World(**{NODE: 2, OTHER: 2})
    world.register(A, (), WATCHER)
    world.ask(DRIVER, WatchActor(A))
    effects = world.tell(NodeDied(OTHER, 0, "power"))
    assert states(effects) == [(DRIVER, "dead")]
    assert "power" in last_state(effects).info.reason


# ---- names and questions -------------------------------------------------------------------------


def test_a_name_is_one_actors_in_its_namespace() -> None:
    world = World()
    world.register(name="x", namespace="n")
    registered = answer(world.register(b"b" * 16, name="x", namespace="n"))
    assert registered.info is None
    assert "'x' exists in namespace 'n'" in registered.error
    assert answer(world.register(b"c" * 16, name="x", namespace="other")).error == ""


def test_get_if_exists_tells_of_the_other() -> None:
    world = World()
    world.alive(name="x")
    effects = world.register(b"b" * 16, name="x", get_if_exists=True)
    assert answer(effects).info.actor == A
    assert len(effects) == 1


def test_a_name_is_free_after_death() -> None:
    world = World()
    world.alive(name="x")
    found = answer(world.ask(WATCHER, FindActor(3, "x", "")))
    assert isinstance(found, ActorFound)
    assert isinstance(found.info, ActorInfo)
    assert found.info.address == HOME
    world.ask(DRIVER, KillActor(A))
    assert answer(world.ask(WATCHER, FindActor(3, "x", ""))).info is None
    assert placed(world.register(b"b" * 16, name="x")) == [(NODE, 0)]


def test_actors_are_listed_by_namespace() -> None:
    world = World()
    world.alive(namespace="n")
    world.register(b"b" * 16)
    listed = answer(world.ask(WATCHER, ListActors(4, "n")))
    assert isinstance(listed, ActorList)
    assert [info.actor for info in listed.actors] == [A]
    assert len(answer(world.ask(WATCHER, ListActors(4))).actors) == 2


def test_who_watches_an_unknown_actor_is_told_that_it_is_dead() -> None:
    world = World()
    assert world.ask(WATCHER, WatchActor(A)) == []
    assert world.pass_time(0.9) == []
    state = last_state(world.pass_time(0.2))
    assert state.info.state == "dead"
    assert "no such actor" in state.info.reason


def test_who_watches_before_the_registration_arrives_is_a_watcher() -> None:
    world = World()
    world.ask(WATCHER, WatchActor(A))
    assert states(world.register()) == [(WATCHER, "pending")]
    assert states(world.tell(ActorStarted(A, 0, HOME)))[-1] == (WATCHER, "alive")
    assert world.pass_time(10.0) == []


def test_the_dead_are_remembered_up_to_a_number() -> None:
    world = World()
    for number in range(DEAD_ACTORS + 5):
        actor = number.to_bytes(16, "little")
        world.register(actor)
        world.ask(DRIVER, KillActor(actor))
    assert world.directory.snapshot().dead == DEAD_ACTORS
    assert world.ask(WATCHER, WatchActor((0).to_bytes(16, "little"))) == []


def test_what_is_not_the_directorys_is_ignored() -> None:
    world = World()
    assert world.ask(DRIVER, ClusterQuery(1)) == []
    assert world.directory.snapshot().ignored_events == 1
