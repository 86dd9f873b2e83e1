"""Settings that are wrong, and how a user sees those that there are."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

import freehold
from freehold._processes.node.settings import NodeSettings
from freehold.cli.settings import command
from freehold.exceptions import SettingsError


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (lambda: freehold.init(_system_config={"idle_workr_s": 1}), "idle_worker_s"),
        (lambda: freehold.init(_system_config={"idle_worker_s": "soon"}), "'soon'"),
        (lambda: freehold.init(_system_config={"idle_worker_s": -1}), "above 0"),
        (lambda: freehold.init(object_store_memory=1), "at least"),
        (lambda: freehold.init(_system_config={"worker": "no colon"}), "module:function"),
        (lambda: freehold.init(_system_config={"log_bytes_per_s": -1}), "0 or more"),
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
