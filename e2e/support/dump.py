"""What a namespace had in it when a test failed: objects, events and logs, as files.

Secrets are left out, and nothing here fails a test: what cannot be had is said in its file.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from e2e.support.cluster import Cluster, CommandError

LOG_LINES = 3000
SUMMARY_EVENTS = 25


def dump_namespace(cluster: Cluster, namespace: str, folder: Path) -> str:
    """Write everything into a folder; the summary, for the test's report."""
    folder.mkdir(parents=True, exist_ok=True)
    kinds = _try(cluster, "api-resources", "--namespaced", "--verbs=list", "--output=name").split()
    kinds = [kind for kind in kinds if not kind.startswith(("secrets", "events"))]
    pods = _try(cluster, "get", "pods", "--output=wide", namespace=namespace)
    events = _try(cluster, "get", "events", "--sort-by=.lastTimestamp", namespace=namespace)
    parts = {
        "objects.yaml": _try(cluster, "get", ",".join(kinds), "-o", "yaml", namespace=namespace),
        "pods.txt": pods + "\n" + _try(cluster, "describe", "pods", namespace=namespace),
        "events.txt": events,
        "nodes.txt": _try(cluster, "describe", "nodes"),
    }
    for name, text in parts.items():
        (folder / name).write_text(text)
    _dump_logs(cluster, namespace, folder / "logs")
    last = "\n".join(events.splitlines()[-SUMMARY_EVENTS:])
    return f"namespace {namespace}; all of it is in {folder}\n{pods}\n{last}"


def _dump_logs(cluster: Cluster, namespace: str, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    text = _try(cluster, "get", "pods", "--output=json", namespace=namespace)
    try:
        pods = json.loads(text)["items"]
    except ValueError:
        return  # that the server did not answer is in the other files
    for pod in pods:
        statuses = pod.get("status", {})
        for status in [
            *statuses.get("initContainerStatuses", ()),
            *statuses.get("containerStatuses", ()),
        ]:
            name = f"{pod['metadata']['name']}.{status['name']}"
            arguments = ["logs", pod["metadata"]["name"], "--container", status["name"]]
            arguments += ["--timestamps", f"--tail={LOG_LINES}"]
            (folder / f"{name}.log").write_text(_try(cluster, *arguments, namespace=namespace))
            if status.get("restartCount"):
                before = _try(cluster, *arguments, "--previous", namespace=namespace)
                (folder / f"{name}.previous.log").write_text(before)


def _try(cluster: Cluster, *arguments: str, namespace: str | None = None) -> str:
    try:
        return cluster.kubectl(*arguments, namespace=namespace, timeout_s=30)
    except (CommandError, subprocess.TimeoutExpired) as error:
        return f"not to be had: {error}\n"
