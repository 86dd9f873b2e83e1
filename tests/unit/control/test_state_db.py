"""The head's database: what is submitted outlives a crash, in order; errors say what to do."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from freehold._io.reactor import Reactor
from freehold._io.state_db import NAME, Record, StateDb
from freehold.errors import HeadStateError
from freehold.testing import eventually


class Reacting:
    """A reactor whose timers run when the test says so."""

    def __init__(self) -> None:
        self.reactor = Reactor()

    def run(self) -> None:
        with self.reactor.lock:
            self.reactor.poll()


def test_records_are_read_as_last_written_and_the_dropped_are_gone(tmp_path: Path) -> None:
    reacting = Reacting()
    db = StateDb(reacting.reactor, str(tmp_path / "new"))
    db.submit([Record("node", b"a", b"1"), Record("node", b"b", b"2")])
    db.submit([Record("node", b"a", b"3"), Record("actor", b"x", b"y")])
    db.submit([Record("actor", b"x", None), Record("job", b"j", b"k")])
    assert db.settle()
    db.close()
    again = StateDb(reacting.reactor, str(tmp_path / "new"))
    assert again.read() == {"node": [(b"b", b"2"), (b"a", b"3")], "job": [(b"j", b"k")]}
    again.close()
    reacting.reactor.close()


def test_what_waits_for_a_commit_is_done_in_order_when_it_is_on_the_disk(tmp_path: Path) -> None:
    reacting = Reacting()
    db = StateDb(reacting.reactor, str(tmp_path))
    done: list[int] = []

    def then(number: int) -> None:
        # Another process would find it now: the file has it, not only this connection.
        done.append(number)

    for number in range(200):
        db.submit([Record("n", b"%d" % number, b"")], lambda number=number: then(number))  # type: ignore[misc]

    def all_done() -> bool:
        reacting.run()
        return len(done) == 200

    eventually(all_done)
    assert done == list(range(200))
    assert db.commits < 200, "turns that come during a commit share the next"
    db.close()
    reacting.reactor.close()


def test_another_head_in_the_folder_is_refused(tmp_path: Path) -> None:
    reacting = Reacting()
    db = StateDb(reacting.reactor, str(tmp_path))
    with pytest.raises(HeadStateError, match="is another head running in this folder"):
        StateDb(reacting.reactor, str(tmp_path))
    db.close()
    reacting.reactor.close()


def test_a_later_schema_is_refused(tmp_path: Path) -> None:
    reacting = Reacting()
    StateDb(reacting.reactor, str(tmp_path)).close()
    database = sqlite3.connect(tmp_path / NAME)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(HeadStateError, match="a later Freehold \\(schema 99"):
        StateDb(reacting.reactor, str(tmp_path))
    reacting.reactor.close()


def test_a_database_of_somebody_else_is_not_touched(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / NAME)
    database.execute("CREATE TABLE mine (x)")
    database.close()
    reactor = Reactor()
    with pytest.raises(HeadStateError, match="not a head's database"):
        StateDb(reactor, str(tmp_path))
    reactor.close()


def test_a_damaged_database_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"this is not a database, whatever its name says" * 100)
    reactor = Reactor()
    with pytest.raises(HeadStateError, match=r"it is damaged .* move it away"):
        StateDb(reactor, str(tmp_path))
    reactor.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    reactor = Reactor()
    with pytest.raises(HeadStateError, match="this user cannot write there"):
        StateDb(reactor, str(tmp_path))
    reactor.close()


def test_a_full_disk_is_waited_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reacting = Reacting()
    db = StateDb(reacting.reactor, str(tmp_path))
    pages = db._database.execute("PRAGMA page_count").fetchone()[0]
    db._database.execute(f"PRAGMA max_page_count = {pages}")
    done: list[str] = []
    db.submit([Record("big", b"k", bytes(100_000))], lambda: done.append("big"))
    eventually(lambda: "the disk is full" in db.problem)
    assert not db.settle(0.1)
    # Room is made; the writer's own connection is used between its attempts.
    db._database.execute("PRAGMA max_page_count = 1000000")
    assert db.settle()
    reacting.run()
    assert done == ["big"]
    assert db.problem == ""
    told = capsys.readouterr().err
    assert "cannot be written: the disk is full" in told
    assert "can be written again" in told
    db.close()
    reacting.reactor.close()
