"""The control service with a database: killed and started again, it goes on rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._core.resources import make_shape
from freehold._io.reactor import Reactor
from freehold._io.state_db import StateDb
from freehold._processes.control.service import ControlService
from freehold.testing import eventually

HEAD, A, B = "f" * 32, "a" * 32, "b" * 32
ACTOR = b"x" * 16
DRIVER = Address(A, 1, 1)


def info(node: str, incarnation: int = 1, **fields: Any) -> m.NodeInfo:
    cpus = dict(make_shape({"CPU": 4}))
    return m.NodeInfo(node, incarnation, cpus, dict(cpus), host="10.0.0.1", port=7401, **fields)


class Head:
    """A control service and what it says to each node."""

    def __init__(self, folder: Path, incarnation: int = 1) -> None:
        self.folder = folder
        self.incarnation = incarnation
        self.reactor = Reactor()
        self.db = StateDb(self.reactor, str(folder))
        self.service = ControlService(
            self.reactor, HEAD, db=self.db, cluster="c" * 12, head_incarnation=incarnation
        )
        self.said: dict[str, list[Any]] = {}

    def settle(self) -> None:
        """Have all that was decided kept and done."""

        def is_quiet() -> bool:
            with self.reactor.lock:
                self.reactor.poll()
                out = self.service._out
                return not (out._under_way or out._waiting or out._records)

        eventually(is_quiet)

    def join(self, node: str, incarnation: int = 1, **fields: Any) -> None:
        said = self.said.setdefault(node, [])
        with self.reactor.lock:
            joined = m.NodeJoined(info(node, incarnation), **fields)
            self.service.join(joined, said.append, is_remote=True)
        self.settle()

    def tell(self, node: str, message: m.Message) -> None:
        with self.reactor.lock:
            self.service.handle(node, message)
        self.settle()

    def heard(self, node: str, kind: type) -> list[Any]:
        found = []
        for message in self.said.get(node, []):
            inner = message.message if isinstance(message, m.ToProcess) else message
            if isinstance(inner, kind):
                found.append(inner)
        return found

    def killed(self) -> Head:
        """End without a word, and start the next one on the same folder."""
        self.db.close()
        self.reactor.close()
        return Head(self.folder, self.incarnation + 1)

    def close(self) -> None:
        self.service.close()
        self.reactor.close()


def register(head: Head, actor: bytes = ACTOR, **options: Any) -> None:
    spec = m.ActorSpec(
        actor, m.OwnerInfo(DRIVER), m.ActorOptions(**options), make_shape({"CPU": 1}), "", b"", b""
    )
    head.tell(A, m.FromProcess(DRIVER, m.RegisterActor(1, spec)))


def test_a_restarted_head_knows_its_actors_and_finds_them_where_they_were(tmp_path: Path) -> None:
    head = Head(tmp_path)
    head.join(A, processes=[1])
    register(head, name="keeper")
    home = Address(A, 2, 1)
    head.tell(A, m.ActorStarted(ACTOR, 0, home))
    head = head.killed()
    state = head.service.cluster_state()
    assert (state.cluster, state.head_incarnation) == ("c" * 12, 2)
    assert [(node.id, node.state) for node in state.nodes] == [(A, "alive")]
    living = [m.LivingActor(ACTOR, 0, home)]
    head.join(A, actors=living, processes=[1, 2])
    head.tell(A, m.FromProcess(DRIVER, m.FindActor(7, "keeper", "")))
    (found,) = head.heard(A, m.ActorFound)
    assert found.info.address == home
    assert not head.heard(A, m.PlaceActor)
    assert not head.heard(A, m.UnplaceActor)
    head.close()


def test_a_placement_that_never_arrived_is_made_again(tmp_path: Path) -> None:
    head = Head(tmp_path)
    head.join(A, processes=[1])
    register(head)
    assert len(head.heard(A, m.PlaceActor)) == 1
    head = head.killed()
    head.join(A, processes=[1])
    (placed,) = head.heard(A, m.PlaceActor)
    assert (placed.spec.actor, placed.restart) == (ACTOR, 0)
    head.close()


def test_nothing_is_told_before_it_is_kept(tmp_path: Path) -> None:
    head = Head(tmp_path)
    head.join(A, processes=[1])
    said = len(head.said[A])
    spec = m.ActorSpec(ACTOR, m.OwnerInfo(DRIVER), m.ActorOptions(), (), "", b"", b"")
    with head.reactor.lock:
        head.service.handle(A, m.FromProcess(DRIVER, m.RegisterActor(1, spec)))
        head.service.handle(A, m.Heartbeat(5))
        assert len(head.said[A]) == said, "told within the turn in which it was decided"
    head.settle()
    kinds = [type(message).__name__ for message in head.said[A][said:]]
    assert kinds == ["ToProcess", "PlaceActor", "HeartbeatAnswered"]
    head.close()


def test_a_node_is_not_told_of_before_it_is_kept(tmp_path: Path) -> None:
    """A head that came back without it would never declare it dead to those who know it."""
    head = Head(tmp_path)
    head.join(A, processes=[1])
    said = len(head.said[A])
    with head.reactor.lock:
        head.service.join(m.NodeJoined(info(B)), [].append, is_remote=True)
        assert len(head.said[A]) == said, "told within the turn in which it joined"
    head.settle()
    (view,) = [message for message in head.said[A][said:] if isinstance(message, m.ClusterView)]
    assert [node.node for node in view.nodes] == [B]
    head = head.killed()
    state = head.service.cluster_state()
    assert {node.id for node in state.nodes} == {A, B}
    head.close()


def test_incarnations_grow_over_restarts(tmp_path: Path) -> None:
    head = Head(tmp_path)
    with head.reactor.lock:
        first = [head.service.next_incarnation(A), head.service.next_incarnation(B)]
    head = head.killed()
    with head.reactor.lock:
        assert head.service.next_incarnation(A) > max(first) == 2
    head.close()


def test_groups_drains_and_jobs_outlive_the_head(tmp_path: Path) -> None:
    head = Head(tmp_path)
    head.join(A, processes=[1])
    answers: list[Any] = []
    with head.reactor.lock:
        head.service.set_groups(
            [m.NodeGroup("g", {"CPU": 1}, {}, 2)], lambda: answers.append("kept")
        )
        head.service.drain(
            A[:6],
            is_idle_only=False,
            deadline_s=9.0,
            reason="scale-down",
            then=lambda a: answers.append((a.accepted, a.state)),
        )
        head.service.begin_job("sort", 1, A, "sort.py", lambda a: answers.append(a.accepted))
        head.service.begin_job("sort", 1, B, "sort.py", lambda a: answers.append(a.refusal))
    head.settle()
    assert answers == [
        "kept",
        (True, "draining"),
        True,
        f"node {B[:12]} has not joined this cluster",
    ]
    head = head.killed()
    head.join(A, processes=[1])
    head.join(B, 2)
    assert head.heard(A, m.DrainNode)[0].reason == "scale-down"
    view = head.heard(A, m.ClusterView)[-1]
    assert view.groups is None or [g.name for g in view.groups] == ["g"]
    assert any(v.groups for v in head.heard(A, m.ClusterView))
    with head.reactor.lock:
        head.service.begin_job("sort", 1, B, "sort.py", lambda a: answers.append(a.refusal))
        head.service.end_job("sort", 1, 0, "", lambda: answers.append("ended"))
    head.settle()
    assert answers[-2:] == [f"attempt 1 of job 'sort' is running on node {A[:12]}", "ended"]
    head = head.killed()
    (job,) = head.service.cluster_state().jobs
    assert (job.id, job.attempt, job.state) == ("sort", 1, "succeeded")
    head.close()


def test_who_ended_while_the_head_was_away_is_told_to_those_who_come_back_later(
    tmp_path: Path,
) -> None:
    head = Head(tmp_path)
    head.join(A, processes=[1, 2])
    head.join(B, 2, processes=[3])
    head = head.killed()
    gone = m.ProcessGone(Address(A, 2, 1), m.ExitCause(signal=9))
    head.join(A, processes=[1], gone=[gone])
    head.join(B, 2, processes=[3])
    assert [d.address for d in head.heard(B, m.ProcessDied)] == [Address(A, 2, 1)]
    head.close()


def test_a_node_declared_dead_before_the_restart_is_fenced_after_it(tmp_path: Path) -> None:
    head = Head(tmp_path)
    head.join(A)
    head.join(B, 2)
    with head.reactor.lock:
        head.service.lose(B, "it was silent")
    head.settle()
    assert [(d.node, d.incarnation) for d in head.heard(A, m.NodeDied)] == [(B, 2)]
    assert head.heard(B, m.Fenced)
    head = head.killed()
    head.join(B, 2)
    assert [f.incarnation for f in head.heard(B, m.Fenced)] == [2]
    head.join(A)
    assert [n.node for d in head.heard(A, m.DeadNodes) for n in d.nodes] == [B]
    head.close()


def test_without_a_database_everything_is_said_at_once_and_no_file_is_made(tmp_path: Path) -> None:
    reactor = Reactor()
    service = ControlService(reactor, HEAD)
    said: list[Any] = []
    with reactor.lock:
        service.join(m.NodeJoined(m.NodeInfo(HEAD, 0, {}, {})), said.append)
        service.handle(HEAD, m.FromProcess(Address(HEAD, 1), m.FindActor(1, "x", "")))
    assert [type(message).__name__ for message in said] == ["ClusterView", "ToProcess"]
    assert list(tmp_path.iterdir()) == []
    service.close()
    reactor.close()
