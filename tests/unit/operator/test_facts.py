"""Objects as the API has them, slimmed to what plans look at."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from freehold_operator.facts import MESSAGE_MAX, Trouble, parse_attempt, parse_pod
from freehold_operator.model import parse_cluster, parse_job
from freehold_operator.quantity import format_time, parse_quantity, parse_time, plain_number


def pod(status: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    """A worker's pod."""
    labels = {
        "freehold.dev/role": "worker",
        "freehold.dev/group": "g",
        "freehold.dev/attempt": "2",
    }
    notes = {"freehold.dev/ordinal": "7", "freehold.dev/template-hash": "abc"}
    given = {"name": "p", "namespace": "n", "uid": "u", "labels": labels, "annotations": notes}
    return {
        "metadata": given | metadata,
        "spec": {"nodeName": "k", "terminationGracePeriodSeconds": 75},
        "status": status,
    }


def container(state: dict[str, Any], name: str = "freehold", **more: Any) -> dict[str, Any]:
    """A container's status."""
    return {"containerStatuses": [{"name": name, "state": state, **more}]}


def test_a_ready_pod() -> None:
    conditions = [
        {"type": "Ready", "status": "True"},
        {"type": "PodScheduled", "status": "True"},
    ]
    found = parse_pod(pod({"phase": "Running", "conditions": conditions, "podIP": "10.0.0.1"}))
    assert (found.group, found.ordinal, found.attempt) == ("g", 7, 2)
    assert found.template_hash == "abc"
    assert found.is_ready
    assert found.is_living
    assert found.is_scheduled is True
    assert found.drain_timeout_s == 60
    assert found.trouble is None


def test_one_that_is_not_scheduled() -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes",
        "lastTransitionTime": "1970-01-01T00:01:00Z",
    }
    found = parse_pod(pod({"phase": "Pending", "conditions": [condition]}))
    assert found.is_scheduled is False
    assert found.unscheduled_since == 60
    assert found.trouble == Trouble("Unschedulable", "0/3 nodes")


@pytest.mark.parametrize(
    ("state", "trouble"),
    [
        ({"waiting": {"reason": "ContainerCreating"}}, None),
        ({"running": {}}, None),
        (
            {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
            Trouble("ImagePullBackOff", "container freehold: no such image"),
        ),
        (
            {"terminated": {"exitCode": 137, "reason": "OOMKilled"}},
            Trouble("OOMKilled", "container freehold: exit code 137"),
        ),
        ({"terminated": {"exitCode": 0, "reason": "Completed"}}, None),
    ],
)
def test_a_containers_trouble(state: dict[str, Any], trouble: Trouble | None) -> None:
    assert parse_pod(pod({"phase": "Pending", **container(state)})).trouble == trouble


def test_a_crash_loop_tells_how_it_ended_before() -> None:
    waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}
    status = container(waiting, lastState={"terminated": {"exitCode": 3}})
    found = parse_pod(pod({"phase": "Running", **status}))
    assert found.trouble is not None
    assert "exit code 3" in found.trouble.message


def test_an_evicted_pod() -> None:
    status = {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "low on memory",
        "conditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    found = parse_pod(pod(status))
    assert found.has_ended
    assert found.is_disrupted
    assert found.trouble == Trouble("Evicted", "low on memory")


def test_a_pod_that_ends() -> None:
    found = parse_pod(
        pod({}, deletionTimestamp="1970-01-01T00:02:00Z", deletionGracePeriodSeconds=30)
    )
    assert found.meta.deleting
    assert (found.grace_s, found.gone_by) == (30, 120)


def test_long_messages_are_cut() -> None:
    condition = {"type": "PodScheduled", "status": "False", "message": "x " * 5000}
    found = parse_pod(pod({"conditions": [condition]}))
    assert found.trouble is not None
    assert len(found.trouble.message) == MESSAGE_MAX


def test_jobs_end_by_their_conditions() -> None:
    body = {
        "metadata": {"name": "j-3", "labels": {"freehold.dev/attempt": "3"}},
        "status": {
            "conditions": [
                {
                    "type": "Failed",
                    "status": "True",
                    "reason": "BackoffLimitExceeded",
                    "lastTransitionTime": "1970-01-01T00:01:00Z",
                }
            ]
        },
    }
    found = parse_attempt(body)
    assert (found.attempt, found.failed, found.succeeded, found.finished) == (3, True, False, 60)
    assert found.has_ended


def test_a_short_spec_means_the_schemas_defaults() -> None:
    found = parse_cluster({"metadata": {"name": "c"}, "spec": {"workerGroups": [{"name": "g"}]}})
    assert found.spec.groups[0].drain_timeout_s == 60
    assert found.spec.fixed_replicas(found.spec.groups[0]) == 1
    assert found.spec.autoscaling is None
    assert found.spec.head.storage.size == "1Gi"
    assert parse_cluster({"metadata": {}, "spec": {"autoscaling": {}}}).spec.is_autoscaled
    off = {"autoscaling": {"enabled": False}}
    assert parse_cluster({"metadata": {}, "spec": off}).spec.autoscaling is None
    job = parse_job({"metadata": {"name": "j"}, "spec": {"entrypoint": "x"}})
    assert (job.spec.backoff_limit, job.spec.max_disruptions) == (0, 3)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500m", "0.5"),
        ("2", "2"),
        (3, "3"),
        ("1.5Gi", "1610612736"),
        ("1k", "1000"),
        ("1e3", "1000"),
        ("12E", "12e18"),
        ("100n", "1e-7"),
        ("1Ti", str(2**40)),
    ],
)
def test_quantities(text: str, value: str) -> None:
    assert parse_quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "x", "1X", "Gi", "1 Gi"])
def test_what_is_no_quantity(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse_quantity(text)


def test_numbers_and_times() -> None:
    assert repr(plain_number(Decimal("4.0"))) == "4"
    assert plain_number(Decimal("0.5")) == 0.5
    assert format_time(60.9) == "1970-01-01T00:01:00Z"
    assert parse_time("1970-01-01T00:01:00.25Z") == 60.25
    assert parse_time(None) is None
