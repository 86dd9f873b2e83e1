"""Which nodes an actor may be placed on, before one is picked."""

from __future__ import annotations

from freehold._core.actors.placing import NodeRoom, rooms_for
from freehold._core.ids import Address
from freehold._core.messages import ActorOptions, ActorSpec, OwnerInfo
from freehold._core.resources import CPU, UNIT, Shape


def spec(shape: Shape = (), *, detached: bool) -> ActorSpec:
    owner = OwnerInfo(Address("driver", 1))
    return ActorSpec(b"a" * 16, owner, ActorOptions(detached=detached), shape, "", b"", b"")


def rooms(**total: dict[str, int]) -> dict[str, NodeRoom]:
    return {name: NodeRoom(name, 0, of, dict(of)) for name, of in total.items()}


def names(of: ActorSpec, among: dict[str, NodeRoom]) -> list[str]:
    return [room.node for room in rooms_for(of, among)]


def test_a_detached_actor_keeps_off_nodes_without_cpus() -> None:
    both = rooms(driver={}, node={CPU: UNIT})
    assert names(spec(detached=True), both) == ["node"]
    assert names(spec(detached=False), both) == ["driver", "node"]


def test_it_lives_there_if_nothing_else_fits() -> None:
    only = rooms(driver={"disk": UNIT}, node={CPU: UNIT})
    assert names(spec((("disk", UNIT),), detached=True), only) == ["driver", "node"]
    assert names(spec(detached=True), rooms(driver={})) == ["driver"]
