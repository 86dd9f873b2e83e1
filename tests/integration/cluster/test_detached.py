"""Detached actors: they outlive the driver that made them, and the head; `kill` ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.integration.cluster.kit import Machines, until_gone

import freehold
from freehold.testing import LocalCluster

HEAD = """
import os, sys, time
import freehold

context = freehold.init(namespace="shop", log_to_driver=False)

@freehold.remote(num_cpus=0, max_restarts=2)
class Counter:
    def __init__(self, start, friend=None):
        self.count, self.friend = start, friend

    def add(self):
        self.count += 1
        return self.count

    def ask(self):
        return freehold.get(self.friend.add.remote(), timeout=30)

    def work(self):
        @freehold.remote(num_cpus=0)
        def double(x):
            return 2 * x

        return freehold.get(double.remote(freehold.put(21)), timeout=30)

    def give(self):
        return [freehold.put(b"y" * 1_000_000)]

    def end(self):
        os._exit(1)

def restarted(counter):
    counter.end.remote()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            return freehold.get(counter.add.remote(), timeout=30)
        except freehold.exceptions.ActorUnavailableError:
            time.sleep(0.05)

@freehold.remote(num_cpus=0)
def use(counter):
    return freehold.get(counter.add.remote(), timeout=30)

def is_named(name):
    try:
        freehold.get_actor(name)
    except ValueError:
        return False
    return True
"""


def drive(machines: Machines, folder: Path, text: str, **variables: str) -> list[str]:
    """Run a driver to its end; the lines that it printed."""
    path = folder / "program.py"
    path.write_text(HEAD + textwrap.dedent(text))
    done = subprocess.run(
        [sys.executable, str(path)],
        env=machines.variables(**{"FREEHOLD_ADDRESS": "auto", **variables}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.stdout.splitlines()


def test_a_second_driver_finds_what_the_first_left(machines: Machines, tmp_path: Path) -> None:
    machines.start_head()
    made = drive(
        machines,
        tmp_path,
        """
        first = Counter.options(name="first", lifetime="detached").remote(10)
        second = Counter.options(name="second", lifetime="detached").remote(20, first)
        plain = Counter.options(name="plain").remote(0)
        print(freehold.get([first.add.remote(), second.ask.remote(), plain.add.remote()]))
        """,
    )
    assert made == ["[11, 12, 1]"]
    found = drive(
        machines,
        tmp_path,
        """
        first, second = freehold.get_actor("first"), freehold.get_actor("second")
        print(is_named("plain"))
        print(freehold.get(second.ask.remote(), timeout=30))
        print(freehold.get(use.remote(first), timeout=30))
        # In the environment of a job that has ended: tasks, objects, and a restart beside another.
        print(freehold.get(second.work.remote(), timeout=60))
        (given,) = freehold.get(second.give.remote(), timeout=30)
        print(len(freehold.get(given, timeout=30)))
        print(restarted(first))
        print(freehold.get(second.ask.remote(), timeout=30))
        # Longer than anybody waits for the process that made it.
        time.sleep(freehold._core.limits.LEASE_S + 2)
        print(freehold.get([use.remote(first), second.ask.remote()], timeout=30)[0] > 12)
        freehold.kill(first)
        freehold.kill(second)
        """,
    )
    assert found == ["False", "13", "14", "42", "1000000", "11", "12", "True"]
    ended = drive(machines, tmp_path, 'print(is_named("first"), is_named("second"))')
    assert ended == ["False False"]


def test_the_drivers_own_node_and_its_death_are_nothing_to_it(
    machines: Machines, tmp_path: Path
) -> None:
    """The driver's machine has no node, so it starts one for itself, which ends with it."""
    head = machines.start_head()
    files = tmp_path / "files"
    files.mkdir()
    (files / "price.txt").write_text("7")
    made = drive(
        machines,
        tmp_path,
        f"""
        @freehold.remote(num_cpus=0, max_restarts=1)
        class Shop(Counter.__mro_entries__(())[0]):
            def where(self):
                return freehold.get_runtime_context().get_node_id(), open("price.txt").read()

        options = dict(name="shop", lifetime="detached", runtime_env={{"working_dir": "{files}"}})
        node, price = freehold.get(Shop.options(**options).remote(0).where.remote())
        print(node == "{head.node}", node == context["node_id"], price, flush=True)
        os.kill(os.getpid(), 9)
        """,
        FREEHOLD_DIR=str(tmp_path / "elsewhere"),
        FREEHOLD_ADDRESS=machines.join_string(),
    )
    assert made == ["True False 7"]
    found = drive(
        machines,
        tmp_path,
        """
        shop = freehold.get_actor("shop")
        print(freehold.get(shop.add.remote(), timeout=30), restarted(shop))
        print(freehold.get(shop.where.remote(), timeout=30)[1])
        freehold.kill(shop)
        """,
    )
    assert found == ["1 1", "7"]


def test_a_handle_may_go_without_the_actor(machines: Machines, tmp_path: Path) -> None:
    machines.start_head()
    drive(
        machines,
        tmp_path,
        """
        counter = Counter.options(name="kept", lifetime="detached").remote(0)
        freehold.get(counter.add.remote())
        del counter
        time.sleep(0.5)
        print(freehold.get(freehold.get_actor("kept").add.remote(), timeout=30))
        """,
    )
    counted = drive(
        machines,
        tmp_path,
        """
        same = Counter.options(name="kept", lifetime="detached", get_if_exists=True).remote(100)
        print(freehold.get(same.add.remote(), timeout=30))
        """,
    )
    assert counted == ["3"]


@pytest.mark.parametrize("place", ["head", "other"])
def test_it_survives_a_restart_of_the_head(machines: Machines, tmp_path: Path, place: str) -> None:
    """On another node it goes on; on the head's own, whose processes end with it, it is made anew.
    Its driver has ended before that."""
    head = machines.start_head("--resources", '{"head": 1}')
    if place == "other":
        machines.start_node("--resources", '{"other": 1}')
    options = f'name="kept", lifetime="detached", resources={{"{place}": 1}}'
    text = f"print(freehold.get(Counter.options({options}).remote(10).add.remote()))"
    assert drive(machines, tmp_path, text) == ["11"]
    os.kill(head.pid, signal.SIGKILL)
    until_gone(head)
    machines.start_head("--resources", '{"head": 1}')
    found = drive(
        machines,
        tmp_path,
        """
        kept = freehold.get_actor("kept")
        print(freehold.get(kept.add.remote(), timeout=60))
        freehold.kill(kept)
        while is_named("kept"):
            time.sleep(0.05)
        """,
    )
    assert found == ["12" if place == "other" else "11"]


def test_what_it_is_made_of_cannot_be_the_makers() -> None:
    @freehold.remote(num_cpus=0)
    class Holder:
        def __init__(self, value: object) -> None:
            self.value = value

        def ready(self) -> bool:
            return True

    with LocalCluster(nodes=1, num_cpus=1):
        kept = Holder.options(lifetime="detached")
        for value in (b"x" * 200_000, freehold.put(1)):
            with pytest.raises(ValueError, match="as a detached actor outlives what its maker"):
                kept.remote(value)
        assert freehold.get(kept.remote("small").ready.remote())
