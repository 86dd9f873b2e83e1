"""Manifests of clusters, jobs and their programs from what a user says. Pure.

What is wrong is said here, before anything is sent, where the API server's words would not tell
what to do in Python; all other rules are the API server's own.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any

Manifest = dict[str, Any]
Workers = int | tuple[int, int]

GROUP = "freehold.dev"
API_VERSION = f"{GROUP}/v1alpha1"
CLUSTER, JOB = "FuturesCluster", "FuturesJob"
LABEL_CLUSTER = f"{GROUP}/cluster"
LABEL_JOB = f"{GROUP}/job"
LABEL_ROLE = f"{GROUP}/role"
LABEL_ATTEMPT = f"{GROUP}/attempt"
CONTAINER = "freehold"

NAME_CHARACTERS = 36
FILES_BYTES = 1 << 20
"""What a ConfigMap may hold."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")


def checked_name(kind: str, name: object) -> str:
    """The name, if the CRD takes it.

    Raises:
        ValueError: it does not.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > NAME_CHARACTERS:
        raise ValueError(
            f"the name of a {kind} begins with a letter, has only a-z, 0-9 and '-', and at most "
            f"{NAME_CHARACTERS} characters; {name!r} does not: choose such a name"
        )
    return name


def made_name(words: str, suffix: str) -> str:
    """A name from any words, with something behind it that makes it the only one.

    >>> made_name("My_Train.py", "3fa9c1")
    'my-train-py-3fa9c1'
    """
    stem = re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")
    stem = stem if stem[:1].isalpha() else f"job-{stem}".rstrip("-")
    return f"{stem[: NAME_CHARACTERS - len(suffix) - 1].rstrip('-')}-{suffix}"


def merged(base: Any, over: Any) -> Any:
    """`over` laid over `base`: objects key by key, everything else replaced."""
    if not isinstance(base, dict) or not isinstance(over, Mapping):
        return over
    return base | {key: merged(base.get(key), value) for key, value in over.items()}


def _limits(resources: Mapping[str, Any]) -> Manifest:
    """Limits of a container: Kubernetes takes numbers as text as well."""
    return {str(name): str(amount) for name, amount in resources.items()}


def cluster_spec(
    workers: Workers | None,
    image: str | None,
    resources: Mapping[str, Any] | None,
    spec: Mapping[str, Any] | None,
) -> Manifest:
    """The spec of a FuturesCluster.

    Args:
        workers: how many; or the fewest and the most, to scale on the queue. Default 1.
        resources: of each worker, as in a container: ``{"cpu": 4, "memory": "16Gi"}``.
        spec: fields of the custom resource, laid over what the others say.

    Raises:
        ValueError, TypeError: they contradict each other or cannot be.
    """
    extra = dict(spec or {})
    found: Manifest = {}
    if image is not None:
        found["image"] = image
    if "workerGroups" in extra:
        if workers is not None or resources is not None:
            raise ValueError(
                "spec['workerGroups'] and workers= or resources= would say the same thing twice: "
                "leave out workers and resources, or the groups"
            )
        return dict(merged(found, extra))
    group: Manifest = {"name": "workers"}
    if resources is not None:
        group["resources"] = {"limits": _limits(resources)}
    workers = 1 if workers is None else workers
    if isinstance(workers, tuple):
        fewest, most = _range(workers)
        group |= {"minReplicas": fewest, "maxReplicas": most}
        found["autoscaling"] = {}
    else:
        found["replicas"] = checked_count(workers)
    found["workerGroups"] = [group]
    return dict(merged(found, extra))


def checked_count(workers: object) -> int:
    """A number of workers.

    Raises:
        ValueError, TypeError: it is none.
    """
    if not isinstance(workers, int) or isinstance(workers, bool):
        raise TypeError(
            f"workers is a number, or (fewest, most) to scale on the queue, not {workers!r}"
        )
    if workers < 0:
        raise ValueError(f"workers cannot be {workers}: say 0 or more")
    return workers


def _range(workers: tuple[int, ...]) -> tuple[int, int]:
    if len(workers) != 2:
        raise ValueError(f"workers=(fewest, most) has two numbers, not {len(workers)}")
    fewest, most = checked_count(workers[0]), checked_count(workers[1])
    if most < max(1, fewest):
        raise ValueError(f"workers=({fewest}, {most}): the most is below the fewest, or nothing")
    return fewest, most


def cluster(name: str, namespace: str, spec: Manifest) -> Manifest:
    """A FuturesCluster."""
    metadata = {"name": checked_name(CLUSTER, name), "namespace": namespace}
    return {"apiVersion": API_VERSION, "kind": CLUSTER, "metadata": metadata, "spec": spec}


def job(name: str, namespace: str, spec: Manifest, over: Mapping[str, Any] | None) -> Manifest:
    """A FuturesJob, with a user's own fields laid over its spec."""
    metadata = {"name": checked_name(JOB, name), "namespace": namespace}
    found = merged(spec, over or {})
    return {"apiVersion": API_VERSION, "kind": JOB, "metadata": metadata, "spec": found}


def job_spec(
    command: Sequence[str],
    arguments: Sequence[str],
    where: Manifest,
    env: Mapping[str, str],
    config_map: str | None,
) -> Manifest:
    """The spec of a FuturesJob.

    Args:
        where: its `clusterRef` or `clusterTemplate`.
        config_map: the name of the one that has the program's files.
    """
    found: Manifest = {"command": list(command), **where}
    if arguments:
        found["args"] = list(arguments)
    if env:
        found["env"] = [{"name": str(key), "value": str(value)} for key, value in env.items()]
    if config_map is not None:
        found["workingDir"] = {"configMap": {"name": config_map}}
    return found


def check_files(files: Mapping[str, bytes]) -> None:
    """Whether a ConfigMap can hold a program's files.

    Raises:
        ValueError: a name that it does not take, or more than 1 MiB.
    """
    for name in files:
        if not _KEY.fullmatch(name) or name in (".", ".."):
            raise ValueError(
                f"the name of a job's file has only letters, digits, '-', '_', '.'; {name!r} has "
                "others: rename it"
            )
    size = sum(map(len, files.values()))
    if size > FILES_BYTES:
        largest = max(files, key=lambda name: len(files[name]))
        raise ValueError(
            f"a job's files take {size:,} bytes ({largest} alone {len(files[largest]):,}) and at "
            f"most {FILES_BYTES:,} (1 MiB) pass: put code into the image and data into shared "
            "storage; of a function, look at what it refers to"
        )


def config_map(name: str, job: Manifest, files: Mapping[str, bytes]) -> Manifest:
    """The ConfigMap of a job's files, which goes with the job.

    Args:
        job: as the API server has it, with its UID.
    """
    meta = job["metadata"]
    text: dict[str, str] = {}
    binary: dict[str, str] = {}
    for key, content in files.items():
        try:
            text[key] = content.decode()
        except UnicodeDecodeError:
            binary[key] = base64.b64encode(content).decode()
    owner = {"apiVersion": API_VERSION, "kind": JOB, "name": meta["name"], "uid": meta["uid"]}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "namespace": meta["namespace"],
            "labels": {"app.kubernetes.io/name": "freehold", LABEL_JOB: meta["name"]},
            "ownerReferences": [owner],
        },
        "immutable": True,
        "data": text,
        "binaryData": binary,
    }
