"""The cache, the queue, liveness, settings, events and the decision log."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from tests.unit.operator.build import NOW, UID, cluster, group, head
from tests.unit.operator.fake_kube import FakeKube

from freehold_operator import authority, kinds, log, names, settings
from freehold_operator.actions import Tell
from freehold_operator.cache import Cache
from freehold_operator.errors import ApiError, SettingsError
from freehold_operator.events import Events
from freehold_operator.facts import PodFacts
from freehold_operator.liveness import Liveness
from freehold_operator.memory import Memory
from freehold_operator.metrics import Metrics
from freehold_operator.model import Meta
from freehold_operator.reconciler import Reconciler
from freehold_operator.sync import Sync
from freehold_operator.workqueue import Key, WorkQueue

POD = kinds.POD


def pod(name: str = "p", version: int = 1, uid: str = "u", cluster: str = "c") -> dict[str, Any]:
    """A pod's JSON."""
    labels = {names.LABEL_CLUSTER: cluster}
    metadata = {"name": name, "namespace": "n", "uid": uid, "labels": labels}
    return {"metadata": metadata | {"resourceVersion": str(version)}}


# The cache


def test_newer_tellings_win_in_whatever_order_they_come() -> None:
    cache = Cache()
    assert cache.put(POD, pod(version=5), NOW)
    assert not cache.put(POD, pod(version=4), NOW)
    assert not cache.put(POD, pod(version=5), NOW)
    assert cache.put(POD, pod(version=6), NOW)
    assert cache.versions(POD) == {("n", "p"): ("u", 6)}


def test_what_is_gone_does_not_come_back_by_a_late_event() -> None:
    cache = Cache()
    cache.put(POD, pod(version=5), NOW)
    assert cache.remove(POD, ("n", "p"), "u", NOW)
    assert not cache.put(POD, pod(version=6), NOW + 59)
    assert cache.put(POD, pod(version=7, uid="other"), NOW)


def test_another_object_of_the_name_takes_its_place() -> None:
    cache = Cache()
    cache.put(POD, pod(version=5), NOW)
    assert cache.put(POD, pod(version=9, uid="new"), NOW)
    assert not cache.put(POD, pod(version=6), NOW), "the old one's last event"
    assert not cache.remove(POD, ("n", "p"), "u", NOW)
    assert cache.get(POD, "n", "p").meta.uid == "new"


def test_a_list_replaces_what_it_lacks() -> None:
    cache = Cache()
    cache.put(POD, pod("a", 5, "ua"), NOW)
    cache.put(POD, pod("b", 6, "ub"), NOW)
    assert cache.replace(POD, None, [pod("b", 6, "ub")], "10", NOW) == {("n", "a")}
    assert cache.get(POD, "n", "a") is None


def test_a_list_does_not_take_back_what_is_newer_than_it() -> None:
    cache = Cache()
    cache.put(POD, pod("mine", 11, "um"), NOW)
    assert cache.replace(POD, None, [], "10", NOW) == set()
    assert cache.get(POD, "n", "mine") is not None
    assert cache.replace(POD, None, [], "12", NOW) == {("n", "mine")}


def test_a_list_of_one_namespace_says_nothing_of_another() -> None:
    cache = Cache()
    cache.put(POD, pod(version=1), NOW)
    assert cache.replace(POD, "other", [], "10", NOW) == set()


def test_objects_are_found_by_their_cluster() -> None:
    cache = Cache()
    cache.put(POD, pod("b", 1, "ub"), NOW)
    cache.put(POD, pod("a", 2, "ua"), NOW)
    cache.put(POD, pod("x", 3, "ux", "other"), NOW)
    found = cache.of(POD, names.LABEL_CLUSTER, "n", "c")
    assert [p.meta.name for p in found] == ["a", "b"]
    cache.remove(POD, ("n", "a"), "ua", NOW)
    assert len(cache.of(POD, names.LABEL_CLUSTER, "n", "c")) == 1


# The queue


class Clock:
    """A time that is set."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


A, B = Key("FuturesCluster", "n", "a"), Key("FuturesCluster", "n", "b")


def drain(queue: WorkQueue) -> list[Key]:
    """All keys that can be taken now; none of them is done."""
    return list(iter(queue.take_ready, None))


def test_a_key_waits_once() -> None:
    queue = WorkQueue(Clock())
    for key in (A, B, A, A):
        queue.add(key)
    assert drain(queue) == [A, B]


def test_a_key_that_runs_is_passed_over_again_afterwards() -> None:
    queue = WorkQueue(Clock())
    queue.add(A)
    assert drain(queue) == [A]
    queue.add(A)
    assert drain(queue) == []
    queue.done(A)
    assert drain(queue) == [A]


def test_a_failure_is_delayed_longer_each_time_and_news_do_not_hasten_it() -> None:
    clock = Clock()
    queue = WorkQueue(clock)
    delays = []
    for _ in range(9):
        queue.add(A)
        assert drain(queue) == [A]
        queue.add(A)
        delays.append(queue.failed(A))
        assert drain(queue) == []
        clock.now += delays[-1]
        assert drain(queue) == [A]
        queue._running.discard(A)
    assert delays == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]
    queue.add(A)
    drain(queue)
    assert queue.failed(A, at_least_s=90) == 90


def test_progress_makes_the_next_delay_the_first_again() -> None:
    queue = WorkQueue(Clock())
    assert [queue.failed(A), queue.failed(A), queue.failed(A)] == [0.5, 1, 2]
    queue.forgive(A)
    assert queue.failed(A) == 0.5


def test_the_earliest_of_several_times_counts() -> None:
    clock = Clock()
    queue = WorkQueue(clock)
    queue.add_at(A, NOW + 10)
    queue.add_at(A, NOW + 5)
    queue.add_at(A, NOW + 20)
    clock.now += 5
    assert drain(queue) == [A]
    queue.done(A)
    clock.now += 100
    assert drain(queue) == []


# Liveness


def test_a_watch_that_lags_for_too_long_makes_ill() -> None:
    live = Liveness(60, Metrics())
    live.tell("Pod", ("n", "p"), "5", is_gone=False)
    live.compare("Pod", {("n", "p"): ("u", 6)}, NOW)
    assert live.illness() == ""
    live.compare("Pod", {("n", "p"): ("u", 7)}, NOW + 60)
    assert live.illness() == ""
    live.compare("Pod", {("n", "p"): ("u", 7)}, NOW + 61)
    assert "the watch of Pod is 61 s behind" in live.illness()
    live.tell("Pod", ("n", "p"), "7", is_gone=False)
    live.compare("Pod", {("n", "p"): ("u", 7)}, NOW + 62)
    assert live.illness() == ""


def test_a_busy_object_is_no_lag() -> None:
    """Each look finds a version that is not told yet, and each time the one before is."""
    live = Liveness(60, Metrics())
    for second in range(0, 200, 10):
        live.compare("Pod", {("n", "p"): ("u", second + 1)}, NOW + second)
        live.tell("Pod", ("n", "p"), str(second + 1), is_gone=False)
    assert live.illness() == ""


def test_objects_that_went_untold_do_not_count() -> None:
    live = Liveness(60, Metrics())
    live.tell("Pod", ("n", "p"), "5", is_gone=False)
    for second in (0, 100):
        live.compare("Pod", {}, NOW + second)
    assert live.illness() == ""


def test_an_api_that_does_not_answer_is_nobodys_illness() -> None:
    live = Liveness(60, Metrics())
    live.compare("Pod", {("n", "p"): ("u", 6)}, NOW)
    live.note_failure()
    assert not live.is_reachable
    live.compare("Pod", {("n", "p"): ("u", 6)}, NOW + 300)
    assert live.is_reachable
    assert live.illness() == ""


# Lists


def test_missed_changes_are_found_by_a_second_look() -> None:
    async def go() -> list[str]:
        kube, cache, seen = FakeKube(), Cache(), list[str]()
        metrics = Metrics()
        given = settings.load({})
        sync = Sync(
            (kube, cache, Liveness(60, metrics), metrics),
            given,
            lambda: NOW,
            lambda kind, meta: seen.append(meta.name),
        )
        kube.put(POD, pod("a", uid="ua"))
        await sync.replace(POD)
        assert cache.has_listed((POD,))
        kube.put(POD, pod("b", uid="ub"))
        await sync._look(POD)
        assert seen == ["a"], "its event may be on its way"
        await sync._look(POD)
        del kube.objects[("Pod", "n", "a")]
        await sync._look(POD)
        await sync._look(POD)
        return seen

    assert asyncio.run(go()) == ["a", "b", "a"]


# Settings


def test_settings_have_defaults_and_are_read_by_their_prefix() -> None:
    assert settings.load({}).namespaces == ()
    given = {"FREEHOLD_OPERATOR_NAMESPACES": "a, b", "FREEHOLD_OPERATOR_PORT": "0", "X": "1"}
    found = settings.load(given)
    assert (found.namespaces, found.port) == (("a", "b"), 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NAMESPACE", "x"),
        ("PORT", "many"),
        ("PORT", "70000"),
        ("WORKERS", "0"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("RUNTIME_IMAGE", ""),
        ("LOOK_S", "-1"),
    ],
)
def test_bad_settings_are_errors_that_name_them(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=r"FREEHOLD_OPERATOR_"):
        settings.load({f"FREEHOLD_OPERATOR_{name}": value})


# Events, log, authority, metrics


def test_one_event_per_object_and_reason_in_five_minutes() -> None:
    async def go() -> list[str]:
        kube = FakeKube()
        events = Events(kube)
        meta = Meta(name="c", namespace="n", uid="u")
        for at, reason in ((0, "A"), (10, "A"), (20, "B"), (299, "A"), (301, "A")):
            action = Tell(is_warning=True, reason=reason, message="x" * 5000)
            await events.tell("FuturesCluster", meta, action, NOW + at)
        kube.fail = lambda *_: ApiError(403, "Forbidden", "no")
        late = Tell(is_warning=True, reason="C", message="x")
        await events.tell("FuturesCluster", meta, late, NOW)
        return [body["reason"] for body in kube.objects.values()]

    assert asyncio.run(go()) == ["A", "B", "A"]


def test_decisions_are_lines_with_milliseconds(capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        log.setup("info", "json")
        log.decision("FuturesCluster/n/c", "delete", "Pod/p", "drained")
        log.setup("info", "text")
        log.decision("FuturesCluster/n/c", "delete", "Pod/p", "idle for 60 s")
    finally:
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)
    first, second = capsys.readouterr().err.splitlines()
    told = json.loads(first)
    assert (told["action"], told["what"], told["why"]) == ("delete", "Pod/p", "drained")
    assert len(told["time"]) == len("2026-11-26T10:00:00.000Z")
    assert second.endswith('what=Pod/p why="idle for 60 s"')


def test_a_ca_signs_and_nothing_else() -> None:
    from cryptography import x509

    certificate, key = authority.new_ca("abc")
    found = x509.load_pem_x509_certificate(certificate)
    constraints = found.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value.ca
    assert b"PRIVATE KEY" in key
    assert authority.decoded(authority.encoded(key)) == key
    assert authority.new_token() != authority.new_token()


def test_metrics_of_a_cluster_come_and_go() -> None:
    metrics = Metrics()
    groups = [{"name": "g", "desired": 3, "ready": 2}]
    status = {"groups": groups, "queue": {"queued": 7, "running": 1}}
    metrics.show_cluster("n", "c", status)
    text = metrics.text().decode()
    assert 'freehold_cluster_tasks{cluster="c",namespace="n",state="queued"} 7.0' in text
    assert 'cluster="c",group="g",namespace="n",state="desired"} 3.0' in text
    metrics.forget_cluster("n", "c")
    assert 'cluster="c"' not in metrics.text().decode()


# The head


class Recorder:
    """What would be done with the stream to a head."""

    def __init__(self) -> None:
        self.done: list[str] = []

    def watch(self, *_arguments: object) -> None:
        self.done.append("watch")

    def kick(self, _key: object) -> None:
        self.done.append("kick")

    def forget(self, _key: object) -> None:
        self.done.append("forget")

    def take(self) -> list[str]:
        done, self.done = self.done, []
        return done


def test_the_stream_to_a_head_follows_its_pod() -> None:
    heads = Recorder()
    tools: Any = SimpleNamespace(cache=Cache(), heads=heads)
    reconciler = Reconciler(tools, WorkQueue(lambda: NOW), settings.Settings())
    memory = Memory(UID)
    memory.has_secrets = True

    def look(*pods: PodFacts) -> list[str]:
        reconciler._watch_head(cluster(group()), pods, memory)
        return heads.take()

    starting = {"is_ready": False, "phase": "Pending"}
    running = {"is_ready": False, "is_running": True}
    assert look() == look(head(**starting)) == []
    assert look(head(**running)) == ["watch", "kick"]
    assert look(head(**running)) == ["watch"]
    assert look(head(is_running=True)) == ["watch", "kick"]
    assert look(head(is_running=True, deleting=True)) == []
    # Its machine is gone, and so is nobody's word that the stream has ended.
    other = msgspec.structs.replace(head().meta, uid="another")
    assert look(msgspec.structs.replace(head(**starting), meta=other)) == ["forget"]
    assert look(msgspec.structs.replace(head(**running), meta=other)) == ["watch", "kick"]


def test_a_heads_pod_is_reached_at_its_address() -> None:
    assert names.at("10.0.0.9") == "10.0.0.9:7400"
    assert names.at("fd00::9") == "[fd00::9]:7400"
