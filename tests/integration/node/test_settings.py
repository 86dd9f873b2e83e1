"""Settings that only a node can refuse, and what nodes of one machine share."""

from __future__ import annotations

from pathlib import Path

import pytest

import freehold
from freehold.exceptions import SettingsError
from freehold.testing import LocalCluster


@pytest.mark.parametrize("where", ["/proc", "a file"])
def test_a_folder_that_cannot_be_used_is_told_by_name(where: str, tmp_path: Path) -> None:
    if where == "a file":
        (tmp_path / "file").write_text("")
        where = str(tmp_path / "file")
    with pytest.raises(SettingsError, match=f"setting dir: dir is '{where}' but must be a folder"):
        freehold.init(num_cpus=1, _system_config={"dir": where})
    assert not freehold.is_initialized()


def test_nodes_of_one_machine_share_its_memory() -> None:
    sizes = {"object_store_memory": 32 << 20, "prestart_workers": 0, "num_cpus": 1}
    with LocalCluster(nodes=1, **sizes):
        whole = freehold.cluster_resources()["memory"]
    with LocalCluster(nodes=2, **sizes):
        parts = [node["Resources"]["memory"] for node in freehold.nodes()]
    assert parts[0] == parts[1]
    assert sum(parts) == pytest.approx(whole - (32 << 20), abs=2)


def test_a_chosen_memory_is_each_nodes_own() -> None:
    with LocalCluster(nodes=2, num_cpus=1, memory=1000, prestart_workers=0):
        assert [node["Resources"]["memory"] for node in freehold.nodes()] == [1000, 1000]
