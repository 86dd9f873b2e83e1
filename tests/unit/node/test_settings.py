"""Settings: where a value comes from, and what is said of a wrong one."""

from __future__ import annotations

from typing import Any

import pytest

from freehold._processes.node.settings import (
    NodeSettings,
    arena_bytes,
    machine_memory,
    pending_bytes,
    total_resources,
)
from freehold._processes.settings import describe, resolve
from freehold.errors import SettingsError


def settings(variables: dict[str, str] | None = None, **given: Any) -> NodeSettings:
    return resolve(NodeSettings, given, variables or {})[0]


def test_an_argument_wins_over_a_variable_and_that_over_the_default() -> None:
    variables = {"FREEHOLD_NUM_CPUS": "3", "FREEHOLD_LOG_TO_DRIVER": "false", "OTHER": "x"}
    found, sources = resolve(NodeSettings, {"num_cpus": 5, "num_gpus": None}, variables)
    assert found.num_cpus == 5
    assert found.log_to_driver is False
    assert sources["num_cpus"] == "argument"
    assert sources["log_to_driver"] == "variable FREEHOLD_LOG_TO_DRIVER"
    assert sources["idle_worker_s"] == "default"


def test_structured_variables_are_json() -> None:
    assert settings({"FREEHOLD_RESOURCES": '{"disk": 0.5}'}).resources == {"disk": 0.5}


def test_what_a_kubelet_says_of_services_is_no_setting() -> None:
    """A pod beside a Service named `freehold` or `freehold-control` has such variables."""
    links = {
        "FREEHOLD_SERVICE_HOST": "10.96.0.7",
        "FREEHOLD_SERVICE_PORT_METRICS": "8080",
        "FREEHOLD_PORT": "tcp://10.96.0.7:8080",
        "FREEHOLD_PORT_8080_TCP_ADDR": "10.96.0.7",
        "FREEHOLD_CONTROL_PORT": "tcp://10.96.0.8:7400",
    }
    assert settings(links) == settings()
    assert settings({"FREEHOLD_CONTROL_PORT": "7400"}).control_port == 7400


@pytest.mark.parametrize(
    ("variables", "given", "message"),
    [
        ({"FREEHOLD_NUM_CPU": "1"}, {}, "did you mean FREEHOLD_NUM_CPUS"),
        ({}, {"idle_worker": 1}, "did you mean idle_worker"),
        ({"FREEHOLD_NUM_CPUS": "many"}, {}, "'many' is not float"),
        ({}, {"num_cpus": "1"}, "'1' is not float"),
        ({}, {"num_cpus": -1}, "must be a finite number of 0 or more"),
        ({}, {"resources": {"CPU": 1}}, "use num_cpus"),
        ({}, {"object_store_memory": 10}, "at least 1048576 bytes"),
        ({}, {"idle_worker_s": 0}, "must be above 0"),
        ({}, {"lineage_bytes": -1}, "lineage_bytes is -1 but must be 0 or more"),
        ({}, {"pending_bytes": -1}, "pending_bytes is -1 but must be 0 or more"),
        ({"FREEHOLD_PENDING_BYTES": "all"}, {}, "'all' is not"),
        ({}, {"resources": {"disk": -1}}, "setting resources: .* disk must be a finite number"),
    ],
)
def test_a_wrong_setting_is_told_by_name(
    variables: dict[str, str], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        settings(variables, **given)


def test_every_setting_says_what_it_is_for() -> None:
    found, sources = resolve(NodeSettings, {}, {})
    described = describe(NodeSettings, found, sources)
    assert [entry.name for entry in described if len(entry.text) < 20] == []


def test_resources_are_whole_units() -> None:
    chosen = settings(num_cpus=0.5, num_gpus=0, memory=7, resources={"disk": 0.0001})
    assert total_resources(chosen) == {"CPU": 5_000, "memory": 70_000, "disk": 1}


def test_the_store_takes_a_share_of_memory() -> None:
    assert arena_bytes(settings(object_store_memory=5 << 20)) == 5 << 20
    assert arena_bytes(settings()) % (1 << 20) == 0


def test_pending_tasks_may_hold_a_share_of_memory_unless_told() -> None:
    assert pending_bytes(settings()) == machine_memory() // 4
    assert pending_bytes(settings({"FREEHOLD_PENDING_BYTES": "5000"})) == 5000
    assert pending_bytes(settings(pending_bytes=0)) == 0


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("idle_workers", -5, "0 to 10000, or -1"),
        ("prestart_workers", -7, "0 to 10000, or -1"),
        ("prestart_workers", 1_000_000, "0 to 10000, or -1"),
        ("starts_at_once", 0, "1 to 10000, or -1"),
        ("starts_at_once", -3, "1 to 10000, or -1"),
        ("object_store_memory", 1 << 50, "at most [0-9]+ bytes"),
        ("object_store_memory", 10, "at least 1048576 bytes"),
        ("touched_free_bytes", -1, "0 or more"),
        ("full_timeout_s", -1, "above 0 s"),
    ],
)
def test_a_number_out_of_bounds_is_told_with_what_is_allowed(
    name: str, value: int, allowed: str
) -> None:
    with pytest.raises(SettingsError, match=f"setting {name}: {name} is {value}[ .].*{allowed}"):
        settings(**{name: value})


def test_the_least_numbers_are_allowed() -> None:
    chosen = settings(idle_workers=0, prestart_workers=0, starts_at_once=1)
    assert (chosen.idle_workers, chosen.prestart_workers, chosen.starts_at_once) == (0, 0, 1)
    assert settings(idle_workers=-1, prestart_workers=-1, starts_at_once=-1)
