"""What a kubelet does for the operator's pod: starts it, probes /healthz, starts it anew."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from freehold.testing import eventually

PROBE_PERIOD_S = 1.0
PROBE_TIMEOUT_S = 2.0
FAILURES_MAX = 3
START_TIMEOUT_S = 60.0


class Zygote:
    """The process that operators are forked from; see `zygote`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.api.support.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).resolve().parents[3],
        )
        self._condition = threading.Condition()
        self._started: list[int] = []
        self.ended: dict[int, int] = {}
        self._is_ready = False
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        with self._condition:
            self._condition.wait_for(lambda: self._is_ready, START_TIMEOUT_S)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            with self._condition:
                if "pid" in told:
                    self._started.append(told["pid"])
                elif "ended" in told:
                    self.ended[told["ended"]] = told["status"]
                else:
                    self._is_ready = True
                self._condition.notify_all()

    def start(self, env: dict[str, str], log: Path, die: tuple[int, str] | None = None) -> int:
        """Fork an operator; its pid."""
        assert self._process.stdin is not None
        command = {"env": env, "log": str(log), "die": die}
        with self._condition:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            found = self._condition.wait_for(lambda: self._started, START_TIMEOUT_S)
            assert found, "the zygote does not answer"
            return self._started.pop()

    def wait(self, pid: int, timeout_s: float) -> int | None:
        """An operator's exit code; None if it still runs then."""
        with self._condition:
            self._condition.wait_for(lambda: pid in self.ended, timeout_s)
            return self.ended.get(pid)

    def close(self) -> None:
        """End it, and every operator."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(START_TIMEOUT_S)
        self._reader.join(START_TIMEOUT_S)
        self._process.stdout.close()


def _kill(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # it has just ended by itself


class Operator:
    """An operator that is kept running, in one namespace.

    Args:
        settings: more of its settings, without their prefix.
        die: at which write it dies the first time, for tests that kill it.
    """

    def __init__(
        self,
        zygote: Zygote,
        kubeconfig: Path,
        namespace: str,
        folder: Path,
        settings: dict[str, Any] | None = None,
        die: tuple[int, str] | None = None,
    ) -> None:
        self._zygote = zygote
        self._env = {"KUBECONFIG": str(kubeconfig), "NO_PROXY": "*", "no_proxy": "*"}
        given = {"namespaces": namespace, "port": 0, "host": "127.0.0.1", **(settings or {})}
        self._env |= {f"FREEHOLD_OPERATOR_{k.upper()}": str(v) for k, v in given.items()}
        self._folder = folder
        self._pending_death = die
        self._probe_s = PROBE_PERIOD_S if die is None else 0.2
        self._stop = threading.Event()
        self._away = threading.Event()
        self._pid = 0
        self.logs: list[Path] = []
        self.exits: list[int] = []
        self._thread = threading.Thread(target=self._keep_running)

    def __enter__(self) -> Self:
        self._start()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.end(signal.SIGTERM)

    @property
    def restarts(self) -> int:
        """How often it was started anew."""
        return len(self.logs) - 1

    def end(self, number: signal.Signals) -> int:
        """End the process that runs now; its exit code. The supervisor starts another."""
        pid = self._pid
        _kill(pid, number)
        code = self._zygote.wait(pid, 10.0)
        if code is None:
            _kill(pid, signal.SIGKILL)
            code = self._zygote.wait(pid, 10.0)
            raise AssertionError(f"the operator did not end by {number.name} in 10 s")
        return code

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """No operator meanwhile."""
        self._away.set()
        self.end(signal.SIGKILL)
        try:
            yield
        finally:
            self._away.clear()

    def replace(self, die: tuple[int, str]) -> None:
        """End the process that runs, and start one in its place that dies at a write."""
        with self.away():
            self._pending_death, self._probe_s = die, 0.2
            self._start()

    def kill(self) -> None:
        """Kill it as a lost node would."""
        self.end(signal.SIGKILL)

    def log(self) -> str:
        """Everything its processes wrote."""
        return "\n".join(path.read_text() for path in self.logs if path.exists())

    def port(self) -> int:
        """The health port of the process that runs now; 0 until it has one."""
        path = self.logs[-1]
        for line in path.read_text().splitlines() if path.exists() else ():
            if "operator started" in line:
                return int(line.rpartition("port=")[2])
        return 0

    def probe(self, path: str = "/healthz") -> tuple[int, str]:
        """Status and text of a probe; 0 if there is no answer."""
        port = self.port()
        if not port:
            return 0, ""
        try:
            url = f"http://127.0.0.1:{port}{path}"
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(url, timeout=PROBE_TIMEOUT_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def wait_ready(self) -> None:
        """Until it has listed everything."""
        eventually(lambda: self.probe("/readyz")[0] == 200, START_TIMEOUT_S, interval_s=0.05)

    def _start(self) -> None:
        self.logs.append(self._folder / f"operator-{len(self.logs)}.log")
        # The first dies as it was told; whoever follows it lives.
        die, self._pending_death = self._pending_death, None
        self._pid = self._zygote.start(self._env, self.logs[-1], die)

    def _keep_running(self) -> None:
        failures = 0
        has_answered = False
        probe_at = 0.0
        while not self._stop.is_set():
            code = self._zygote.wait(self._pid, self._probe_s)
            if self._stop.is_set():
                return
            if code is not None and self._away.is_set():
                self._stop.wait(0.05)
                continue
            if code is not None:
                self.exits.append(code)
                self._start()
                failures, has_answered = 0, False
                continue
            if time.monotonic() < probe_at:
                continue
            probe_at = time.monotonic() + PROBE_PERIOD_S
            status, _ = self.probe()
            has_answered = has_answered or status == 200
            failures = failures + 1 if has_answered and status != 200 else 0
            if failures >= FAILURES_MAX:
                _kill(self._pid, signal.SIGKILL)
