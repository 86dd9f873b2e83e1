"""The project's images: built when what goes into them changed, and put into the nodes of kind.

An image's tag has a hash of its inputs: the folder `images`, what `.dockerignore` lets into a
build, and the base. An unchanged tree builds nothing, and a node that has the tag needs no loading.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from e2e.support.cluster import Cluster, run
from e2e.support.tools import KIND, ROOT

BUILD_TIMEOUT_S = 20 * 60
LOAD_TIMEOUT_S = 5 * 60


def base_image() -> str:
    """What images are built on here: python:3.11-slim, or its stand-in where that cannot be had."""
    command: list[str | Path] = [KIND / "base-image.sh"]
    return run(command, timeout_s=BUILD_TIMEOUT_S).strip()


def input_hash(base: str) -> str:
    """Twelve hex digits that change with anything the images are made of."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--"]
    command += [".dockerignore", "images", *allowed]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    digest = hashlib.sha256(base.encode())
    for name in sorted(set(listed.decode().split("\0")) - {""}):
        path = ROOT / name
        if path.is_file():
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            digest.update(f"\0{name}\0{path.stat().st_mode & 0o111}\0{content}".encode())
    return digest.hexdigest()[:12]


def build(name: str) -> str:
    """Build `runtime` or `operator` out of this tree, unless that was done; its full name."""
    base = base_image()
    tag = input_hash(base)
    full_name = f"freehold/{name}:{tag}"
    known = ["docker", "image", "inspect", "--format", "{{.Id}}", full_name]
    if subprocess.run(known, capture_output=True, check=False).returncode == 0:
        return full_name
    finished = subprocess.run(
        [ROOT / "images" / "build.sh", name],
        env={**os.environ, "BASE_IMAGE": base, "TAG": tag, "PREFIX": "freehold"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )
    if finished.returncode != 0:
        raise RuntimeError(f"building {full_name} failed:\n{finished.stdout[-6000:]}")
    return full_name


def load(cluster: Cluster, name: str) -> None:
    """Put an image of this machine's Docker into every node of a kind cluster that lacks it."""
    assert cluster.kind_name is not None, "images are only loaded into a kind cluster"
    nodes = run(["docker", "ps", *_nodes_of(cluster.kind_name), "--format", "{{.Names}}"]).split()
    if all(_has(node, name) for node in nodes):
        return
    command: list[str | Path] = [KIND / "cluster.sh", "load", cluster.kind_name, name]
    run(command, timeout_s=LOAD_TIMEOUT_S)


def build_and_load(cluster: Cluster, name: str) -> str:
    """Build an image if need be and put it into the cluster's nodes; its full name."""
    full_name = build(name)
    load(cluster, full_name)
    return full_name


def _nodes_of(kind_name: str) -> tuple[str, str]:
    return "--filter", f"label=io.x-k8s.kind.cluster={kind_name}"


def _has(node: str, name: str) -> bool:
    listed = run(["docker", "exec", node, "ctr", "--namespace=k8s.io", "images", "list", "--quiet"])
    return f"docker.io/{name}" in listed.split()
