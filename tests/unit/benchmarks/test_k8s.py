"""The benchmark on Kubernetes, as far as it goes without one: its arithmetic and its watch."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from benchmarks import k8s
from benchmarks.k8s_figures import (
    READY,
    ROWS,
    Event,
    create_times,
    delays,
    event,
    queued_times,
    ready_seconds,
)
from benchmarks.model import BenchError, Sample
from benchmarks.verdicts import Results, lines
from e2e.support.cluster import Cluster

ABOUT = "FuturesCluster/space/elastic"


def _said(second: str, about: str, action: str, what: str) -> str:
    fields = {"about": about, "action": action, "what": what, "why": "action=create"}
    logger = "freehold_operator.decisions"
    return json.dumps({"time": f"2026-01-02T03:04:{second}Z", "logger": logger, **fields})


OPERATOR_LOG = "\n".join(
    [
        _said("05.250", ABOUT, "create", "Secret/elastic-ca"),
        _said("06.750", ABOUT, "create", "Pod/elastic-workers-abc"),
        _said("07.000", f"{ABOUT}-2", "create", "Pod/elastic-2-workers-abc"),
        _said("08.000", ABOUT, "delete", "Pod/elastic-workers-abc"),
        '{"time": "2026-01-02T03:04:09.000Z", "logger": "freehold_operator.reconciler"}',
        "something of a library",
    ]
)
AT = 1767323045.0
"""2026-01-02T03:04:05Z."""


def test_create_times_are_those_of_the_clusters_own_pods() -> None:
    assert create_times(OPERATOR_LOG, ABOUT) == [pytest.approx(AT + 1.75)]


def test_queue_changes_are_read_off_the_drivers_log() -> None:
    assert queued_times("hello\nqueued 12.345\nnot queued 1\nqueued 20.000\ndone\n") == [12.345, 20]


def test_a_delay_runs_to_the_first_create_call_after_the_change() -> None:
    assert delays([10.0, 20.0], [9.0, 10.25, 11.0, 20.5]) == [0.25, 0.5]


def test_a_change_that_brought_no_pod_is_an_error() -> None:
    with pytest.raises(BenchError, match="change 1 "):
        delays([10.0, 20.0], [9.0, 20.5])


def test_ready_is_counted_from_when_the_object_was_there() -> None:
    events: list[Event] = [
        event(1.0, "other True\n"),
        event(2.0, "own \n"),
        event(3.0, "own False\n"),
        event(4.5, "own True\n"),
        event(6.0, "own False\n"),
    ]
    assert ready_seconds(events, "own") == 2.5
    assert ready_seconds(events[:3], "own") is None
    assert ready_seconds(events, "unknown") is None


def test_cluster_is_held_to_three_times_the_median_of_the_bare_pods() -> None:
    results = Results()
    for source, values in (("freehold", (5.0, 6.1, 9.0)), ("baseline", (1.0, 2.0, 4.0))):
        for value in values:
            results.samples[READY.key, "plain", source].append(Sample(value))  # type: ignore[index]
    create, ready, on_volume = lines(ROWS, results, sides=("freehold",))
    assert ready.verdict == "miss"
    assert create.verdict == on_volume.verdict == "error"  # nothing was measured


def test_watch_stamps_the_lines_of_kubectl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text("#!/bin/sh\necho 'own '\necho 'own True'\nexec sleep 60\n")
    kubectl.chmod(kubectl.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(k8s, "binaries", lambda name: {name: kubectl})
    watch = k8s.Watch(Cluster(tmp_path / "kubeconfig"), "pods", "space")
    try:
        assert 0 <= watch.ready_seconds("own") < 60
    finally:
        watch.end()
    with pytest.raises(BenchError, match="ended"):
        watch.ready_seconds("another")


def test_driver_of_the_rounds_is_a_program() -> None:
    program = k8s.DRIVER.format(rounds=3)
    compile(program, "driver", "exec")
    assert "range(3)" in program
