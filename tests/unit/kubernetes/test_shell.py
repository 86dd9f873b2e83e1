"""The parts around the API: progress lines, kubeconfigs, a missing package, wrong usage."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from freehold import cli
from freehold.errors import KubernetesError
from freehold.kubernetes import FuturesCluster, FuturesJob, _client
from freehold.kubernetes._client import Where, connect
from freehold.kubernetes._progress import ProgressLine


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_that_goes() -> None:
    stream = Terminal()
    with ProgressLine("cluster small", stream) as progress:
        progress.show("0 of 2")
        progress.show("1 of 2")
    assert stream.getvalue().count("\n") == 0
    assert "cluster small (0 s): 1 of 2" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")


def test_elsewhere_nothing_is_shown_or_each_change_once() -> None:
    silent, lines = io.StringIO(), io.StringIO()
    for progress in (ProgressLine("x", silent), ProgressLine("x", lines, has_lines=True)):
        for words in ("a", "a", "b\nc"):
            progress.show(words)
            progress.clear()
    assert silent.getvalue() == ""
    assert lines.getvalue() == "x: a\nx: b c\n"


def kubeconfig(folder: Path, **contexts: str | None) -> str:
    """A kubeconfig with contexts and their namespaces; the first is the current one."""
    found: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": next(iter(contexts)),
        "clusters": [{"name": "one", "cluster": {"server": "http://127.0.0.1:1"}}],
        "users": [{"name": "me", "user": {"token": "none"}}],
        "contexts": [],
    }
    for name, namespace in contexts.items():
        context = {"cluster": "one", "user": "me"}
        if namespace is not None:
            context["namespace"] = namespace
        found["contexts"].append({"name": name, "context": context})
    path = folder / "config"
    path.write_text(json.dumps(found))
    return str(path)


def test_the_namespace_is_the_contexts_unless_one_is_given(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, team="a", other="b", bare=None)
    assert connect(Where(kubeconfig=path)).namespace == "a"
    assert connect(Where(context="other", kubeconfig=path)).namespace == "b"
    assert connect(Where(context="bare", kubeconfig=path)).namespace == "default"
    assert connect(Where(namespace="c", kubeconfig=path)).namespace == "c"


def test_an_unknown_context_names_those_there_are(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path, team="a", other="b")
    with pytest.raises(KubernetesError, match="its contexts: team, other"):
        connect(Where(context="none", kubeconfig=path))


def test_no_way_to_an_api_server_says_what_to_name(tmp_path: Path) -> None:
    with pytest.raises(KubernetesError, match="nowhere"):
        connect(Where(kubeconfig=str(tmp_path / "nowhere")))
    (tmp_path / "broken").write_text("{")
    with pytest.raises(KubernetesError, match="broken"):
        connect(Where(kubeconfig=str(tmp_path / "broken")))
    code = (
        "from freehold.kubernetes import FuturesCluster as C\n"
        "try: C('c')\nexcept Exception as e: print(type(e).__name__, e)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", code],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert finished.stdout.startswith("KubernetesError")
    assert "name a file in KUBECONFIG" in finished.stdout


def test_an_api_server_that_is_away_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("freehold.kubernetes._client.RETRY_S", 0.0)
    cluster = FuturesCluster("c", kubeconfig=kubeconfig(tmp_path, team="a"))
    for call in (cluster.create, cluster.wait_ready, cluster.delete):
        with pytest.raises(KubernetesError, match=r"127\.0\.0\.1:1 does not answer"):
            call()


@pytest.mark.parametrize(
    ("status", "body", "reason", "words"),
    [
        (404, b"404 page not found\n", "NotInstalled", "helm install freehold"),
        (401, b'{"reason": "Unauthorized", "message": "no"}', "Unauthorized", "log in again"),
        (403, b'{"reason": "Forbidden", "message": "cannot"}', "Forbidden", "lists the rights"),
        (403, b'{"reason": "Forbidden", "message": "exceeded quota: few"}', "Forbidden", "few"),
        (502, b"<html>bad gateway</html>", "HTTP502", "bad gateway"),
        (422, b'["no object"]', "HTTP422", "no object"),
    ],
)
def test_a_refusal_says_what_to_do(status: int, body: bytes, reason: str, words: str) -> None:
    path = "/apis/freehold.dev/v1alpha1/namespaces/a/futuresjobs"
    error = _client._refused(status, body, path)
    assert (error.status, error.reason) == (status, reason)
    assert words in error.detail
    assert not error.detail.startswith("exceeded") or error.detail.endswith("few")


def test_a_missing_object_is_no_missing_installation() -> None:
    told = {"reason": "NotFound", "message": 'futuresjobs "j" not found', "details": {"name": "j"}}
    path = "/apis/freehold.dev/v1alpha1/namespaces/a/futuresjobs/j"
    error = _client._refused(404, json.dumps(told).encode(), path)
    assert (error.reason, error.detail) == ("NotFound", 'futuresjobs "j" not found')


def test_lines_that_are_known_already_are_left_out_whatever_the_fraction() -> None:
    stamps = ["05Z", "05.1Z", "05.12Z", "05.123Z", "05.2Z", "06Z"]
    lines = [f"2026-01-01T00:00:{stamp} {stamp}".encode() for stamp in stamps]
    for index, stamp in enumerate(stamps):
        found = [text for _, text in _client._after(lines, f"2026-01-01T00:00:{stamp}")]
        assert found == stamps[index + 1 :]
    assert [text for _, text in _client._after([b"", b"half a li", *lines], "")] == stamps


def test_a_job_on_a_cluster_has_none_of_its_own(tmp_path: Path) -> None:
    cluster = FuturesCluster("c", kubeconfig=kubeconfig(tmp_path, team="a"))
    with pytest.raises(ValueError, match="workers, image would be of a cluster of the job's own"):
        FuturesJob.submit(print, cluster=cluster, workers=2, image="x:1")
    with pytest.raises(ValueError, match="namespace a"):
        FuturesJob.submit(print, cluster=cluster, namespace="b")
    with pytest.raises(ValueError, match="leave them out"):
        FuturesJob.submit(print, cluster=cluster, context="team")


def test_a_missing_package_is_named_with_what_to_install() -> None:
    code = "import sys; sys.modules['kubernetes'] = None; import freehold.kubernetes"
    finished = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert "freehold.kubernetes needs the package kubernetes: run pip install" in finished.stderr


def test_a_missing_package_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("freehold.kubernetes")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    assert cli.run(["job", "submit", "--kubernetes", "--", "freehold", "sort"]) == 1
    assert "run pip install kubernetes" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--", "freehold", "sort"], "say --kubernetes"),
        (["--kubernetes"], "PROGRAM"),
        (["--kubernetes", "--", "python", "none-such.py"], "there is no none-such.py here"),
        (["--kubernetes", "--env", "A", "--", "x"], "'A' is not NAME=VALUE"),
        (["--kubernetes", "--name", "A!", "--", "x"], "begins with a letter"),
        (["--kubernetes", "--cluster", "c", "--workers", "2", "--", "x"], "leave out one"),
        (["--kubernetes", "--timeout", "-1", "--", "x"], "--timeout"),
    ],
)
def test_wrong_usage_says_what_to_do(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--kubeconfig", kubeconfig(tmp_path, team="a")]
    assert cli.run(["job", "submit", *options, *words]) == 2
    assert said in capsys.readouterr().err
