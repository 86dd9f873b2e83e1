"""Where a cluster's sockets and logs are on this machine, and how nothing of it stays behind.

    <root>/                      mode 0700, this user's
        <cluster>/               12 hex digits
            lock                 flock'ed by node process 0 for as long as it lives
            environments/        <hash>.json of each runtime environment
            working_dirs/        <hash of its content>/ of each working directory
            <node8>/             first 8 hex digits of the node's id
                0.sock           the node manager; <process>.sock of every other process
                logs/
                node.json        of a node that others can find (`_processes.node.record`)

A folder whose lock can be taken has no living node process 0: the next `init` sweeps it. The kernel
drops the lock with the process, so there is nothing to repair and no pid to be mistaken about.
Nodes of a cluster that spans machines share the folder as equals: each holds the lock, shared, and
the last to go deletes the whole.

This module knows no process and sends nothing; who is killed is the zygote's business.
"""

from __future__ import annotations

import fcntl
import os
import stat

import msgspec

from freehold._core.ids import Address
from freehold._core.messages import Environment

ENVIRONMENTS_NAME = "environments"
LOCK_NAME = "lock"
LOGS_NAME = "logs"


class SessionFolder:
    """The folder of one cluster, as one node sees it.

    Args:
        path: the cluster's folder.
        node: this node's id.
    """

    def __init__(self, path: str, node: str) -> None:
        self.path = path
        self.node_path = os.path.join(path, node[:8])
        self.logs_path = os.path.join(self.node_path, LOGS_NAME)
        self._lock_fd = -1
        self._is_shared = False

    def socket_path(self, address: Address) -> str:
        """Where `address` listens."""
        return os.path.join(self.path, address.node[:8], f"{address.process}.sock")

    def create(self, *, is_first: bool) -> None:
        """Make this node's part; the first node makes and locks the whole.

        Raises:
            OSError: the folder cannot be made, or another process holds the lock.
        """
        if is_first:
            with _Held(os.path.dirname(self.path)):
                os.mkdir(self.path, 0o700)
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self._lock_fd = os.open(os.path.join(self.path, LOCK_NAME), flags, 0o600)
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for path in (self.node_path, self.logs_path):
            os.mkdir(path, 0o700)

    def share(self) -> None:
        """Make this node's part of a folder that several nodes share, and the whole if need be.

        Raises:
            OSError: the folder cannot be made.
        """
        self._is_shared = True
        with _Held(os.path.dirname(self.path)):
            if os.path.isdir(self.path) and not _is_locked(self.path):
                remove_tree(self.path)  # of a node that was killed: nobody is in there
            os.makedirs(self.path, 0o700, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._lock_fd = os.open(os.path.join(self.path, LOCK_NAME), flags, 0o600)
            fcntl.flock(self._lock_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        for path in (self.node_path, self.logs_path):
            os.mkdir(path, 0o700)

    def remove(self, *, is_first: bool) -> None:
        """Delete this node's part, or the whole for the first node; missing files are fine."""
        if self._is_shared:
            self._leave()
        else:
            remove_tree(self.path if is_first else self.node_path)
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def _leave(self) -> None:
        remove_tree(self.node_path)
        with _Held(os.path.dirname(self.path)):
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return  # others are there
            remove_tree(self.path)


def make_root(base: str) -> str:
    """The root folder `base`/freehold-<uid>, made if need be.

    Raises:
        PermissionError: it is there, but belongs to someone else or is open to others.
    """
    root = os.path.join(base, f"freehold-{os.getuid()}")
    os.makedirs(base, exist_ok=True)
    try:
        os.mkdir(root, 0o700)
    except FileExistsError:
        found = os.lstat(root)
        is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if not is_ours or found.st_mode & 0o077:
            raise PermissionError(
                f"{root} is not a folder that only this user can use: remove it, or set "
                "FREEHOLD_DIR to a folder of your own"
            ) from None
    return root


def sweep(root: str) -> list[str]:
    """Delete the folders of clusters that are no more; returns their names."""
    swept = []
    with _Held(root):
        for name in sorted(os.listdir(root)):
            path = os.path.join(root, name)
            if not _is_locked(path):
                remove_tree(path)
                swept.append(name)
    return swept


def write_environment(path: str, environment: Environment) -> None:
    """Leave what an environment is in the cluster's folder, for the workers that run in it.

    Args:
        path: of the cluster's folder.
    """
    folder = os.path.join(path, ENVIRONMENTS_NAME)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    draft = os.path.join(folder, f"{environment.env}.{os.getpid()}")
    with open(draft, "wb") as file:
        file.write(msgspec.json.encode(environment))
    os.replace(draft, os.path.join(folder, f"{environment.env}.json"))


def read_environment(path: str, env: str) -> Environment:
    """What the environment of a hash is, from inside it."""
    with open(os.path.join(path, ENVIRONMENTS_NAME, f"{env}.json"), "rb") as file:
        return msgspec.json.decode(file.read(), type=Environment)


def remove_tree(path: str) -> None:
    """Delete a folder and all in it, as far as it is there."""
    import shutil  # 5 ms that no start should wait for

    shutil.rmtree(path, ignore_errors=True)


def _is_locked(path: str) -> bool:
    try:
        fd = os.open(os.path.join(path, LOCK_NAME), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # not ours to judge
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(fd)


class _Held:
    """Holds the lock of a root folder, so that no sweep sees a folder between mkdir and lock."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._fd = -1

    def __enter__(self) -> None:
        self._fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
