"""The drain of a node: requests, the keeper, ranges on their way, and the end."""

from __future__ import annotations

from freehold._core.drain import events as ev
from freehold._core.drain.machine import Drain
from freehold._core.ids import Address, Location
from freehold._core.limits import (
    COPIES_AT_ONCE,
    COPY_PAUSE_S,
    DRAIN_LOOK_S,
    TELL_AGAIN_S,
    TELLS_IN_VAIN,
)
from freehold._core.messages import NodeInfo

NODE, OTHER, THIRD = "a" * 32, "b" * 32, "c" * 32
OWNER = Address(OTHER, 1)
LOCAL = Address(NODE, 3)
KEEPER = Address(OTHER, 9)


class World:
    """One node that drains; `now` moves by hand."""

    def __init__(self, *nodes: NodeInfo) -> None:
        self.machine = Drain(NODE)
        self.now = 10.0
        self.tell(ev.ViewSeen(list(nodes) or [info(OTHER)]))

    def tell(self, event: ev.DrainEvent) -> list[ev.DrainEffect]:
        effects = self.machine.handle(event, now=self.now)
        self.machine.check_invariants()
        return effects

    def start(self, **options: object) -> list[ev.DrainEffect]:
        return self.tell(ev.DrainRequested(60.0, "test", **options))  # type: ignore[arg-type]

    def look(self, *ranges: tuple[Location, Address], workers: int = 0) -> list[ev.DrainEffect]:
        return self.tell(ev.Looked(workers, 0, list(ranges)))


def info(node: str, *, free: int = 1000, state: str = "alive") -> NodeInfo:
    """A node as the view has it."""
    return NodeInfo(node, 0, {"CPU": 20_000}, {"CPU": 20_000}, store_total_bytes=free, state=state)


def at(number: int, node: str = NODE, size: int = 64) -> Location:
    """A place in a node's arena."""
    return Location(node, number, 0, size)


def test_a_drain_begins_with_a_keeper_and_a_look() -> None:
    world = World()
    begun = [ev.BeginDrain("test"), ev.AskKeeper(OTHER, 1), ev.Look()]
    assert world.start() == begun
    assert world.tell(ev.KeeperNamed(1, KEEPER)) == [ev.TellKeeper(KEEPER)]
    assert world.machine.snapshot().state == "draining"


def test_an_idle_drain_is_refused_when_the_node_is_not_idle() -> None:
    world = World()
    refused = world.start(must_be_idle=True, busy_with="2 leases are in use")
    assert refused == [ev.RefuseDrain("2 leases are in use")]
    assert world.machine.snapshot().state == "alive"
    assert world.start(busy_with="2 leases are in use")[0] == ev.BeginDrain("test")


def test_asked_again_it_only_shortens_the_time() -> None:
    world = World()
    world.start()
    assert world.tell(ev.DrainRequested(5.0, "again", ends=True)) == []
    world.now = 15.0
    (end,) = world.tell(ev.DeadlineReached())
    assert isinstance(end, ev.EndNode)


def test_another_keeper_is_asked_for_when_the_first_ends() -> None:
    world = World(info(OTHER), info(THIRD))
    world.start()
    world.tell(ev.KeeperNamed(1, KEEPER))
    assert world.tell(ev.ProcessEnded(KEEPER)) == [ev.AskKeeper(OTHER, 2)]
    assert world.tell(ev.KeeperNamed(1, KEEPER)) == []  # an old answer
    assert world.tell(ev.NodeLost(OTHER)) == [ev.AskKeeper(THIRD, 3)]


def test_a_node_that_has_no_keeper_is_not_asked_again() -> None:
    world = World(info(OTHER), info(THIRD))
    world.start()
    assert world.tell(ev.KeeperNamed(1, None)) == [ev.AskKeeper(THIRD, 2)]
    assert world.tell(ev.KeeperNamed(2, None)) == []
    assert world.tell(ev.ViewSeen([info(OTHER)])) == [ev.AskKeeper(OTHER, 3)]


def test_a_range_is_copied_its_owner_told_and_the_node_drained() -> None:
    world = World()
    world.start()
    assert world.look((at(1), OWNER), workers=1) == [ev.CopyRange(OTHER, at(1), OWNER)]
    new = at(8, OTHER)
    assert world.tell(ev.CopyEnded(at(1), new)) == [ev.TellOwner(OWNER, [(at(1), new)])]
    assert world.look((at(1), OWNER)) == []  # the owner does not know yet
    assert world.tell(ev.OwnerAnswered(at(1), True)) == []
    assert world.look((at(1), OWNER), workers=1) == []
    assert world.look((at(1), OWNER)) == [ev.ReportDrained()]
    assert world.machine.snapshot().state == "drained"
    assert world.start(ends=True) == [ev.EndNode("it was drained: test")]


def test_asked_by_sigterm_it_ends_by_itself() -> None:
    world = World()
    world.start(ends=True)
    assert world.look() == [ev.ReportDrained(), ev.EndNode("it was drained: test")]


def test_ranges_go_to_the_node_with_most_room() -> None:
    world = World(info(OTHER, free=100), info(THIRD, free=150))
    world.start()
    copies = world.look((at(1), OWNER), (at(2), OWNER), (at(3), OWNER))
    targets = [copy.target for copy in copies if isinstance(copy, ev.CopyRange)]
    assert targets == [THIRD, OTHER, THIRD]


def test_a_node_that_drains_too_gets_nothing() -> None:
    world = World(info(OTHER, free=100), info(THIRD, free=150, state="draining"))
    world.start()
    assert world.look((at(1), OWNER)) == [ev.CopyRange(OTHER, at(1), OWNER)]


def test_ranges_of_a_local_owner_wait_until_it_has_given_them_away() -> None:
    world = World()
    world.start()
    assert world.look((at(1), LOCAL), workers=1) == []
    assert world.look((at(1), OWNER), workers=1) == [ev.CopyRange(OTHER, at(1), OWNER)]


def test_no_more_than_so_many_are_copied_at_once() -> None:
    world = World(info(OTHER, free=1 << 30))
    world.start()
    ranges = [(at(number), OWNER) for number in range(COPIES_AT_ONCE + 3)]
    assert len(world.look(*ranges)) == COPIES_AT_ONCE
    done = world.tell(ev.CopyEnded(at(0), at(100, OTHER)))
    assert [type(effect) for effect in done] == [ev.TellOwner, ev.CopyRange]


def test_a_copy_that_failed_is_tried_elsewhere_after_a_pause() -> None:
    world = World(info(OTHER, free=200), info(THIRD, free=100))
    world.start()
    world.look((at(1), OWNER))
    assert world.tell(ev.CopyEnded(at(1), None, "no room")) == []
    assert world.look((at(1), OWNER)) == []
    world.now += COPY_PAUSE_S
    assert world.look((at(1), OWNER)) == [ev.CopyRange(THIRD, at(1), OWNER)]
    world.tell(ev.NodeLost(THIRD))
    world.now += COPY_PAUSE_S
    assert world.look((at(1), OWNER)) == [ev.CopyRange(OTHER, at(1), OWNER)]


def test_an_owner_is_told_until_it_answers() -> None:
    world = World()
    world.start()
    world.look((at(1), OWNER))
    world.tell(ev.CopyEnded(at(1), at(8, OTHER)))
    world.now += TELL_AGAIN_S
    told = [ev.TellOwner(OWNER, [(at(1), at(8, OTHER))])]
    assert world.look((at(1), OWNER)) == told
    # It has given the object away meanwhile: the store knows the next owner.
    world.tell(ev.OwnerAnswered(at(1), False))
    world.now += TELL_AGAIN_S
    next_owner = Address(THIRD, 5)
    assert world.look((at(1), next_owner)) == [ev.TellOwner(next_owner, [(at(1), at(8, OTHER))])]


def test_what_its_owner_lets_go_of_meanwhile_leaves_no_copy() -> None:
    world = World()
    world.start()
    world.look((at(1), OWNER), (at(2), OWNER))
    world.tell(ev.CopyEnded(at(1), at(8, OTHER)))
    assert world.look() == [ev.DropCopy(at(8, OTHER))]
    # A copy under way is waited for: nobody else could let go of it.
    told = world.tell(ev.CopyEnded(at(2), at(9, OTHER)))
    assert told == [ev.TellOwner(OWNER, [(at(2), at(9, OTHER))])]
    assert world.look() == [ev.DropCopy(at(9, OTHER)), ev.ReportDrained()]


def test_what_nobody_knows_does_not_hold_the_node_up() -> None:
    """Its task's answer never reached who would own it."""
    world = World()
    world.start()
    world.look((at(1), OWNER))
    world.tell(ev.CopyEnded(at(1), at(8, OTHER)))
    for _ in range(TELLS_IN_VAIN):
        world.tell(ev.OwnerAnswered(at(1), False))
    world.now += TELL_AGAIN_S
    assert world.look((at(1), OWNER)) == [ev.DropCopy(at(8, OTHER)), ev.ReportDrained()]


def test_at_its_deadline_the_node_ends_and_says_what_is_left() -> None:
    world = World()
    world.start()
    world.look((at(1), LOCAL), workers=2)
    world.now += DRAIN_LOOK_S
    assert world.tell(ev.DeadlineReached()) == [ev.Look()]
    world.now = 70.0
    left = "2 workers, 1 stored ranges"
    assert world.tell(ev.DeadlineReached()) == [ev.EndNode("it was drained: test", left)]
    assert world.machine.next_deadline() is None


def test_without_another_node_it_waits_for_its_deadline() -> None:
    world = World(info(OTHER, state="draining"))
    assert world.start() == [ev.BeginDrain("test"), ev.Look()]
    assert world.look((at(1), OWNER)) == []
    assert world.tell(ev.ViewSeen([info(THIRD)])) == [ev.AskKeeper(THIRD, 1)]
    assert world.look((at(1), OWNER)) == [ev.CopyRange(THIRD, at(1), OWNER)]
