"""A cluster that tests use: kind's, made by `e2e/kind`, or any by its kubeconfig.

Everything goes through kubectl, as a user's would; a test that wants more of the API uses it too.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.support.tools import KIND, binaries

from freehold.testing import eventually

Manifest = dict[str, Any]

COMMAND_TIMEOUT_S = 120.0
# Everything from nothing, on a machine that has to build all of it.
UP_TIMEOUT_S = 60 * 60
POLL_S = 0.25


class CommandError(Exception):
    """A program ended with another exit code than 0; the message has what it said."""

    def __init__(self, command: list[str], finished: subprocess.CompletedProcess[str]) -> None:
        self.exit_code = finished.returncode
        self.output = f"{finished.stdout}{finished.stderr}"
        super().__init__(
            f"{' '.join(command)} ended with exit code {finished.returncode}:\n{self.output}"
        )


def run(
    command: list[str | Path], *, timeout_s: float = COMMAND_TIMEOUT_S, text: str | None = None
) -> str:
    """Run a program without a terminal and return its standard output.

    Raises:
        CommandError: it ended with another exit code than 0.
    """
    parts = [str(part) for part in command]
    finished = subprocess.run(
        parts,
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if finished.returncode != 0:
        raise CommandError(parts, finished)
    return finished.stdout


@dataclass(frozen=True)
class Cluster:
    """Where it is, and what kind calls it.

    Attributes:
        kubeconfig: the file by which kubectl and helm reach it.
        kind_name: None where kind did not make it: no images are loaded and no node is stopped.
    """

    kubeconfig: Path
    kind_name: str | None = None

    def kubectl(
        self,
        *arguments: str,
        namespace: str | None = None,
        text: str | None = None,
        timeout_s: float = COMMAND_TIMEOUT_S,
    ) -> str:
        """Run kubectl; its output. `text` is its standard input."""
        scope = ["--namespace", namespace] if namespace else []
        program: list[str | Path] = [
            binaries("kubectl")["kubectl"],
            "--kubeconfig",
            self.kubeconfig,
        ]
        return run([*program, *scope, *arguments], timeout_s=timeout_s, text=text)

    def helm(self, *arguments: str, timeout_s: float = COMMAND_TIMEOUT_S) -> str:
        """Run helm; its output."""
        program: list[str | Path] = [binaries("helm")["helm"], "--kubeconfig", self.kubeconfig]
        return run([*program, *arguments], timeout_s=timeout_s)

    def apply(self, *manifests: Manifest, namespace: str | None = None) -> None:
        """`kubectl apply` objects, all in one call."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "--filename", "-", namespace=namespace, text=json.dumps(items))

    def get(self, kind: str, name: str, namespace: str | None = None) -> Manifest:
        """One object."""
        found: Manifest = json.loads(
            self.kubectl("get", kind, name, "--output", "json", namespace=namespace)
        )
        return found

    def find(self, kind: str, name: str, namespace: str | None = None) -> Manifest | None:
        """One object, or None where there is none."""
        arguments = ("get", kind, name, "--output", "json", "--ignore-not-found")
        text = self.kubectl(*arguments, namespace=namespace)
        return json.loads(text) if text.strip() else None

    def objects(
        self, kind: str, namespace: str | None = None, *, labels: str = ""
    ) -> list[Manifest]:
        """All objects of a kind, in a namespace or without one."""
        chosen = ["--selector", labels] if labels else []
        text = self.kubectl("get", kind, *chosen, "--output", "json", namespace=namespace)
        items: list[Manifest] = json.loads(text)["items"]
        return items

    def wait(
        self, condition: str, target: str, namespace: str | None = None, *, timeout_s: float = 60.0
    ) -> None:
        """`kubectl wait --for=condition`, e.g. `condition=Ready`, `delete`, of `pod/name`."""
        arguments = ("wait", f"--for={condition}", target, f"--timeout={timeout_s:g}s")
        self.kubectl(*arguments, namespace=namespace, timeout_s=timeout_s + 30)

    def wait_gone(
        self, kind: str, namespace: str, *, labels: str = "", timeout_s: float = 60.0
    ) -> None:
        """Wait until a namespace has no object of a kind, of those with the labels."""
        eventually(
            lambda: not self.objects(kind, namespace, labels=labels), timeout_s, interval_s=POLL_S
        )

    def execute(self, pod: str, namespace: str, *command: str) -> str:
        """Run a command in a pod's first container; its output."""
        return self.kubectl("exec", pod, "--", *command, namespace=namespace)

    def worker_nodes(self) -> list[str]:
        """The names of the nodes that are not of the control plane."""
        without = "!node-role.kubernetes.io/control-plane"
        return [node["metadata"]["name"] for node in self.objects("node", labels=without)]


def kind_cluster(name: str) -> Cluster:
    """The kind cluster of a name: the one that works, or a new one."""
    command = [str(KIND / "cluster.sh"), "up", name]
    finished = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,  # what it does goes to the terminal: it may take minutes
        text=True,
        timeout=UP_TIMEOUT_S,
        check=False,
    )
    if finished.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed; what it said is above")
    return Cluster(Path(finished.stdout.strip()), name)


def remove_kind_cluster(name: str) -> None:
    """Delete the kind cluster of a name."""
    run([KIND / "cluster.sh", "down", name])
