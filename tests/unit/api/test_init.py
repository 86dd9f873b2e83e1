"""init and shutdown: arguments, what the driver is asked, and the life of the attached core."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from tests.unit.api.fake_core import FakeCore

import freehold
from freehold._api import state
from freehold._processes.driver.service import given_settings
from freehold.errors import ForkedProcessError, NotSupportedYetError, SettingsError

HEAVY = [
    *("numpy", "asyncio", "concurrent.futures", "pyarrow", "grpc", "msgspec", "inspect"),
    *("logging", "cloudpickle", "psutil", "threading", "dataclasses"),
]


def test_arguments_reach_the_driver(requests: list[Any]) -> None:
    context = freehold.init(
        num_cpus=2,
        num_gpus=1,
        resources={"spice": 0.5},
        object_store_memory=1 << 20,
        namespace="mine",
        log_to_driver=False,
        _memory=100,
        _system_config={"arena_bytes": 5},
    )
    [request] = requests
    assert request.resources == {"CPU": 2, "GPU": 1, "memory": 100, "spice": 0.5}
    assert (request.object_store_memory, request.namespace) == (1 << 20, "mine")
    assert (request.log_to_driver, request.system_config) == (False, {"arena_bytes": 5})
    assert context["namespace"] == context.namespace == "mine"
    assert dict(context) == context.address_info
    assert len(context) == 6


def test_defaults(requests: list[Any]) -> None:
    freehold.init()
    assert requests[0] == ({}, None, "", True, {}, {}, "")


def test_second_init_is_an_error_unless_ignored(requests: list[Any]) -> None:
    freehold.init(namespace="mine")
    with pytest.raises(RuntimeError, match=r"call shutdown\(\) first"):
        freehold.init()
    assert freehold.init(ignore_reinit_error=True)["namespace"] == "mine"
    assert len(requests) == 1


def test_with_block_ends_the_cluster(requests: list[Any]) -> None:
    with freehold.init():
        core: Any = state.core
        assert freehold.is_initialized()
    assert core.is_down
    assert not freehold.is_initialized()
    freehold.shutdown()
    freehold.init()
    freehold.shutdown(wait_for_processes=True)  # Ray's argument: it waits anyway
    assert not freehold.is_initialized()


def test_cluster_ends_also_when_shutdown_fails(requests: list[Any]) -> None:
    freehold.init()

    def broken() -> None:
        raise OSError("broken")

    core: Any = state.core
    core.shutdown = broken
    with pytest.raises(OSError, match="broken"):
        freehold.shutdown()
    assert not freehold.is_initialized()


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"num_cpus": -1}, ValueError, "num_cpus must be a finite number"),
        ({"num_gpus": 0.5}, ValueError, "must be a whole number"),
        ({"resources": {"GPU": 1}}, ValueError, "use num_gpus"),
        ({"object_store_memory": 0}, ValueError, "object_store_memory must be 1 or more"),
        ({"namespace": ""}, ValueError, "namespace must not be empty"),
        ({"log_to_driver": 1}, TypeError, "log_to_driver must be a bool"),
        ({"runtime_env": 1}, TypeError, "runtime_env must be a dict"),
        ({"num_cpu": 1}, TypeError, "no argument 'num_cpu'; did you mean 'num_cpus'"),
    ],
)
def test_bad_argument(
    requests: list[Any], arguments: dict[str, Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        freehold.init(**arguments)
    assert requests == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"address": "ray://head:10001"},
        {"include_dashboard": True},
        {"dashboard_port": 8265},
        {"local_mode": True},
        {"logging_level": "debug"},
        {"configure_logging": False},
        {"job_config": object()},
        {"_temp_dir": "x"},
    ],
)
def test_argument_that_is_not_built(requests: list[Any], arguments: dict[str, Any]) -> None:
    with pytest.raises(NotSupportedYetError, match=r"is not supported yet; .+"):
        freehold.init(**arguments)
    assert requests == []


def test_rays_defaults_are_taken(requests: list[Any]) -> None:
    freehold.init(
        address="local",
        include_dashboard=False,
        dashboard_host="127.0.0.1",
        configure_logging=True,
        logging_level=20,
        local_mode=False,
        job_config=None,
    )
    assert len(requests) == 1


def test_environment_of_the_job_is_inherited_and_merged(requests: list[Any]) -> None:
    freehold.init(runtime_env={"env_vars": {"A": "1", "B": "1"}})
    core: Any = state.core
    freehold.remote(lambda: None).remote()
    assert (core.task_options().env, core.envs) == ("env1", [({"A": "1", "B": "1"}, "")])
    freehold.remote(runtime_env={"env_vars": {"B": "2"}})(lambda: None).remote()
    assert core.task_options().env == "env2"
    assert core.envs[1] == ({"A": "1", "B": "2"}, "")


def test_worker_cannot_shut_its_cluster_down() -> None:
    core = FakeCore(is_driver=False)
    state.set_core(core, state.Inherited("env7", {"A": "1"}))
    try:
        with pytest.raises(RuntimeError, match="and this is a worker; return from the task"):
            freehold.shutdown()
        with pytest.raises(RuntimeError, match="initialized already"):
            freehold.init()
        freehold.remote(lambda: None).remote()
        assert core.task_options().env == "env7"
        assert not core.is_down
    finally:
        state.set_core(None)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_forked_child_gets_an_error_for_every_call(core: FakeCore) -> None:
    ref = freehold.put(1)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = []
        for call in (lambda: freehold.get(ref), lambda: freehold.put(1), freehold.init):
            try:
                call()
                said.append("nothing")
            except BaseException as error:
                said.append(f"{type(error).__name__} {error}")
        freehold.shutdown()
        said.append(f"{freehold.is_initialized()} {core.is_down}")
        os.write(writer, "\n".join(said).encode())
        os._exit(0)
    os.close(writer)
    assert os.waitpid(pid, 0)[1] == 0
    with os.fdopen(reader) as source:
        lines = source.read().splitlines()
    assert len(lines) == 4
    for line in lines[:3]:
        assert line.startswith(ForkedProcessError.__name__)
        assert f"process {pid} was forked from {os.getpid()}" in line
    assert lines[3] == "False False"
    assert freehold.get(ref) == 1


def test_import_is_light() -> None:
    code = f"import sys, freehold; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert found.stdout.strip() == "[]"


def test_submodules_need_no_import_of_their_own() -> None:
    code = (
        "import freehold\n"
        "print(freehold.exceptions.GetTimeoutError.__name__, freehold.util.ActorPool.__name__,\n"
        "      freehold.actor.exit_actor.__name__, freehold.runtime_env.RuntimeEnv.__name__)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert found.stdout.split() == ["GetTimeoutError", "ActorPool", "exit_actor", "RuntimeEnv"]
    with pytest.raises(AttributeError, match="freehold has no 'java_function'; docs/ray"):
        freehold.java_function  # noqa: B018


def test_version_is_that_of_the_distribution() -> None:
    from importlib.metadata import version

    assert freehold.__version__ == version("freehold")


@pytest.mark.parametrize(
    ("argument", "name", "value"),
    [
        ({"num_cpus": 1}, "num_cpus", 3),
        ({"_memory": 1000}, "memory", 3),
        ({"resources": {"spice": 1}}, "resources", {"salt": 1}),
        ({"object_store_memory": 2 << 20}, "object_store_memory", 1 << 20),
        ({"log_to_driver": False}, "log_to_driver", True),
    ],
)
def test_a_setting_given_twice_is_refused(
    requests: list[Any], argument: dict[str, Any], name: str, value: Any
) -> None:
    freehold.init(**argument, _system_config={name: value})
    with pytest.raises(SettingsError, match=f"setting {name}: init has .* give it once"):
        given_settings(requests[0])


def test_a_setting_given_twice_alike_or_once_is_taken(requests: list[Any]) -> None:
    freehold.init(num_cpus=2, _system_config={"num_cpus": 2, "log_to_driver": False})
    assert given_settings(requests[0]) == {"num_cpus": 2, "log_to_driver": False}
