"""The session folder: made for one user, locked while its cluster lives, swept after."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from freehold._core.ids import Address
from freehold._io.session import SessionFolder, make_root, sweep

NODE = "0123456789abcdef" * 2


def test_a_living_clusters_folder_is_not_swept(tmp_path: Path) -> None:
    root = make_root(str(tmp_path))
    folder = SessionFolder(os.path.join(root, "aaaaaaaaaaaa"), NODE)
    folder.create(is_first=True)
    os.mkdir(os.path.join(root, "bbbbbbbbbbbb"))
    assert sweep(root) == ["bbbbbbbbbbbb"]
    folder.remove(is_first=True)
    assert os.listdir(root) == []


def test_a_dead_clusters_folder_is_swept(tmp_path: Path) -> None:
    root = make_root(str(tmp_path))
    folder = SessionFolder(os.path.join(root, "aaaaaaaaaaaa"), NODE)
    folder.create(is_first=True)
    os.close(folder._lock_fd)  # what the kernel does at a process's end
    assert sweep(root) == ["aaaaaaaaaaaa"]


def test_a_further_node_removes_its_own_part_only(tmp_path: Path) -> None:
    root = make_root(str(tmp_path))
    first = SessionFolder(os.path.join(root, "aaaaaaaaaaaa"), NODE)
    second = SessionFolder(first.path, NODE[::-1])
    first.create(is_first=True)
    second.create(is_first=False)
    second.remove(is_first=False)
    assert sorted(os.listdir(first.path)) == [NODE[:8], "lock"]
    first.remove(is_first=True)


def test_sockets_are_found_by_address(tmp_path: Path) -> None:
    folder = SessionFolder("/s/cluster", NODE)
    assert folder.socket_path(Address("f" * 32, 12)) == "/s/cluster/ffffffff/12.sock"


def test_a_root_that_others_can_enter_is_refused(tmp_path: Path) -> None:
    root = Path(make_root(str(tmp_path)))
    assert root.stat().st_mode & 0o777 == 0o700
    root.chmod(0o755)
    with pytest.raises(PermissionError, match="only this user"):
        make_root(str(tmp_path))


def test_nodes_that_share_a_folder_each_leave_their_part(tmp_path: Path) -> None:
    root = make_root(str(tmp_path))
    first = SessionFolder(os.path.join(root, "aaaaaaaaaaaa"), NODE)
    second = SessionFolder(os.path.join(root, "aaaaaaaaaaaa"), NODE[::-1])
    first.share()
    second.share()
    assert sweep(root) == []
    first.remove(is_first=True)
    assert sorted(os.listdir(second.path)) == [NODE[::-1][:8], "lock"]
    assert sweep(root) == []
    second.remove(is_first=False)
    assert os.listdir(root) == []


def test_a_folder_that_a_killed_node_left_is_made_anew(tmp_path: Path) -> None:
    root = make_root(str(tmp_path))
    killed = SessionFolder(os.path.join(root, "aaaaaaaaaaaa"), NODE)
    killed.share()
    os.close(killed._lock_fd)  # what the kernel does at a process's end
    again = SessionFolder(killed.path, NODE[::-1])
    again.share()
    assert sorted(os.listdir(again.path)) == [NODE[::-1][:8], "lock"]
    again.remove(is_first=True)
    assert os.listdir(root) == []
