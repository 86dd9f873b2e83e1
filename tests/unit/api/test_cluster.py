"""Questions about the cluster, the calling code and the last tasks."""

# mypy does not see what a class decorator returns.
# mypy: disable-error-code="attr-defined"

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.api.fake_core import FakeContext, FakeCore

import freehold
from freehold.errors import NotSupportedYetError
from freehold.util import state as states
from freehold.util.named_actors import list_named_actors

EVENTS = [
    (1_000_000, "submitted", "f", "t1", ""),
    (2_000_000, "started", "f", "t1", "worker 7"),
    (5_000_000, "finished", "f", "t1", ""),
    (3_000_000, "submitted", "g", "t2", ""),
    (4_000_000, "started", "g", "t2", "worker 8"),
    (6_000_000, "retried", "g", "t2", "KeyError"),
    (7_000_000, "submitted", "g", "t3", ""),
]


@freehold.remote
class Named:
    def work(self) -> None: ...


def test_nodes_and_resources_leave_dead_nodes_out_of_the_sum(core: FakeCore) -> None:
    alive, dead = freehold.nodes()
    assert (alive["Alive"], dead["Alive"], alive["IsHead"]) == (True, False, True)
    assert alive["Resources"] == {"CPU": 2.0, "spice": 0.5}
    assert freehold.cluster_resources() == {"CPU": 2.0, "spice": 0.5}
    assert freehold.available_resources() == {"CPU": 1.0}


def test_context_of_a_driver(core: FakeCore) -> None:
    core.here = FakeContext()  # a driver has one, and runs no task
    context = freehold.get_runtime_context()
    assert (context.get_job_id(), context.get_worker_id()) == ("job", "worker")
    assert context.get_node_id() == "f" * 32
    assert context.get() == {"job_id": "job", "node_id": "f" * 32, "namespace": "here"}
    assert context.get_task_id() is context.get_actor_id() is context.get_actor_name() is None
    assert not context.was_current_actor_reconstructed
    assert context.get_assigned_resources() == {}
    with pytest.raises(RuntimeError, match="for the methods of actors"):
        context.current_actor  # noqa: B018


def test_context_in_an_actor(core: FakeCore) -> None:
    handle = Named.options(name="me").remote()
    core.here = FakeContext()
    core.is_driver = False
    context = freehold.get_runtime_context()
    assert context.get_task_id() == (b"t" * 16).hex()
    assert context.get_actor_id() == (b"a" * 16).hex()
    assert (context.get_task_name(), context.get_attempt_number()) == ("task", 1)
    assert (context.get_actor_name(), context.current_actor) == ("me", handle)
    assert context.was_current_actor_reconstructed
    assert context.get_assigned_resources() == {"CPU": 0.5}
    assert context.get_accelerator_ids() == {"GPU": ["1", "3"]}
    assert freehold.get_gpu_ids() == [1, 3]


def test_list_tasks_has_the_last_state_of_each(core: FakeCore) -> None:
    core.events = EVENTS
    first, second, third = states.list_tasks()
    assert (first["task_id"], first["state"], first["name"]) == ("t1", "FINISHED", "f")
    assert (first["creation_time_ms"], first["start_time_ms"], first["end_time_ms"]) == (1, 2, 5)
    assert (second["state"], second["detail"], third["state"]) == ("PENDING", "KeyError", "PENDING")
    assert [t["task_id"] for t in states.list_tasks(filters=[("name", "!=", "f")])] == ["t2", "t3"]
    assert [t["task_id"] for t in states.list_tasks(limit=1)] == ["t3"]
    assert states.summarize_tasks() == {"f": {"FINISHED": 1}, "g": {"PENDING": 2}}
    with pytest.raises(ValueError, match="no field 'nam'; did you mean 'name'"):
        states.list_tasks(filters=[("nam", "=", "f")])
    with pytest.raises(ValueError, match='"=" or "!="'):
        states.list_tasks(filters=[("name", "~", "f")])
    with pytest.raises(ValueError, match="limit must be 1 or more"):
        states.list_tasks(limit=0)


def test_timeline_has_an_event_a_run(core: FakeCore, tmp_path: Path) -> None:
    core.events = EVENTS
    events = freehold.timeline()
    assert events is not None
    assert [(e["name"], e["ts"], e["dur"], e["tid"]) for e in events] == [
        ("f", 2000, 3000, "worker 7"),
        ("g", 4000, 2000, "worker 8"),
    ]
    assert freehold.timeline(str(tmp_path / "trace.json")) is None
    assert json.loads((tmp_path / "trace.json").read_text()) == events


def test_lists_take_rays_arguments_and_refuse_what_is_not_there(core: FakeCore) -> None:
    states.list_actors("auto", [("state", "=", "ALIVE")], 10, 5)
    assert states.list_nodes(None, None, 1)
    for listing in (states.list_actors, states.list_tasks, states.list_nodes):
        with pytest.raises(NotSupportedYetError, match=r"address='http://elsewhere'"):
            listing(address="http://elsewhere")
        with pytest.raises(ValueError, match=r"timeout of list_.* must be more than 0"):
            listing(timeout=0)
    for listing in (states.list_tasks, states.list_nodes):
        with pytest.raises(NotSupportedYetError, match=r"detail=True"):
            listing(detail=True)


def test_lists_wait_no_longer_than_they_are_told(core: FakeCore) -> None:
    asked: list[Any] = []
    core.nodes = lambda timeout_s=None: asked.append(timeout_s) or []  # type: ignore[method-assign,func-returns-value]
    core.list_actors = lambda _ns, timeout_s=None: asked.append(timeout_s) or []  # type: ignore[method-assign,func-returns-value,misc]
    core.task_events = lambda timeout_s=10.0: asked.append(timeout_s) or []  # type: ignore[method-assign,func-returns-value]
    for listing in (states.list_nodes, states.list_actors, states.list_tasks):
        assert listing(timeout=7) == []
    assert asked == [7, 7, 7]


def test_list_actors_and_names(core: FakeCore) -> None:
    kept = [Named.options(name="me").remote(), Named.remote()]
    there = Named.options(name="you", namespace="there").remote()
    assert list_named_actors() == ["me"]
    assert list_named_actors(all_namespaces=True) == [
        {"name": "me", "namespace": "here"},
        {"name": "you", "namespace": "there"},
    ]
    assert [a["actor_id"] for a in states.list_actors()] == [
        handle._actor_id.hex() for handle in (*kept, there)
    ]
    assert states.summarize_actors() == {"Named": {"ALIVE": 3}}
    core.infos[there._actor_id].state = "dead"
    assert len(list_named_actors(all_namespaces=True)) == 1
    assert len(states.list_actors(filters=[("state", "=", "dead")])) == 1


def test_list_nodes(core: FakeCore) -> None:
    assert [n["state"] for n in states.list_nodes()] == ["ALIVE", "DEAD"]
    [head] = states.list_nodes(filters=[("is_head_node", "=", True)])
    assert (head["node_name"], head["resources_total"]["CPU"]) == ("box", 2.0)
