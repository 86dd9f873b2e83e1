"""What a head keeps in its folder, or is given as files: the cluster's id, its token, its CA.

    <state_dir>/
        lock                 flock'ed by the head that uses it
        cluster              the id, 12 hex digits
        starts               how often a head has started from here
        auth/token, ca.crt   unless `auth_dir` names a folder
        ca/ca.crt, ca.key    unless `ca_dir` does

All of mode 0600 in folders of 0700. On Kubernetes both folders are mounted Secrets, and never
written. A token that is being replaced lies beside the new one as `token.previous`.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import time

from freehold._io import certificates
from freehold._processes.node.settings import NodeSettings, state_folder

_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")
_READ_AGAIN_S = 5.0


class TokenFiles:
    """The tokens that are good now, read again when the files may have changed.

    Args:
        folder: has `token`, and `token.previous` while that is still good.

    Raises:
        ValueError: there is no token; the message begins with the setting.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._read_at = time.monotonic()
        try:
            self._tokens = self._read()
        except OSError as error:
            raise _unreadable(os.path.join(folder, "token"), "auth_dir", error) from None

    def all(self) -> tuple[str, ...]:
        """The current one first."""
        if time.monotonic() - self._read_at > _READ_AGAIN_S:
            self._read_at = time.monotonic()
            try:
                self._tokens = self._read()
            except (OSError, ValueError):
                pass  # in the middle of being replaced: as before
        return self._tokens

    def current(self) -> str:
        """The one to send."""
        return self.all()[0]

    def _read(self) -> tuple[str, ...]:
        current = read_token(os.path.join(self._folder, "token"))
        try:
            return current, read_token(os.path.join(self._folder, "token.previous"))
        except OSError:
            return (current,)


class ClusterSecrets:
    """A head's: made on the first start, found again on each later one.

    Raises:
        OSError: the folder cannot be used.
        ValueError: what is in it is not what it should be, or another head is using it; the message
            begins with the setting to blame.
    """

    def __init__(self, settings: NodeSettings) -> None:
        self.folder = state_folder(settings)
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        self._lock = _lock(self.folder)
        self.cluster = settings.cluster or self._kept("cluster", lambda: os.urandom(6).hex())
        self.starts = int(self._kept("starts", lambda: "0")) + 1
        _write(os.path.join(self.folder, "starts"), str(self.starts).encode())
        ca_dir = settings.ca_dir or os.path.join(self.folder, "ca")
        auth_dir = settings.auth_dir or os.path.join(self.folder, "auth")
        if not settings.ca_dir:
            self._make_ca(ca_dir)
        ca_pem = read_file(os.path.join(ca_dir, "ca.crt"), "ca_dir")
        if not settings.auth_dir:
            self._make_auth(auth_dir, ca_pem)
        self.tokens = TokenFiles(auth_dir)
        key_pem = read_file(os.path.join(ca_dir, "ca.key"), "ca_dir")
        try:
            self.authority = certificates.Authority(
                ca_pem, key_pem, self.cluster, settings.certificate_life_s
            )
        except (ValueError, TypeError) as error:
            raise ValueError(f"ca_dir has no CA that can be used: {error}") from None

    def close(self) -> None:
        """Let another head use the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _kept(self, name: str, make: object) -> str:
        path = os.path.join(self.folder, name)
        try:
            with open(path, encoding="ascii") as file:
                return file.read().strip()
        except FileNotFoundError:
            assert callable(make)
            text = str(make())
            _write(path, text.encode())
            return text

    def _make_ca(self, folder: str) -> None:
        if os.path.exists(os.path.join(folder, "ca.key")):
            return
        os.makedirs(folder, mode=0o700, exist_ok=True)
        ca_pem, key_pem = certificates.make_authority(self.cluster)
        _write(os.path.join(folder, "ca.crt"), ca_pem)
        _write(os.path.join(folder, "ca.key"), key_pem)

    def _make_auth(self, folder: str, ca_pem: bytes) -> None:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        if not os.path.exists(os.path.join(folder, "token")):
            _write(os.path.join(folder, "token"), secrets.token_urlsafe(24).encode())
        _write(os.path.join(folder, "ca.crt"), ca_pem)


def read_token(path: str) -> str:
    """A token out of its file.

    Raises:
        OSError: it is not there.
        ValueError: it is no token; the message does not show it.
    """
    with open(path, encoding="ascii", errors="replace") as file:
        token = file.read().strip()
    if not _TOKEN.fullmatch(token):
        raise ValueError(f"auth_dir: {path} has no token of 16 to 512 letters, digits and ._~+/=-")
    return token


def read_file(path: str, setting: str) -> bytes:
    """A file that a setting's folder must have.

    Raises:
        ValueError: it cannot be read; the message begins with the setting.
    """
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise _unreadable(path, setting, error) from None


def _unreadable(path: str, setting: str, error: OSError) -> ValueError:
    name = os.path.basename(path)
    return ValueError(
        f"{setting} must have a file `{name}`: {path} cannot be read ({error.strerror})"
    )


def _lock(folder: str) -> int:
    fd = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(fd)
        raise ValueError(
            f"state_dir is {folder}, which another head uses now: stop that one (freehold stop), "
            "or name another folder"
        ) from None
    return fd


def _write(path: str, data: bytes) -> None:
    """Whole or not at all: a head may be killed at any time."""
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(fd)
    os.replace(temporary, path)
