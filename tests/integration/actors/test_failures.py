"""Crashes, restarts, retries, kills and exits, and what each call is told."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.integration.actors.kit import (
    THERE,
    Recorder,
    after_file,
    is_running,
    kill_process,
    wait_for_file,
)

import freehold
from freehold.exceptions import ActorDiedError, ActorUnavailableError, TaskError, WorkerCrashedError
from freehold.testing import LocalCluster, eventually

pytestmark = pytest.mark.module_cluster


@freehold.remote
class Fragile:
    """Fails in many ways."""

    def __init__(self, log: str | None = None, fail: str = "") -> None:
        if log:
            with open(log, "a", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        if fail == "raise":
            raise ValueError("the constructor is broken")
        if fail == "exit":
            freehold.actor.exit_actor()
        if fail == "crash":
            os._exit(7)
        self.calls = 0

    def add(self) -> int:
        self.calls += 1
        return self.calls

    def pid(self) -> int:
        return os.getpid()

    def crash(self, code: int = 3) -> None:
        print("last words")
        os._exit(code)

    def crash_once(self, marker: str) -> str:
        if not os.path.exists(marker):
            Path(marker).touch()
            os._exit(1)
        return "survived"

    def raise_until(self, folder: str, times: int) -> int:
        tries = len(os.listdir(folder))
        Path(folder, str(tries)).touch()
        if tries < times:
            raise ConnectionError(f"try {tries}")
        return tries

    def segfault(self) -> None:
        import ctypes

        ctypes.string_at(0)

    def leave(self) -> None:
        freehold.actor.exit_actor()

    def sys_exit(self, code: Any = None) -> None:
        sys.exit(code)

    def block(self, path: str) -> str:
        return wait_for_file(path)

    def restarted(self) -> bool:
        return freehold.get_runtime_context().was_current_actor_reconstructed


@freehold.remote
class AsyncLeaver:
    async def wait(self) -> None:
        import asyncio

        await asyncio.sleep(60)

    async def leave(self) -> None:
        freehold.actor.exit_actor()

    async def ping(self) -> int:
        return 1


def died(ref: Any, match: str | None = None, timeout: float = 20) -> ActorDiedError:
    with pytest.raises(ActorDiedError, match=match) as caught:
        freehold.get(ref, timeout=timeout)
    return caught.value


# ---- crashes -----------------------------------------------------------------------------------


def test_a_crash_is_told_with_code_and_last_lines(clean: LocalCluster) -> None:
    actor = Fragile.options(resources=THERE).remote()
    pid = freehold.get(actor.pid.remote())
    running, queued = actor.crash.remote(), actor.add.remote()
    for ref in (running, queued, actor.add.remote()):
        error = died(ref)
        cause = error.__cause__
        assert isinstance(cause, WorkerCrashedError)
        assert cause is error.cause
        assert cause.exit_code == 3
        assert cause.pid == pid
        assert "last words" in "\n".join(cause.last_log_lines)
        assert "last words" in str(error)
        assert error.actor_id == actor._actor_id.hex()
        assert error.actor_name == "Fragile"


def test_a_signal_is_told_by_name(clean: LocalCluster) -> None:
    actor = Fragile.options(resources=THERE).remote()
    cause = died(actor.segfault.remote()).cause
    assert isinstance(cause, WorkerCrashedError)
    assert cause.signal == "SIGSEGV"
    other = Fragile.remote()
    kill_process(freehold.get(other.pid.remote()))
    cause = died(other.add.remote()).cause
    assert isinstance(cause, WorkerCrashedError)
    assert cause.signal == "SIGKILL"


def test_what_was_done_before_a_crash_is_done(clean: LocalCluster) -> None:
    """Pipelined calls at a SIGKILL: each has its result or an error, in order; none hangs."""
    for _ in range(5):
        actor = Fragile.remote()
        pid = freehold.get(actor.pid.remote())
        refs = [actor.add.remote() for _ in range(2000)]
        freehold.get(refs[20])
        os.kill(pid, 9)
        refs += [actor.add.remote() for _ in range(50)]
        results = freehold.get(refs, timeout=20, return_exceptions=True)
        done = [r for r in results if isinstance(r, int)]
        assert done == list(range(1, len(done) + 1))
        assert len(done) > 20
        assert all(isinstance(r, ActorDiedError) for r in results[len(done) :])


def test_calls_of_other_processes_fail_too(clean: LocalCluster, tmp_path: Path) -> None:
    @freehold.remote
    def call(actor: Any, gate: str) -> str:
        try:
            freehold.get(actor.block.remote(gate))
        except ActorDiedError as error:
            return type(error.cause).__name__
        return "fine"

    actor = Fragile.remote()
    pid = freehold.get(actor.pid.remote())
    refs = [
        call.options(num_cpus=0.5).remote(actor, str(tmp_path / "never")),
        call.options(resources=THERE, num_cpus=0.5).remote(actor, str(tmp_path / "never")),
    ]
    ready, _ = freehold.wait(refs, timeout=0.7)
    assert ready == []
    kill_process(pid)
    assert freehold.get(refs, timeout=20) == ["WorkerCrashedError"] * 2


# ---- constructors ------------------------------------------------------------------------------


def test_a_constructors_error_is_every_calls_error(clean: LocalCluster, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    actor = Fragile.options(resources=THERE).remote(None, after_file.remote(str(gate), "raise"))
    before = [actor.add.remote() for _ in range(3)]
    gate.touch()
    errors = [died(ref, "the constructor is broken") for ref in before]
    errors.append(died(actor.add.remote(), "the constructor is broken"))
    for error in errors:
        assert isinstance(error.__cause__, TaskError)
        assert isinstance(error.cause.cause, ValueError)
        assert error.actor_init_failed
        assert "Fragile.__init__" in str(error)

    @freehold.remote
    def call(handle: Any) -> str:
        with pytest.raises(ActorDiedError, match="the constructor is broken"):
            freehold.get(handle.add.remote())
        return "told"

    assert freehold.get(call.remote(actor)) == "told"


def test_a_constructors_error_is_not_restarted(clean: LocalCluster, tmp_path: Path) -> None:
    log = tmp_path / "log"
    actor = Fragile.options(max_restarts=5).remote(str(log), "raise")
    died(actor.add.remote(), "constructor")
    assert len(log.read_text().split()) == 1


def test_a_crash_in_the_constructor_is_restarted(clean: LocalCluster, tmp_path: Path) -> None:
    log = tmp_path / "log"
    actor = Fragile.options(max_restarts=2).remote(str(log), "crash")
    cause = died(actor.add.remote()).cause
    assert isinstance(cause, WorkerCrashedError)
    assert cause.exit_code == 7
    assert len(log.read_text().split()) == 3


def test_leaving_in_the_constructor(clean: LocalCluster) -> None:
    actor = Fragile.options(max_restarts=2).remote(None, "exit")
    died(actor.add.remote(), "exited intentionally")


def test_a_failed_argument_of_the_constructor(clean: LocalCluster) -> None:
    @freehold.remote
    def broken() -> None:
        raise KeyError("no argument")

    actor = Fragile.remote(broken.remote())
    error = died(actor.add.remote(), "an argument of its constructor")
    assert isinstance(error.cause, TaskError)
    assert "no argument" in str(error)
    died(actor.add.remote(), "an argument of its constructor")


def test_a_class_that_cannot_be_unpickled(clean: LocalCluster) -> None:
    class Poison:
        def __reduce__(self) -> Any:
            return int, ("not a number",)

    poison = Poison()

    @freehold.remote
    class Holder:
        value = poison

        def ping(self) -> int:
            return 1

    actor = Holder.remote()
    died(actor.ping.remote(), "invalid literal")


# ---- restarts ----------------------------------------------------------------------------------


def test_max_restarts_brings_it_back_without_its_state(clean: LocalCluster) -> None:
    actor = Fragile.options(max_restarts=2, resources=THERE).remote()
    for attempt in range(2):
        assert freehold.get([actor.add.remote() for _ in range(3)]) == [1, 2, 3]
        assert freehold.get(actor.restarted.remote()) is (attempt > 0)
        with pytest.raises(ActorUnavailableError, match=r"exit code 3|exited with code 3"):
            freehold.get(actor.crash.remote(), timeout=20)
    assert freehold.get(actor.add.remote()) == 1
    died(actor.crash.remote())
    died(actor.add.remote())


def test_endless_restarts(clean: LocalCluster) -> None:
    actor = Fragile.options(max_restarts=-1).remote()
    for _ in range(4):
        kill_process(freehold.get(actor.pid.remote(), timeout=20))
        eventually(lambda: try_to(actor))
    assert freehold.get(actor.restarted.remote())


def try_to(actor: Any) -> bool:
    try:
        freehold.get(actor.add.remote(), timeout=20)
    except ActorUnavailableError:
        return False
    return True


def test_calls_made_while_it_restarts_wait(clean: LocalCluster) -> None:
    actor = Fragile.options(max_restarts=1).remote()
    freehold.get(actor.add.remote())
    crashed = actor.crash.remote()
    with pytest.raises(ActorUnavailableError):
        freehold.get(crashed, timeout=20)
    assert freehold.get([actor.add.remote() for _ in range(10)], timeout=20) == list(range(1, 11))


def test_max_task_retries_calls_again(clean: LocalCluster, tmp_path: Path) -> None:
    actor = Fragile.options(max_restarts=1, max_task_retries=1, resources=THERE).remote()
    refs = [actor.add.remote(), actor.crash_once.remote(str(tmp_path / "m"))]
    refs += [actor.add.remote() for _ in range(5)]
    found = freehold.get(refs, timeout=20)
    assert found[:2] == [1, "survived"]
    assert found[2:] == [1, 2, 3, 4, 5]


def test_retries_run_out(clean: LocalCluster) -> None:
    actor = Fragile.options(max_restarts=3, max_task_retries=2).remote()
    with pytest.raises(ActorUnavailableError):
        freehold.get(actor.crash.remote(), timeout=30)
    assert freehold.get(actor.add.remote(), timeout=20) == 1


def test_infinite_method_retries_until_the_actor_is_dead(clean: LocalCluster) -> None:
    actor = Fragile.options(max_restarts=2, max_task_retries=-1).remote()
    died(actor.crash.remote(), timeout=30)


def test_retry_exceptions_of_methods(clean: LocalCluster, tmp_path: Path) -> None:
    actor = Fragile.options(resources=THERE).remote()
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    method = actor.raise_until.options(max_task_retries=3, retry_exceptions=[ConnectionError])
    assert freehold.get(method.remote(str(tmp_path / "a"), 2)) == 2
    with pytest.raises(ConnectionError):
        freehold.get(method.remote(str(tmp_path / "b"), 9))
    assert len(os.listdir(tmp_path / "b")) == 4
    other = actor.raise_until.options(max_task_retries=3, retry_exceptions=[KeyError])
    with pytest.raises(ConnectionError):
        freehold.get(other.remote(str(tmp_path / "c"), 2))
    assert freehold.get(actor.add.remote()) == 1


# ---- kill and exit -----------------------------------------------------------------------------


def test_kill_ends_it_for_good(clean: LocalCluster, tmp_path: Path) -> None:
    actor = Fragile.options(max_restarts=5, resources=THERE).remote()
    pid = freehold.get(actor.pid.remote())
    running = actor.block.remote(str(tmp_path / "never"))
    queued = actor.add.remote()
    freehold.kill(actor)
    for ref in (running, queued, actor.add.remote()):
        assert died(ref, "killed by freehold.kill").cause is None
    eventually(lambda: not is_running(pid))


def test_kill_with_restart(clean: LocalCluster, tmp_path: Path) -> None:
    actor = Fragile.options(max_restarts=1).remote()
    pid = freehold.get(actor.pid.remote())
    running = actor.block.remote(str(tmp_path / "never"))
    freehold.kill(actor, no_restart=False)
    with pytest.raises(ActorUnavailableError, match="kill"):
        freehold.get(running, timeout=20)
    assert freehold.get(actor.pid.remote(), timeout=20) != pid
    assert freehold.get(actor.restarted.remote())
    running = actor.block.remote(str(tmp_path / "never"))
    freehold.kill(actor, no_restart=False)
    died(running, "kill")
    died(actor.add.remote())


def test_a_kill_is_not_overtaken_by_later_calls(clean: LocalCluster) -> None:
    for _ in range(20):
        actor = Fragile.remote()
        assert freehold.get(actor.add.remote()) == 1
        freehold.kill(actor)
        died(actor.add.remote(), "killed by freehold.kill")


def test_a_kill_that_allows_a_restart_is_not_overtaken_by_later_calls(clean: LocalCluster) -> None:
    actor = Fragile.options(max_restarts=-1).remote()
    pid = freehold.get(actor.pid.remote())
    for _ in range(10):
        freehold.kill(actor, no_restart=False)
        last, pid = pid, freehold.get(actor.pid.remote(), timeout=20)
        assert pid != last


def test_kill_while_the_constructor_waits_for_an_argument(
    clean: LocalCluster, tmp_path: Path
) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    actor = Fragile.remote(after_file.remote(str(gate), str(log)))
    ref = actor.add.remote()
    freehold.kill(actor)
    died(ref, "killed by freehold.kill")
    gate.touch()
    assert freehold.get(Fragile.remote().add.remote()) == 1
    assert not log.exists()


def test_kill_before_it_is_alive(clean: LocalCluster) -> None:
    for _ in range(10):
        actor = Fragile.remote()
        ref = actor.add.remote()
        freehold.kill(actor)
        died(ref)


def test_kill_twice_and_kill_of_no_actor(clean: LocalCluster) -> None:
    actor = Fragile.remote()
    freehold.kill(actor)
    freehold.kill(actor)
    died(actor.add.remote())
    with pytest.raises(TypeError, match="actor handle"):
        freehold.kill(freehold.put(1))  # type: ignore[arg-type]


def test_kill_by_somebody_else(clean: LocalCluster) -> None:
    @freehold.remote
    def kill(actor: Any) -> None:
        freehold.kill(actor)

    actor = Fragile.remote()
    freehold.get(actor.add.remote())
    blocked = actor.block.remote("/nowhere")
    freehold.get(kill.options(resources=THERE).remote(actor))
    died(blocked)
    died(actor.add.remote())


@pytest.mark.parametrize("how", ["leave", "sys_exit", "__ray_terminate__"])
def test_leaving(clean: LocalCluster, how: str) -> None:
    actor = Fragile.options(max_restarts=5, max_task_retries=5, resources=THERE).remote()
    pid = freehold.get(actor.pid.remote())
    done, leaving, queued = actor.add.remote(), getattr(actor, how).remote(), actor.add.remote()
    assert freehold.get(done) == 1
    for ref in (leaving, queued, actor.add.remote()):
        assert died(ref, "exited intentionally").cause is None
    eventually(lambda: not is_running(pid))


def test_sys_exit_with_a_code_is_a_crash(clean: LocalCluster) -> None:
    actor = Fragile.options(max_restarts=1).remote()
    with pytest.raises(ActorUnavailableError):
        freehold.get(actor.sys_exit.remote(5), timeout=20)
    cause = died(actor.sys_exit.remote(5)).cause
    assert isinstance(cause, WorkerCrashedError)
    assert cause.exit_code == 5


def test_leaving_an_async_actor(clean: LocalCluster) -> None:
    actor = AsyncLeaver.options(max_restarts=5).remote()
    freehold.get(actor.ping.remote())
    refs = [actor.wait.remote(), actor.leave.remote(), actor.ping.options().remote()]
    died(refs[0], "exited intentionally")
    died(refs[1], "exited intentionally")
    died(actor.ping.remote(), "exited intentionally")


def test_leaving_a_threaded_actor(clean: LocalCluster, tmp_path: Path) -> None:
    actor = Fragile.options(max_concurrency=2).remote()
    running = actor.block.remote(str(tmp_path / "never"))
    died(actor.leave.remote(), "exited intentionally")
    died(running, "exited intentionally")


def test_exit_actor_outside_an_actor_is_refused(clean: LocalCluster) -> None:
    with pytest.raises(TypeError, match="actor"):
        freehold.actor.exit_actor()

    @freehold.remote
    def leave() -> None:
        freehold.actor.exit_actor()

    with pytest.raises(TypeError, match="actor"):
        freehold.get(leave.remote())


def test_atexit_runs_when_it_leaves(clean: LocalCluster, tmp_path: Path) -> None:
    @freehold.remote
    class Tidy:
        def __init__(self, path: str) -> None:
            import atexit

            atexit.register(lambda: Path(path).touch())

        def leave(self) -> None:
            freehold.actor.exit_actor()

    marker = tmp_path / "marker"
    actor = Tidy.remote(str(marker))
    died(actor.leave.remote())
    eventually(marker.exists)


def test_errors_of_methods_do_not_end_it(clean: LocalCluster) -> None:
    actor = Recorder.options(resources=THERE).remote()
    for _ in range(3):
        with pytest.raises(ValueError, match="on purpose") as caught:
            freehold.get(actor.fail.remote())
        assert "Recorder.fail" in str(caught.value)
    assert freehold.get(actor.add.remote(1)) == 1


def test_many_threads_share_one_death(clean: LocalCluster) -> None:
    actor = Fragile.remote()
    freehold.get(actor.add.remote())
    found: list[str] = []

    def call() -> None:
        try:
            while True:
                freehold.get(actor.add.remote(), timeout=20)
        except ActorDiedError as error:
            found.append(type(error.cause).__name__)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    pid = freehold.get(actor.pid.remote())
    kill_process(pid)
    for thread in threads:
        thread.join(20)
    assert found == ["WorkerCrashedError"] * 4
