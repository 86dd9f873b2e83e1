"""`freehold start`, `status` and `stop`: what they start, show and leave behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.integration.cluster.kit import Machines, free_port, until_gone

from freehold._io.join_string import parse
from freehold.cli._ending import end_all
from freehold.testing import eventually


def words_of(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")


def family_of(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for thread in os.listdir(f"/proc/{pid}/task"):
        children = Path(f"/proc/{pid}/task/{thread}/children").read_text().split()
        for child in children:
            found += family_of(int(child))
    return found


def test_a_machine_joins_is_shown_and_leaves_nothing(machines: Machines) -> None:
    head = machines.start_head("--node-name", "first", "--resources", '{"disk": 2}')
    node = machines.start_node("--node-name", "second", "--labels", '{"zone": "b"}')
    state = machines.status()
    assert state["cluster"] == head.cluster
    shown = {found["name"]: found for found in state["nodes"]}
    assert shown["first"]["is_head"]
    assert shown["first"]["total"]["disk"] == 2.0
    assert not shown["second"]["is_head"]
    assert shown["second"]["labels"]["zone"] == "b"
    assert shown["second"]["total"]["CPU"] == 1.0
    table = machines.cli("status").stdout
    assert "2 nodes, 0 of 2 CPUs in use" in table
    assert "first (head)" in table
    assert "zone=b" in table
    assert "freehold.dev/" not in table
    labels = machines.cli("status", "--labels").stdout
    assert "zone=b" in labels
    assert f"freehold.dev/node-id={node.node}" in labels
    assert shown["second"]["labels"]["freehold.dev/node-id"] == node.node

    stopped = machines.cli("stop")
    assert stopped.returncode == 0
    assert f"head {head.node[:8]}" in stopped.stdout
    assert f"node {node.node[:8]}" in stopped.stdout
    assert machines.nodes() == []
    assert not Path(head.session_path).exists()
    assert machines.cli("stop").stdout == "no node that `freehold start` started runs here\n"


def test_a_node_that_was_stopped_is_declared_dead_at_once(machines: Machines) -> None:
    machines.start_head()
    node = machines.start_node()
    os.kill(node.pid, signal.SIGTERM)
    until_gone(node)
    eventually(lambda: machines.states()[node.node] == "dead", timeout_s=5.0)


def test_the_token_is_in_no_argument_environment_or_log(machines: Machines) -> None:
    head = machines.start_head()
    word = machines.join_string()
    token = parse(word).token
    assert token in word
    joined = machines.cli("start", "--num-cpus", "1", FREEHOLD_ADDRESS=word)
    assert joined.returncode == 0, joined.stderr
    assert token not in joined.stdout
    for node in machines.nodes():
        # The zygote and the workers, too.
        for pid in family_of(node.pid):
            assert token not in words_of(pid, "cmdline")
            assert token not in words_of(pid, "environ")
        assert token not in machines.log(node)
    readable = [
        path
        for path in Path(head.session_path).rglob("*")
        if path.is_file() and path.stat().st_mode & 0o077
    ]
    assert readable == []
    secret = [path for path in Path(machines.state_dir).rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in secret} == {0o600}


def test_a_port_that_is_taken_is_named(machines: Machines, tmp_path: Path) -> None:
    machines.start_head()
    other = Machines(tmp_path / "other")
    words = ("start", "--head", "--host", "127.0.0.1", "--port", str(machines.port))
    done = other.cli(*words)
    assert done.returncode == 1
    assert f"control_port {machines.port} cannot be listened on (Address already in use)" in (
        done.stderr
    )
    assert "--port" in done.stderr


def test_a_start_says_on_which_ports_it_listens(machines: Machines) -> None:
    health, peers = free_port(), free_port()
    done = machines.cli(
        *("start", "--head", "--host", "127.0.0.1", "--num-cpus", "1"),
        *("--port", str(machines.port), "--peer-port", str(peers), "--health-port", str(health)),
    )
    assert done.returncode == 0, done.stderr
    assert (
        f"It listens at 127.0.0.1 on the ports {machines.port} for the control service, {peers} "
        f"for processes of other machines, {health} for health and metrics."
    ) in done.stdout
    taken = machines.cli(
        "start", "--address", "-", "--peer-port", str(peers), given=machines.join_string()
    )
    assert taken.returncode == 1
    assert f"peer_port {peers}" in taken.stderr


def test_a_second_node_of_a_machine_says_which_port_it_took(
    machines: Machines,
) -> None:
    # 7401 may be another's on the machine of the tests: either way the second has another.
    machines.start_head()
    words = ("--address", "-", "--host", "127.0.0.1", "--num-cpus", "1")
    done = machines.cli("start", *words, given=machines.join_string())
    assert done.returncode == 0, done.stderr
    (note,) = [line for line in done.stdout.splitlines() if line.startswith("note: peer port")]
    assert note.startswith("note: peer port 7401 cannot be listened on (Address already in use")
    port = note.partition("this node took ")[2].partition(".")[0]
    assert f"on the ports {port} for processes of other machines." in done.stdout
    with socket.create_connection(("127.0.0.1", int(port)), timeout=5):
        pass


def test_two_heads_do_not_share_a_state_folder(machines: Machines) -> None:
    machines.start_head()
    done = machines.cli("start", "--head", "--host", "127.0.0.1", "--port", "0")
    assert done.returncode == 1
    assert "which another head uses now" in done.stderr


def test_a_head_keeps_its_cluster_token_and_ca(machines: Machines) -> None:
    machines.start_head()
    before, started = machines.join_string(), machines.status()
    machines.end()
    machines.start_head()
    after = machines.status()
    assert machines.join_string() == before
    assert after["cluster"] == started["cluster"]
    assert int(after["head_incarnation"]) == int(started["head_incarnation"]) + 1


def test_in_the_foreground_it_ends_on_sigterm(machines: Machines) -> None:
    words = ("--head", "--host", "127.0.0.1", "--port", str(machines.port), "--num-cpus", "1")
    process = machines.start_blocking(*words)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert f"control service at 127.0.0.1:{machines.port}" in line
    (head,) = machines.nodes()
    assert head.pid == process.pid  # it is what a container's first process would be
    token = parse(machines.join_string()).token
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=15)
    assert process.returncode == 0
    assert "the node ended: it was asked to end" in rest
    assert token not in line + rest


def test_in_the_foreground_what_fails_is_one_line(machines: Machines) -> None:
    machines.start_head()
    process = machines.start_blocking("--head", "--host", "127.0.0.1", "--port", "0")
    text, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert text.startswith("error: state_dir is ")
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("start",), "say --head to begin a cluster, or --address"),
        (("start", "--head", "--address", "h:1"), "give one of them"),
        (("start", "--address", "auto"), "a node needs the head's address"),
        (("start", "--head", "--resources", "[1]"), "is not an object of JSON"),
    ],
)
def test_wrong_usage_says_what_to_give(machines: Machines, words: tuple[str, ...], text: str):
    done = machines.cli(*words)
    assert done.returncode == 2
    assert text in done.stderr


def test_a_folder_of_secrets_that_is_not_there_is_named(machines: Machines, tmp_path: Path) -> None:
    folder = str(tmp_path / "none-such")
    words = ("start", "--head", "--host", "127.0.0.1", "--port", "0")
    done = machines.cli(*words, FREEHOLD_AUTH_DIR=folder)
    assert done.returncode != 0
    assert "auth_dir must have a file `token`" in done.stderr
    assert "failed inside" not in done.stderr


def test_a_malformed_join_string_is_not_repeated(machines: Machines) -> None:
    done = machines.cli("start", "--address", "freehold://SECRETSECRET@h:1")
    assert done.returncode == 1
    assert "not a whole join string" in done.stderr
    assert "SECRET" not in done.stdout + done.stderr


def test_stop_spares_a_process_that_only_has_the_number() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert end_all([(process.pid, 1)], 1.0) == set()
        assert process.poll() is None
    finally:
        process.communicate(b"\n", timeout=10)


def test_stop_kills_what_does_not_end() -> None:
    code = "import signal; signal.signal(signal.SIGUSR1, signal.SIG_IGN); print(1, flush=True)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", code + "input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    from freehold._processes.node.record import start_time

    assert process.stdout is not None
    process.stdout.readline()
    assert end_all([(process.pid, start_time(process.pid))], 0.2) == {process.pid}
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGKILL
