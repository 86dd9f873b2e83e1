"""Every option's good and bad values, and that nothing is accepted that does nothing."""

from __future__ import annotations

from typing import Any

import pytest

import freehold
from freehold._api import options as opts
from freehold.errors import NotSupportedYetError
from freehold.util.scheduling_strategies import PlacementGroupSchedulingStrategy


class Plain:
    def work(self) -> None: ...


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"num_cpus": -1}, ValueError, "num_cpus must be a finite number of 0 or more, not -1"),
        ({"num_cpus": "2"}, ValueError, "num_cpus must be a number, not '2'"),
        ({"num_cpus": True}, ValueError, "num_cpus must be a number"),
        ({"num_cpus": float("nan")}, ValueError, "finite"),
        ({"num_cpus": 0.00001}, ValueError, "finer than 0.0001"),
        ({"num_gpus": 1.5}, ValueError, "above 1 must be a whole number"),
        ({"memory": -5}, ValueError, "memory must be"),
        ({"resources": {"CPU": 1}}, ValueError, "use num_cpus=1, not resources"),
        ({"resources": {"x": -1}}, ValueError, r"resources\['x'\] must be"),
        ({"resources": {1: 1}}, TypeError, "keys are non-empty strings"),
        ({"resources": ["x"]}, TypeError, "must be a dict"),
        ({"num_returns": -1}, ValueError, "num_returns must be 0 or more, not -1"),
        ({"num_returns": "two"}, ValueError, 'a number or "dynamic"'),
        ({"num_returns": 1.5}, TypeError, "must be an int"),
        ({"max_retries": -2}, ValueError, "max_retries must be 0 or more, or -1"),
        ({"max_calls": -1}, ValueError, "max_calls must be 0 or more"),
        ({"retry_exceptions": [1]}, TypeError, "lists 1, which is not an exception class"),
        ({"retry_exceptions": KeyError}, TypeError, "a bool or a list"),
        ({"timeout_s": 0}, ValueError, "more than 0 seconds"),
        ({"timeout_s": "1"}, TypeError, "a number of seconds"),
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"name": 1}, TypeError, "name must be a string"),
        ({"runtime_env": "x"}, TypeError, "runtime_env must be a dict"),
        ({"scheduling_strategy": "PACK"}, ValueError, '"DEFAULT", "SPREAD"'),
        ({"scheduling_strategy": 1}, TypeError, "strategy object"),
        ({"num_cpu": 1}, ValueError, "no option 'num_cpu'; did you mean 'num_cpus'"),
        ({"zzzzz": 1}, ValueError, "no option 'zzzzz'; there are: .*max_retries"),
        ({"max_restarts": 1}, ValueError, "max_restarts is an option of actors, not of remote fun"),
    ],
)
def test_bad_task_option(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        freehold.remote(**options)(lambda: None)
    with pytest.raises(error, match=text):
        freehold.remote(lambda: None).options(**options)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_restarts": -2}, ValueError, "max_restarts must be 0 or more, or -1"),
        ({"max_task_retries": "no"}, TypeError, "must be an int"),
        ({"max_concurrency": 0}, ValueError, "max_concurrency must be 1 or more"),
        ({"max_pending_calls": 0}, ValueError, "1 or more, or -1"),
        ({"lifetime": "forever"}, ValueError, '"detached", "non_detached" or None'),
        ({"get_if_exists": 1}, TypeError, "must be a bool"),
        ({"get_if_exists": True}, ValueError, "needs a name"),
        ({"namespace": ""}, ValueError, "namespace must not be empty"),
        ({"concurrency_groups": {"io": 0}}, ValueError, r"concurrency_groups\['io'\] must be 1"),
        ({"concurrency_groups": ["io"]}, TypeError, "must be a dict"),
        ({"max_retries": 1}, ValueError, "max_retries is an option of remote functions"),
        ({"num_returns": 2}, ValueError, "num_returns is an option of remote functions"),
        ({"max_restart": 1}, ValueError, "did you mean 'max_restarts'"),
    ],
)
def test_bad_actor_option(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        freehold.remote(**options)(Plain)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"num_returns": -1}, ValueError, "num_returns must be"),
        ({"num_cpus": 1}, ValueError, "num_cpus is an option of remote functions"),
        ({"concurency_group": "io"}, ValueError, "did you mean 'concurrency_group'"),
    ],
)
def test_bad_method_option(options: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        freehold.method(**options)


def test_method_needs_options_by_keyword() -> None:
    with pytest.raises(TypeError, match="by keyword"):
        freehold.method(lambda self: None)


@pytest.mark.parametrize(
    "options",
    [
        {"num_returns": "streaming"},
        {"scheduling_strategy": PlacementGroupSchedulingStrategy(None)},
        {"accelerator_type": "H100"},
        {"placement_group": object()},
        {"placement_group_bundle_index": 0},
        {"placement_group_capture_child_tasks": True},
        {"enable_task_events": False},
        {"fallback_strategy": [{}]},
        {"priority": 1},
        {"object_store_memory": 1},
        {"runtime_env": {"pip": ["six"]}},
        {"_metadata": {"a": 1}},
    ],
)
def test_option_that_is_not_built_is_refused_with_what_to_do_instead(
    options: dict[str, Any],
) -> None:
    with pytest.raises(NotSupportedYetError, match=r"is not supported yet; .+") as caught:
        freehold.remote(**options)(lambda: None)
    assert next(iter(options)).removeprefix("runtime_env") in str(caught.value)


def test_actor_option_that_is_not_built_is_refused() -> None:
    with pytest.raises(NotSupportedYetError):
        freehold.remote(allow_out_of_order_execution=True)(Plain)


@pytest.mark.parametrize("kind", sorted(opts.KINDS))
def test_none_stands_for_every_options_default(kind: str) -> None:
    nothing = dict.fromkeys(opts.KINDS[kind])
    assert opts.check(kind, nothing) == nothing


def test_rays_neutral_values_pass() -> None:
    neutral = {
        "scheduling_strategy": "DEFAULT",
        "placement_group": "default",
        "enable_task_events": True,
        "label_selector": {},
    }
    freehold.remote(**neutral)(lambda: None)
    freehold.remote(**neutral, lifetime="detached")(Plain)
    freehold.remote(**neutral, lifetime="non_detached", max_pending_calls=-1)(Plain)


def test_a_bool_is_not_taken_for_a_neutral_number() -> None:
    with pytest.raises(NotSupportedYetError):
        freehold.remote(priority=False)(lambda: None)
