"""Signals: Ctrl-C, alarms that raise, handlers of the user's, and what the program sees of ours."""

from __future__ import annotations

import collections
import gc
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from tests.integration.failures.kit import Script, family, nothing_left

import freehold
from freehold.exceptions import GetTimeoutError
from freehold.testing import eventually


class AlarmError(Exception):
    """What a handler raises."""


@pytest.fixture(autouse=True)
def _own_alarm() -> Iterator[None]:
    """pytest-timeout uses SIGALRM itself: it must have its handler and its clock back."""
    handler, left = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)[0]
    signal.setitimer(signal.ITIMER_REAL, 0)
    yield
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, left)


@pytest.fixture
def cluster() -> Iterator[None]:
    with freehold.init(num_cpus=2):
        yield


@freehold.remote
def double(number: int) -> int:
    return 2 * number


@freehold.remote
def sleep_for(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


@freehold.remote
def wait_for(path: str) -> str:
    eventually(lambda: os.path.exists(path), timeout_s=30)
    return path


def after(delay_s: float, act: Callable[[], Any]) -> threading.Timer:
    timer = threading.Timer(delay_s, act)
    timer.start()
    return timer


def interrupt() -> None:
    """A thread raises the signal; the main thread runs the handler."""
    os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("how", ["get", "wait", "get-timeout", "await", "future"])
def test_an_interrupt_leaves_a_wait_at_once(how: str, cluster: None, tmp_path: Path) -> None:
    path = str(tmp_path / "go")
    ref = wait_for.remote(path)
    timer = after(0.2, interrupt)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        wait_in(how, ref)
    assert time.monotonic() - started < 2
    timer.join()
    Path(path).touch()
    assert freehold.get(ref, timeout=10) == path
    assert freehold.get(double.remote(4)) == 8


def wait_in(how: str, ref: Any) -> None:
    if how == "get":
        freehold.get(ref)
    elif how == "wait":
        freehold.wait([ref])
    elif how == "get-timeout":
        freehold.get(ref, timeout=20)
    elif how == "future":
        ref.future().result()
    else:
        import asyncio

        async def wait() -> None:
            await ref

        asyncio.run(wait())


def test_an_interrupt_leaves_other_waiting_threads_alone(cluster: None, tmp_path: Path) -> None:
    path = str(tmp_path / "go")
    ref = wait_for.remote(path)
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(freehold.get(ref))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        timer = after(0.05, interrupt)
        with pytest.raises(KeyboardInterrupt):
            freehold.get(ref)
        timer.join()
    Path(path).touch()
    for thread in threads:
        thread.join(10)
    assert got == [path] * 4


def test_an_interrupted_put_that_waited_for_room_leaves_nothing() -> None:
    with freehold.init(num_cpus=1, object_store_memory=64 << 20):
        held = freehold.put(bytes(40 << 20))
        timer = after(0.3, interrupt)
        with pytest.raises(KeyboardInterrupt):
            freehold.put(bytes(40 << 20))
        timer.join()
        del held
        gc.collect()
        ref = freehold.put(bytes(60 << 20))
        assert len(freehold.get(ref)) == 60 << 20
        del ref
        gc.collect()
        total = freehold.cluster_resources()["object_store_memory"]
        eventually(lambda: freehold.available_resources().get("object_store_memory") == total)


CTRL_C = """
import subprocess
freehold.init(num_cpus=2)

@freehold.remote
class Keeper:
    def __init__(self):
        self.child = subprocess.Popen(["sleep", "600"])
    def pid(self):
        return os.getpid()

@freehold.remote
def loop():
    sum(range(10**12))

keeper = Keeper.remote()
freehold.get(keeper.pid.remote())
ref = loop.remote()
say("waiting")
freehold.get(ref)
"""


def test_ctrl_c_at_a_terminal_ends_the_program_and_its_cluster(tmp_path: Path) -> None:
    with Script(CTRL_C, tmp_path) as script:
        assert script.line() == "waiting"
        pids = family(script.pid)
        os.killpg(script.pid, signal.SIGINT)  # as a terminal does: to the foreground group
        assert script.wait(10) == -signal.SIGINT
        assert "KeyboardInterrupt" in script.errors()
        assert "freehold-reactor" not in script.errors()
        nothing_left(pids)


def test_sigterm_whose_handler_shuts_down_ends_cleanly(tmp_path: Path) -> None:
    source = (
        """
def on_term(number, frame):
    freehold.shutdown()
    say("down")
    sys.exit(5)

signal.signal(signal.SIGTERM, on_term)
"""
        + CTRL_C
    )
    with Script(source, tmp_path) as script:
        assert script.line() == "waiting"
        pids = family(script.pid)
        script.kill(signal.SIGTERM)
        assert script.line() == "down"
        assert script.wait(10) == 5
        nothing_left(pids)


def test_a_handler_that_shuts_down_and_returns_leaves_the_wait_with_an_error(
    tmp_path: Path,
) -> None:
    source = """
freehold.init(num_cpus=1)
signal.signal(signal.SIGTERM, lambda number, frame: freehold.shutdown())

@freehold.remote
def nap():
    time.sleep(600)

ref = nap.remote()
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
say("waiting")
try:
    freehold.get(ref)
except freehold.exceptions.ClusterDiedError as error:
    say("told", error)
freehold.init(num_cpus=1)
say(freehold.get(freehold.remote(abs).remote(-3)))
"""
    with Script(source, tmp_path) as script:
        assert script.line() == "waiting"
        pids = family(script.pid)
        assert "told" in script.line()
        assert script.line() == "3"
        assert script.wait(10) == 0
        assert script.errors() == ""
        nothing_left(pids)


def on_alarm_raise(number: int, frame: FrameType | None) -> None:
    raise AlarmError


def test_a_time_out_by_alarm_works(cluster: None, tmp_path: Path) -> None:
    """As pytest-timeout does it."""
    signal.signal(signal.SIGALRM, on_alarm_raise)
    path = str(tmp_path / "go")
    ref = wait_for.remote(path)
    for _ in range(3):
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(AlarmError):
            freehold.get(ref)
    with pytest.raises(GetTimeoutError):
        freehold.get(ref, timeout=0.1)
    Path(path).touch()
    assert freehold.get(ref) == path


_written: dict[str, int] = {}


@freehold.remote
def record(folder: str, number: int) -> int:
    """Write down that it ran; a second run of the same call shows."""
    if folder not in _written:
        flags = os.O_CREAT | os.O_APPEND | os.O_WRONLY
        _written[folder] = os.open(f"{folder}/{os.getpid()}", flags)
    os.write(_written[folder], number.to_bytes(8, "little"))
    return number


class Storm:
    """Alarms that raise inside the runtime, while eight threads fetch."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.alarms = 0
        self.is_over = False
        self.returned: list[int] = []
        self.fetched: list[tuple[int, int]] = []
        self.failures: list[BaseException] = []
        self.waiting: collections.deque[tuple[int, Any]] = collections.deque()

    def on_alarm(self, number: int, frame: FrameType | None) -> None:
        if frame is not None and frame.f_code.co_filename != __file__:
            self.alarms += 1
            raise AlarmError

    def fetch(self) -> None:
        while not (self.is_over and not self.waiting):
            try:
                number, ref = self.waiting.popleft()
            except IndexError:
                threading.Event().wait(0.001)
                continue
            try:
                self.fetched.append((number, freehold.get(ref, timeout=30)))
            except BaseException as error:
                self.failures.append(error)

    def submit(self, number: int) -> None:
        # References in the value of one, so that borrowing is interrupted as well.
        try:
            ref = record.remote(self.folder, number)
        except AlarmError:
            return
        self.returned.append(number)
        if number % 20:
            self.waiting.append((number, ref))
            return
        while True:
            try:
                self.fetched.append((number, freehold.get(ref, timeout=30)))
                return
            except AlarmError:
                continue

    def put_and_get(self, number: int) -> None:
        """Its own kind of waits: pieces in the store, and nested references."""
        try:
            inner = freehold.put(bytes(200_000))
            outer = freehold.put([inner, number])
            found, same = freehold.get(outer)
            assert len(freehold.get(found)) == 200_000
            assert same == number
        except AlarmError:
            pass

    def run(self, seconds: float) -> None:
        signal.signal(signal.SIGALRM, self.on_alarm)
        threads = [threading.Thread(target=self.fetch) for _ in range(8)]
        for thread in threads:
            thread.start()
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        number, end = 0, time.monotonic() + seconds
        try:
            while time.monotonic() < end:
                number += 1
                self.submit(number)
                if number % 50 == 0:
                    self.put_and_get(number)
                while len(self.waiting) > 1000:
                    threading.Event().wait(0.001)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_IGN)  # one may have been put off
            self.is_over = True
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()


def test_a_storm_of_alarms_loses_nothing_and_runs_nothing_twice(
    cluster: None, tmp_path: Path
) -> None:
    freehold.get(record.remote(str(tmp_path), 0))
    storm = Storm(str(tmp_path))
    storm.run(4.0)
    assert storm.failures == []
    assert storm.alarms > 100
    assert len(storm.returned) > 1000
    assert sorted(number for number, _ in storm.fetched) == storm.returned
    assert all(number == value for number, value in storm.fetched)
    ran = collections.Counter(
        int.from_bytes(data[at : at + 8], "little")
        for data in (path.read_bytes() for path in tmp_path.iterdir())
        for at in range(0, len(data), 8)
    )
    assert max(ran.values()) == 1
    assert not set(storm.returned) - set(ran)
    assert freehold.get([double.remote(i) for i in range(200)]) == list(range(0, 400, 2))
    gc.collect()
    total = freehold.cluster_resources()["object_store_memory"]
    eventually(lambda: freehold.available_resources().get("object_store_memory") == total)


def test_a_program_sees_its_own_handlers() -> None:
    def before(number: int, frame: FrameType | None) -> None: ...

    def during(number: int, frame: FrameType | None) -> None: ...

    real, real_get = signal.signal, signal.getsignal
    signal.signal(signal.SIGUSR1, before)
    try:
        freehold.init(num_cpus=1)
        assert signal.getsignal(signal.SIGUSR1) is before
        assert signal.signal(signal.SIGUSR1, during) is before
        assert signal.getsignal(signal.SIGUSR1) is during
        assert signal.signal(signal.SIGUSR1, signal.SIG_IGN) is during
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
        assert signal.signal(signal.SIGUSR1, during) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL
        with pytest.raises(TypeError):
            signal.signal(signal.SIGUSR1, "no handler")  # type: ignore[arg-type]
        with pytest.raises(ValueError):
            signal.signal(9999, during)
        freehold.shutdown()
        assert signal.getsignal(signal.SIGUSR1) is during
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert (signal.signal, signal.getsignal) == (real, real_get)
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def test_a_handler_may_submit_and_get_and_put(cluster: None, tmp_path: Path) -> None:
    got: list[Any] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        got.append(freehold.get(double.remote(len(got))))
        got.append(freehold.get(freehold.put("put")))

    signal.signal(signal.SIGUSR1, on_signal)
    try:
        path = str(tmp_path / "go")
        ref = wait_for.remote(path)

        def send_two() -> None:
            for count in (2, 4):  # one by one: two that come at once are one
                os.kill(os.getpid(), signal.SIGUSR1)
                eventually(lambda count=count: len(got) == count)  # type: ignore[misc]
            Path(path).touch()

        timers = [after(0.1, send_two)]
        assert freehold.get(ref, timeout=20) == path
        assert got == [0, "put", 4, "put"]
        # The same while another thread leads, and this one is only parked.
        other = threading.Thread(target=lambda: freehold.get(sleep_for.remote(0.6)))
        other.start()
        slow = sleep_for.remote(0.5)
        timers.append(after(0.2, lambda: os.kill(os.getpid(), signal.SIGUSR1)))
        assert freehold.get(slow, timeout=10) == 0.5
        other.join(10)
        assert got[4:] == [8, "put"]
        for timer in timers:
            timer.join()
    finally:
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


def test_handlers_that_submit_while_the_program_submits_too(cluster: None) -> None:
    refs: list[Any] = []

    def on_alarm(number: int, frame: FrameType | None) -> None:
        refs.append((len(refs), double.remote(len(refs))))

    signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        end = time.monotonic() + 1.5
        count = 0
        while time.monotonic() < end:
            assert freehold.get([double.remote(i) for i in range(20)]) == list(range(0, 40, 2))
            count += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert len(refs) > 50
    assert [freehold.get(ref) for _, ref in refs] == [2 * number for number, _ in refs]


def test_references_that_die_in_a_handler(cluster: None) -> None:
    held = [freehold.put(bytes(1 << 10)) for _ in range(300)]

    def on_alarm(number: int, frame: FrameType | None) -> None:
        if held:
            held.pop()
            if len(held) % 20 == 0:
                gc.collect()

    signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        end = time.monotonic() + 10
        while len(held) > 100 and time.monotonic() < end:
            more = [freehold.put([freehold.put(1)]) for _ in range(50)]
            assert freehold.get([double.remote(i) for i in range(20)]) == list(range(0, 40, 2))
            del more
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    assert len(held) <= 100


def test_a_task_may_use_alarms_of_its_own(cluster: None) -> None:
    @freehold.remote
    def with_alarm() -> str:
        signal.signal(signal.SIGALRM, on_alarm_raise)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            freehold.get(sleep_for.options(num_cpus=0).remote(5))
        except AlarmError:
            return "alarmed"
        return "not"

    assert freehold.get(with_alarm.remote(), timeout=10) == "alarmed"
