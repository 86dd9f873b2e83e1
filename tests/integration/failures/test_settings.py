"""Settings that are wrong, and how a user sees those that there are."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import freehold
from freehold._api import state
from freehold._processes.node.settings import NodeSettings
from freehold.cli.settings import command
from freehold.exceptions import PendingLimitError, SettingsError
from freehold.testing import eventually


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: freehold.init(_system_config={"idle_workr_s": 1}), "idle_worker_s"),
        (lambda: freehold.init(_system_config={"idle_worker_s": "soon"}), "'soon'"),
        (lambda: freehold.init(_system_config={"idle_worker_s": -1}), "above 0"),
        (lambda: freehold.init(object_store_memory=1), "at least"),
        (lambda: freehold.init(_system_config={"worker": "no colon"}), "module:function"),
        (lambda: freehold.init(_system_config={"log_bytes_per_s": -1}), "0 or more"),
        (lambda: freehold.init(_system_config={"lineage_bytes": -1}), "lineage_bytes is -1"),
        (lambda: freehold.init(_system_config={"pending_bytes": "1 GB"}), "'1 GB'"),
    ],
)
def test_a_bad_setting_is_told_before_anything_starts(act: Callable[[], Any], words: str) -> None:
    with pytest.raises(SettingsError, match=r"`freehold settings` lists them") as caught:
        act()
    assert words in str(caught.value)
    assert not freehold.is_initialized()


def test_a_bad_variable_is_told_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEHOLD_NUM_CPU", "3")
    with pytest.raises(SettingsError, match="FREEHOLD_NUM_CPUS"):
        freehold.init()
    monkeypatch.delenv("FREEHOLD_NUM_CPU")
    monkeypatch.setenv("FREEHOLD_NUM_CPUS", "many")
    with pytest.raises(SettingsError, match=r"FREEHOLD_NUM_CPUS.*'many'"):
        freehold.init()


def test_after_a_bad_setting_a_good_one_works() -> None:
    with pytest.raises(SettingsError):
        freehold.init(_system_config={"nonsense": 1})
    with freehold.init(num_cpus=1, _system_config={"idle_worker_s": 60}):
        assert freehold.get(freehold.remote(abs).remote(-2)) == 2


def shown(*arguments: str) -> str:
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    return result.output


def test_all_settings_are_shown_with_their_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEHOLD_IDLE_WORKER_S", "7.5")
    text = shown()
    for name in NodeSettings.__struct_fields__:
        assert f"{name} = " in text
    assert "idle_worker_s = 7.5  (variable FREEHOLD_IDLE_WORKER_S)" in text
    assert "idle_workers = -1  (default)" in text
    changed = shown("--changed")
    assert "idle_worker_s" in changed
    assert "idle_workers = " not in changed


def test_settings_are_shown_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEHOLD_IDLE_WORKER_S", "7.5")
    listed = json.loads(shown("--format", "json"))
    assert [setting["name"] for setting in listed] == list(NodeSettings.__struct_fields__)
    (found,) = [setting for setting in listed if setting["name"] == "idle_worker_s"]
    assert found["value"] == 7.5
    assert found["source"] == "variable FREEHOLD_IDLE_WORKER_S"
    assert all(setting["text"] for setting in listed)
    (only, *_) = json.loads(shown("--format", "json", "--changed"))
    assert only["source"] != "default"


def test_a_bad_variable_is_told_by_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FREEHOLD_NUM_CPU", "3")
    result = CliRunner().invoke(command)
    assert isinstance(result.exception, SettingsError)
    assert "did you mean FREEHOLD_NUM_CPUS?" in str(result.exception)


@freehold.remote
def slow(padding: bytes) -> int:
    eventually(lambda: os.path.exists(padding.rstrip(b"x").decode()), timeout_s=30)
    return len(padding)


def submit_three(path: str) -> str:
    """What three tasks get that hold 6 kB together, on an event loop that must not be blocked."""

    async def submit() -> str:
        padding = path.encode().ljust(2000, b"x")
        refs = []
        try:
            for _ in range(3):
                refs.append(slow.remote(padding))
        except PendingLimitError as error:
            return f"{len(refs)} and then {error}"
        finally:
            with open(path, "wb"):
                pass
            freehold.get(refs, timeout=30)
        return "no error"

    return asyncio.run(submit())


def test_pending_tasks_may_hold_pending_bytes(tmp_path: Path) -> None:
    """In drivers and in workers, which read no environment."""
    told = r"2 and then pending tasks hold \d+ bytes of arguments \(limit 3000\)"
    with freehold.init(num_cpus=1, _system_config={"pending_bytes": 3000}):
        assert re.match(told, submit_three(str(tmp_path / "driver")))
        there = freehold.remote(num_cpus=0)(submit_three).remote(str(tmp_path / "worker"))
        assert re.match(told, freehold.get(there, timeout=30))


def test_limits_reach_workers() -> None:
    @freehold.remote
    def limits() -> tuple[int, int]:
        core: Any = state.require()
        return core.owner.recovery.lineage_limit, core.pending_limit_bytes

    with freehold.init(num_cpus=1, _system_config={"lineage_bytes": 1234}):
        lineage_bytes, pending_bytes = freehold.get(limits.remote(), timeout=30)
    assert lineage_bytes == 1234
    assert 1 << 20 < pending_bytes < 1 << 50  # a quarter of what there is
