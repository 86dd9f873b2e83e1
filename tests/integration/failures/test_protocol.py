"""Bytes from strangers: whatever comes, nothing of it is unpickled and the cluster goes on."""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import freehold
from freehold._api import state
from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._core.limits import FRAME_BYTES, HELLO_BYTES
from freehold._io import frames, unix
from freehold._io.transport import Peers, connect_socket
from freehold.exceptions import FreeholdSystemError, TaskUnschedulableError
from freehold.testing import eventually

pytestmark = pytest.mark.module_cluster


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


@freehold.remote
def double(number: int) -> int:
    return 2 * number


@freehold.remote
class Target:
    """A worker whose address is known."""

    def path(self) -> tuple[str, Address]:
        core: Any = state.require()
        return core.peers.socket_path(core.owner.address), core.owner.address

    def refused(self) -> int:
        core: Any = state.require()
        return int(core.peers.refused)


@pytest.fixture(scope="module")
def target() -> Iterator[Any]:
    with freehold.init(num_cpus=2):
        actor = Target.options(num_cpus=0).remote()
        freehold.get(actor.refused.remote())
        yield actor
        del actor


class Place:
    """One of the three listening processes."""

    def __init__(self, who: str, target: Any) -> None:
        core: Any = state.require()
        self.who = who
        self.cluster: str = core.cluster
        self.driver: Address = core.owner.address
        self._core, self._target = core, target
        if who == "worker":
            self.path, self.address = freehold.get(target.path.remote())
        else:
            self.address = core.owner.address
            if who == "node":
                self.address = core.owner.outbox.node_manager
            self.path = core.peers.socket_path(self.address)

    def connect(self) -> socket.socket:
        sock = connect_socket(self.path)
        sock.settimeout(10)
        return sock

    def hello(self, **changes: Any) -> m.Hello:
        source = Address(self.driver.node, 0xFFFF_0000, self.driver.incarnation)
        hello = m.Hello(self.cluster, source, self.address, m.PROTOCOL, os.getpid())
        return msgspec.structs.replace(hello, **changes)

    def refused(self) -> int | None:
        """How many it has refused; a node process tells nobody but its log, and once."""
        if self.who == "driver":
            return int(self._core.peers.refused)
        if self.who == "worker":
            return int(freehold.get(self._target.refused.remote()))
        log = Path(self.path).parent / "logs" / "node.log"
        return None if "refused a connection" in log.read_text() else 0


@pytest.fixture(params=["node", "worker", "driver"])
def place(request: pytest.FixtureRequest, target: Any) -> Iterator[Place]:
    found = Place(request.param, target)
    yield found
    assert freehold.get([double.remote(i) for i in range(50)], timeout=10) == list(range(0, 100, 2))
    assert freehold.get(target.refused.remote(), timeout=10) >= 0


def header(length: int, magic: int = frames.MAGIC, reserved: int = 0) -> bytes:
    return struct.pack("<IHH", length, magic, reserved)


def raw(*messages: Any) -> bytes:
    body = msgspec.msgpack.encode(messages)
    return header(len(body)) + body


def bombs(place: Place, path: str) -> dict[str, bytes]:
    """Each ends with a payload that would make `path`, were it ever unpickled."""
    bomb = pickle.dumps(Bomb(path))
    run = frames.encode([run_of(bomb)])
    return {
        "a pickle": bomb,
        "a pickle in a frame": header(len(bomb)) + bomb,
        "garbage": bytes(range(256)) * 40 + bomb,
        "text": b"GET / HTTP/1.1\r\n\r\n" + bomb,
        "wrong magic": header(len(bomb), 0x1234) + bomb,
        "reserved bits": header(len(bomb), reserved=1) + bomb,
        "over the limit": header(FRAME_BYTES + 1) + bomb,
        "4 GiB": header(0xFFFF_FFFF) + bomb,
        "a first frame that is too large": header(HELLO_BYTES + 1) + bytes(HELLO_BYTES + 1),
        "no hello": run,
        "nobody": raw(),
        "unknown tag": raw([9999, bomb]) + run,
        "hello without fields": raw([1]) + run,
        "fields of wrong types": raw([0, 5, b"x", [], {}]) + run,
        "other cluster": frames.encode([place.hello(cluster="0" * 12), run_of(bomb)]),
        "other target": frames.encode(
            [place.hello(target=Address("f" * 32, 1)), run_of(bomb)],
        ),
        "other protocol": frames.encode([place.hello(protocol=m.PROTOCOL + 1), run_of(bomb)]),
    }


def run_of(payload: bytes) -> m.Run:
    return m.Run(0, 0, 0, bytes(16), 0, payload)


NAMES = [
    "a pickle",
    "a pickle in a frame",
    "garbage",
    "text",
    "wrong magic",
    "reserved bits",
    "over the limit",
    "4 GiB",
    "a first frame that is too large",
    "no hello",
    "nobody",
    "unknown tag",
    "hello without fields",
    "fields of wrong types",
    "other cluster",
    "other target",
    "other protocol",
]


def read_all(sock: socket.socket) -> bytes:
    """Until the other side hangs up."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(1 << 16):
            data += piece
    return data


def test_the_list_is_whole(target: Any) -> None:
    assert list(bombs(Place("node", target), "/nowhere")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_is_refused_before_anything_is_unpickled(
    name: str, place: Place, tmp_path: Path
) -> None:
    path = tmp_path / "exploded"
    before = place.refused()
    with place.connect() as sock:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(bombs(place, str(path))[name])
        answer = read_all(sock)
    if len(answer) >= frames.HEADER_BYTES:
        (told,) = frames.decode(answer[frames.HEADER_BYTES :])
        assert isinstance(told, m.Refused)
        assert told.reason
    if before is not None:
        eventually(lambda: place.refused() != before)
    assert not path.exists()


def test_a_frame_that_ends_in_the_middle(place: Place) -> None:
    whole = frames.encode([place.hello(), run_of(bytes(10_000))])
    for end in (1, 7, 8, 20, len(whole) - 1):
        with place.connect() as sock:
            sock.sendall(whole[:end])


def test_known_peers_are_checked_as_well(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "exploded"
    bomb = pickle.dumps(Bomb(str(path)))
    tails = [
        header(FRAME_BYTES + 1),
        header(len(bomb)) + bomb,
        bomb + bytes(8),
        raw([9999]),
        raw([m.Run.__struct_config__.tag, "not a number", bomb]),
    ]
    for tail in tails:
        with place.connect() as sock:
            sock.sendall(frames.encode([place.hello()]))
            sock.sendall(tail)
            answer = read_all(sock)
        (told,) = frames.decode(answer[frames.HEADER_BYTES :])
        assert isinstance(told, m.Refused)
    assert not path.exists()


def untimely() -> list[m.Message]:
    """Well-formed, but about nothing that anyone knows."""
    nowhere = Address("e" * 32, 77)
    task = bytes(16)
    return [
        m.Hello("", nowhere, nowhere, 0),
        m.Done(12345, 0, 1, b""),
        m.DoneWith(12345, 0, 1),
        m.Failed(12345, 0, 1, "user", b""),
        m.TasksReturned([1, 2, 3]),
        m.LeaseGranted(999, 5, nowhere, 1),
        m.LeaseRevoked(999, nowhere, m.ExitCause()),
        m.LeaseSpilledBack(999, "e" * 32, 1),
        m.LeaseInfeasible(999, "none"),
        m.ReturnLease(999),
        m.SegmentGranted(999, 1, 0, 10),
        m.SegmentRefused(999, ""),
        m.RangeReleased(999, 0, 10),
        m.SlabClosed(999, 10),
        m.Pulled(999, m_location()),
        m.TaskEvents(999, nowhere, 1, [], True),
        m.Recall([1]),
        m.ProcessDied(nowhere, m.ExitCause()),
        m.ActorEnded(task, 0, m.ExitCause(), True),
        m.KillActor(task, True, "nobody"),
        m.ReleaseActor(task),
    ]


def m_location() -> Any:
    from freehold._core.ids import Location

    return Location("e" * 32, 1, 0, 10)


def test_well_formed_messages_about_nothing_disturb_nobody(place: Place) -> None:
    for message in untimely():
        with place.connect() as sock:
            sock.sendall(frames.encode([place.hello(), message]))
    with place.connect() as sock:
        sock.sendall(frames.encode([place.hello(), *untimely(), *untimely()]))


def test_thousands_of_connections(place: Place) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with contextlib.ExitStack() as stack:
        for _ in range(5):
            for _ in range(300):
                sock = stack.enter_context(place.connect())
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    sock.send(header(100))
            assert freehold.get(double.remote(3), timeout=10) == 6
            if place.who == "node":  # a new worker still gets in between them
                fresh = Target.options(num_cpus=0).remote()
                assert freehold.get(fresh.refused.remote(), timeout=15) == 0
            stack.pop_all().close()
    eventually(lambda: len(os.listdir("/proc/self/fd")) <= before + 2)


def test_who_says_nothing_is_sent_away(target: Any) -> None:
    with contextlib.ExitStack() as stack:
        places = [Place(who, target) for who in ("node", "worker", "driver")]
        for sock in [stack.enter_context(place.connect()) for place in places]:
            (told,) = frames.decode(read_all(sock)[frames.HEADER_BYTES :])
            assert isinstance(told, m.Refused)
            assert "no Hello" in told.reason


def test_only_this_user_gets_in(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place("driver", target)
    peers: Peers = state.require().peers  # type: ignore[attr-defined]
    with place.connect() as sock:
        assert unix.peer_uid(sock) == os.getuid()
    before = peers.refused
    monkeypatch.setattr(unix, "peer_uid", lambda _sock: os.getuid() + 1)
    with place.connect() as sock, contextlib.suppress(BrokenPipeError):
        sock.sendall(frames.encode([place.hello()]))
        assert read_all(sock) == b""
    monkeypatch.undo()
    eventually(lambda: peers.refused > before)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_another_user_is_refused_by_the_kernels_word(target: Any) -> None:
    place = Place("driver", target)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            ours = os.open(os.path.dirname(place.path), os.O_PATH | os.O_DIRECTORY)
            os.setuid(65534)
            sock = socket.socket(socket.AF_UNIX)
            try:
                sock.connect(f"/proc/self/fd/{ours}/{os.path.basename(place.path)}")
            except PermissionError:
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_session_folder_is_this_users_alone(target: Any) -> None:
    place = Place("driver", target)
    folder = Path(place.path).parent
    for each in (folder.parent.parent, folder.parent, folder, folder / "logs"):
        assert stat.S_IMODE(each.stat().st_mode) == 0o700
        assert each.stat().st_uid == os.getuid()


# ---- what cannot be said -------------------------------------------------------------------------


@pytest.mark.usefixtures("target")
def test_what_cannot_be_encoded_is_an_error_for_who_waits_and_for_nobody_else() -> None:
    """A lone surrogate, as file names have them, is no UTF-8: it fits into no message."""
    bad = "\udce9"
    refs = [double.remote(1), double.options(name=bad).remote(2), double.remote(3)]
    one, wrong, three = freehold.get(refs, timeout=10, return_exceptions=True)
    assert (one, three) == (2, 6)
    assert isinstance(wrong, FreeholdSystemError)
    with pytest.raises(FreeholdSystemError, match="RegisterActor message cannot be sent"):
        Target.options(name=bad, num_cpus=0).remote()
    with pytest.raises(FreeholdSystemError, match="FindActor message cannot be sent"):
        freehold.get_actor(bad)
    with pytest.raises(TaskUnschedulableError, match="LeaseDemand message cannot be sent"):
        freehold.get(double.options(resources={bad: 1}).remote(1), timeout=10)
    assert freehold.get([double.remote(i) for i in range(100)], timeout=10)[-1] == 198
