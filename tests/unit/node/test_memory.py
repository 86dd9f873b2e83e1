"""How much memory is left, read from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from freehold._core.limits import HEADROOM_BYTES
from freehold._processes.node import memory
from freehold._processes.node.memory import MemoryReader, MemoryWatch

GIB = 1 << 30


def machine(root: Path, cgroup: str, files: dict[str, str], available: int = 8 * GIB) -> str:
    """A folder with the /proc and /sys of a machine of 16 GiB."""
    meminfo = f"MemTotal: {16 << 20} kB\nMemFree: 1 kB\nMemAvailable: {available >> 10} kB\n"
    files = {"proc/meminfo": meminfo, "proc/self/cgroup": cgroup, **files}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="ascii")
    return str(root)


def v2(folder: str, limit: str, usage: int, stat: str = "") -> dict[str, str]:
    base = f"sys/fs/cgroup{folder}"
    return {
        f"{base}/memory.max": f"{limit}\n",
        f"{base}/memory.current": f"{usage}\n",
        f"{base}/memory.stat": stat,
    }


def test_without_a_limit_the_machines_available_memory_counts(tmp_path: Path) -> None:
    reader = MemoryReader(machine(tmp_path, "0::/a\n", v2("/a", "max", GIB)))
    left = reader.left()
    assert left.budget_bytes == 8 * GIB - HEADROOM_BYTES
    assert "this machine has" in left.told
    assert reader.limit_bytes() == 16 * GIB


def test_a_cgroups_limit_counts_with_its_file_cache_as_free(tmp_path: Path) -> None:
    stat = "anon 5\ninactive_file 1000\nactive_file 500\n"
    files = v2("/a/b", str(4 * GIB), 3 * GIB, stat)
    reader = MemoryReader(machine(tmp_path, "0::/a/b\n", files))
    left = reader.left()
    assert left.budget_bytes == GIB + 1000 + 250 - HEADROOM_BYTES
    assert f"limit of this node's cgroup is {4 * GIB} bytes, {3 * GIB} are used" in left.told
    assert reader.limit_bytes() == 4 * GIB


def test_the_tightest_of_all_groups_above_counts(tmp_path: Path) -> None:
    files = v2("/a/b", str(4 * GIB), GIB) | v2("/a", str(3 * GIB), 2 * GIB + 1)
    reader = MemoryReader(machine(tmp_path, "0::/a/b\n", files))
    assert reader.left().budget_bytes == GIB - 1 - HEADROOM_BYTES
    assert reader.limit_bytes() == 3 * GIB


def test_the_machine_counts_when_it_is_tighter_than_the_limit(tmp_path: Path) -> None:
    files = v2("/a", str(4 * GIB), GIB)
    reader = MemoryReader(machine(tmp_path, "0::/a\n", files, available=GIB))
    assert reader.left().budget_bytes == GIB - HEADROOM_BYTES


def test_version_one_in_a_container_that_sees_only_its_root(tmp_path: Path) -> None:
    base = "sys/fs/cgroup/memory"
    files = {
        f"{base}/memory.limit_in_bytes": f"{2 * GIB}\n",
        f"{base}/memory.usage_in_bytes": f"{GIB}\n",
        f"{base}/memory.stat": "inactive_file 1\ntotal_inactive_file 4096\n",
    }
    reader = MemoryReader(machine(tmp_path, "5:cpu:/x\n4:memory:/docker/abc\n0::/\n", files))
    assert reader.left().budget_bytes == GIB + 4096 - HEADROOM_BYTES


def test_of_a_small_limit_an_eighth_is_kept(tmp_path: Path) -> None:
    files = v2("/", str(256 << 20), 64 << 20)
    reader = MemoryReader(machine(tmp_path, "0::/\n", files))
    assert reader.left().budget_bytes == (192 - 32) << 20


def test_looks_are_paced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(memory.clock, "now", lambda: now)
    watch = MemoryWatch(MemoryReader(machine(tmp_path, "", {})))
    assert watch.left() is not None
    assert watch.left() is None
    assert watch.left(is_due=True) is not None
    now += 2 * memory.READ_MEMORY_S
    assert watch.left() is not None
