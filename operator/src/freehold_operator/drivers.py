"""Manifests of a FuturesJob: an attempt's batch/v1 Job, and the cluster made for it.

Each attempt is one Job of one pod (`backoffLimit: 0`), so that Kubernetes keeps its result while
the operator is away. A pod that Kubernetes itself disrupts (evicted, preempted, its machine lost)
fails the Job under a reason of its own: the next attempt is a new Job, because the control service
refuses to run an attempt twice.
"""

from __future__ import annotations

import shlex
from typing import Any

from freehold_operator import names, pods
from freehold_operator.model import Job, JobSpec
from freehold_operator.pods import Draft, PodTemplate
from freehold_operator.render import Defaults, owner

DRIVER_GRACE_S = 30
WORK_DIR = "/srv/job"
"""Where a ConfigMap's files are put."""

DISRUPTED = "PodFailurePolicy"
"""The reason of a Job that failed by its podFailurePolicy, whose only rule is about disruptions."""


def command(spec: JobSpec) -> tuple[str, ...]:
    """The driver's command line. An entrypoint is split as a shell would; no shell runs it.

    Raises:
        ValueError: quotes that do not end.
    """
    words = spec.command or tuple(shlex.split(spec.entrypoint or ""))
    return (*words, *spec.args)


def driver_template(job: Job, cluster: str, image: str, attempt: int) -> PodTemplate:
    """The pod of a driver.

    Raises:
        ValueError: the entrypoint cannot be split.
    """
    spec, meta = job.spec, job.meta
    mounts: tuple[dict[str, Any], ...] = ()
    volumes: tuple[dict[str, Any], ...] = ()
    config_map = (spec.working_dir.get("configMap") or {}).get("name")
    if config_map:
        volumes = ({"name": "working-dir", "configMap": {"name": config_map}},)
        mounts = ({"name": "working-dir", "mountPath": WORK_DIR, "readOnly": True},)
    found = pods.finish(
        Draft(
            cluster=cluster,
            role=names.ROLE_DRIVER,
            path="driver.template",
            image=image,
            args=(
                *("job", "run", "--address", names.control_address(cluster, meta.namespace)),
                *("--job", names.job_id(meta.name, meta.uid), "--attempt", str(attempt)),
                *("--", *command(spec)),
            ),
            env=(pods.head_pod_variable(cluster, meta.namespace),),
            template=spec.driver.get("template") or {},
            default=pods.DRIVER_DEFAULT,
            grace_s=DRIVER_GRACE_S,
            writable={"scratch": pods.SCRATCH_DIR},
            mounts=mounts,
            volumes=volumes,
            offers=False,
            # A driver that waits for its own tasks is no worse for it, and nobody connects to it.
            has_probes=False,
        )
    )
    container = next(c for c in found.spec["containers"] if c["name"] == names.CONTAINER)
    ours = {variable["name"] for variable in container["env"]}
    container["env"] += [v for v in spec.env if v["name"] not in ours]
    folder = WORK_DIR if config_map else spec.working_dir.get("path")
    if folder:
        container.setdefault("workingDir", folder)
    return found


def attempt_job(job: Job, template: PodTemplate, cluster: str, attempt: int) -> dict[str, Any]:
    """The batch/v1 Job of one attempt."""
    meta = job.meta
    labels = names.labels(cluster, names.ROLE_DRIVER, job=meta.name, attempt=str(attempt))
    disrupted = {
        "action": "FailJob",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": names.attempt_name(meta.name, attempt),
            "namespace": meta.namespace,
            "labels": labels,
            "ownerReferences": owner(meta, "FuturesJob"),
        },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {"rules": [disrupted]},
            "template": {
                "metadata": {
                    "labels": {**template.labels, **labels},
                    "annotations": template.annotations,
                },
                "spec": template.spec,
            },
        },
    }


def job_cluster(job: Job) -> dict[str, Any]:
    """The FuturesCluster made for a job, under its name."""
    template = job.spec.cluster_template or {}
    metadata = template.get("metadata") or {}
    labels = names.labels(job.meta.name, names.ROLE_HEAD, job=job.meta.name)
    return {
        "apiVersion": names.API_VERSION,
        "kind": "FuturesCluster",
        "metadata": {
            "name": job.meta.name,
            "namespace": job.meta.namespace,
            "labels": {**(metadata.get("labels") or {}), **labels},
            "annotations": dict(metadata.get("annotations") or {}),
            "ownerReferences": owner(job.meta, "FuturesJob"),
        },
        "spec": template.get("spec") or {},
    }


def image_of(job: Job, cluster_image: str | None, defaults: Defaults) -> str:
    """The image of a driver: its cluster's, as versions must match."""
    return cluster_image or defaults.image
