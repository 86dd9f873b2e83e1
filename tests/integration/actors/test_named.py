"""Actors by name: namespaces, races, and when a name is free again."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.actors.kit import THERE, Gate, Recorder, kill_process

import freehold
from freehold.exceptions import ActorAlreadyExistsError, ActorDiedError, ActorUnavailableError
from freehold.testing import LocalCluster, eventually
from freehold.util import list_named_actors

pytestmark = pytest.mark.module_cluster


def is_free(name: str, namespace: str | None = None) -> bool:
    try:
        freehold.get_actor(name, namespace)
    except ValueError:
        return True
    return False


def test_a_named_actor_is_found_everywhere(clean: LocalCluster) -> None:
    actor = Recorder.options(name="everywhere", resources=THERE).remote()

    @freehold.remote
    def find() -> int:
        found = freehold.get_actor("everywhere")
        return freehold.get(found.add.remote("task"))

    assert freehold.get_actor("everywhere") == actor
    assert freehold.get(find.remote()) == 1
    assert freehold.get(find.options(resources=THERE).remote()) == 2
    assert "everywhere" in list_named_actors()


def test_a_taken_name_is_refused_and_the_actor_goes_on(clean: LocalCluster) -> None:
    actor = Recorder.options(name="taken").remote()
    freehold.get(actor.add.remote(1))
    with pytest.raises(ActorAlreadyExistsError, match=r"'taken'.*get_if_exists") as caught:
        Recorder.options(name="taken").remote()
    assert isinstance(caught.value, ValueError)
    assert (caught.value.actor_name, bool(caught.value.namespace)) == ("taken", True)
    assert freehold.get(actor.all.remote()) == [1]


def test_namespaces_keep_names_apart(clean: LocalCluster) -> None:
    here = Recorder.options(name="same").remote("here")
    there = Recorder.options(name="same", namespace="elsewhere").remote("elsewhere")
    assert freehold.get(freehold.get_actor("same").all.remote()) == ["here"]
    found = freehold.get_actor("same", "elsewhere")
    assert freehold.get(found.all.remote()) == ["elsewhere"]
    assert found == there != here
    assert "same" in list_named_actors()
    both = list_named_actors(all_namespaces=True)
    assert {"name": "same", "namespace": "elsewhere"} in both
    assert is_free("same", "third")


def test_unknown_names(clean: LocalCluster) -> None:
    with pytest.raises(ValueError, match=r"'nobody'.*list_named_actors"):
        freehold.get_actor("nobody")
    with pytest.raises(ValueError, match="name"):
        freehold.get_actor("")


def test_get_if_exists_finds_or_makes(clean: LocalCluster) -> None:
    maker = Recorder.options(name="shared", get_if_exists=True)
    first, second = maker.remote("first"), maker.remote("second")
    assert first == second
    assert freehold.get(second.all.remote()) == ["first"]
    del first
    assert freehold.get(second.add.remote(1)) == 2


def test_racing_creators_share_one_actor(clean: LocalCluster) -> None:
    @freehold.remote(num_cpus=0.2)
    def race(gate: Any, number: int) -> tuple[str, Any]:
        freehold.get(gate.wait.remote())
        actor = Recorder.options(name="raced", get_if_exists=True, num_cpus=0).remote(number)
        return freehold.get(actor.pid.remote()), actor

    gate = Gate.remote()
    refs = [race.options(resources=THERE if i % 2 else {}).remote(gate, i) for i in range(6)]
    eventually(lambda: freehold.get(gate.count.remote()) == 6, timeout_s=20)
    freehold.get(gate.open.remote())
    ready, _ = freehold.wait(refs, num_returns=6, timeout=20)
    assert len(ready) == 6
    found = freehold.get(refs)
    assert len({pid for pid, _ in found}) == 1
    assert len({actor._actor_id for _, actor in found}) == 1


@pytest.mark.parametrize("how", ["kill", "crash", "handle", "leave", "constructor"])
def test_death_frees_the_name(clean: LocalCluster, how: str) -> None:
    name = f"freed by {how}"
    if how == "constructor":

        @freehold.remote
        class Broken:
            def __init__(self) -> None:
                raise ValueError("no")

            def ping(self) -> None: ...

        actor: Any = Broken.options(name=name).remote()
        with pytest.raises(ActorDiedError):
            freehold.get(actor.ping.remote())
    else:
        actor = Recorder.options(name=name, resources=THERE).remote()
        pid = freehold.get(actor.pid.remote())
    if how == "kill":
        freehold.kill(actor)
    elif how == "crash":
        kill_process(pid)
    elif how == "handle":
        del actor
    elif how == "leave":
        actor.leave.remote()
    eventually(lambda: is_free(name))
    again = Recorder.options(name=name).remote()
    assert freehold.get(again.all.remote()) == []


def test_a_restarted_actor_keeps_its_name(clean: LocalCluster) -> None:
    actor = Recorder.options(name="restarted", max_restarts=1).remote()
    kill_process(freehold.get(actor.pid.remote()))
    eventually(lambda: freehold.get_actor("restarted") == actor)
    eventually(lambda: answers(actor))
    assert freehold.get(freehold.get_actor("restarted").was_restarted.remote())


def answers(actor: Any) -> bool:
    try:
        return bool(freehold.get(actor.pid.remote(), timeout=20))
    except ActorUnavailableError:
        return False


def test_who_am_i(clean: LocalCluster) -> None:
    @freehold.remote
    class Myself:
        def name(self) -> str | None:
            return freehold.get_runtime_context().get_actor_name()

        def me(self) -> Any:
            return freehold.get_runtime_context().current_actor

        def register_at(self, other: Any) -> Any:
            return freehold.get(other.add.remote(freehold.get_runtime_context().current_actor))

        def ping(self) -> str:
            return "pong"

    named = Myself.options(name="me", resources=THERE).remote()
    unnamed = Myself.remote()
    assert freehold.get(named.name.remote()) == "me"
    assert freehold.get(unnamed.name.remote()) == ""
    assert freehold.get(named.me.remote()) == named
    book = Recorder.remote()
    freehold.get([named.register_at.remote(book), unnamed.register_at.remote(book)])
    found = freehold.get(book.all.remote())
    assert set(found) == {named, unnamed}
    assert freehold.get([actor.ping.remote() for actor in found]) == ["pong", "pong"]
    with pytest.raises(RuntimeError):
        freehold.get_runtime_context().current_actor  # noqa: B018
    # An actor that knows itself keeps itself alive for a while: end it.
    for actor in (named, unnamed):
        freehold.kill(actor)
