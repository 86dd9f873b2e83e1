"""The images: small over their base, not root, and content with a root they cannot write.

How they behave in a cluster is shown by every other file; this is about what they are.
"""

from __future__ import annotations

import json

import pytest
from e2e.support import images
from e2e.support.cluster import Cluster, run

MEGABYTE = 1_000_000
LIMITS_MB = {"operator": 150, "runtime": 300}
RESTRICTED = (
    *("--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
    *("--network", "none", "--tmpfs", "/tmp", "--rm"),
)


@pytest.fixture(params=sorted(LIMITS_MB))
def built(request: pytest.FixtureRequest, cluster: Cluster) -> tuple[str, str]:
    """An image's short and full name; it is only built here for a cluster of kind."""
    name = request.param
    return name, request.getfixturevalue(f"{name}_image") if cluster.kind_name else ""


def inspected(image: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(run(["docker", "image", "inspect", image]))[0]
    return found


def test_size_over_the_base(built: tuple[str, str]) -> None:
    name, image = built
    if not image:
        return  # another cluster's images are its owner's
    sizes = [int(str(inspected(one)["Size"])) for one in (image, images.base_image())]
    assert sizes[0] - sizes[1] <= LIMITS_MB[name] * MEGABYTE


def test_it_is_not_root_by_number(built: tuple[str, str]) -> None:
    _, image = built
    if not image:
        return
    config = json.loads(json.dumps(inspected(image)["Config"]))
    assert config["User"] == "65532:65532"
    assert len(config["Entrypoint"]) == 1
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_it_imports_what_it_needs_under_restrictions(built: tuple[str, str]) -> None:
    name, image = built
    if not image:
        return
    wanted = {
        "operator": "import freehold_operator.app, kopf; from kubernetes import client, config",
        "runtime": "import freehold, numpy, pyarrow.parquet, fsspec, cryptography, grpc",
    }
    program = f"{wanted[name]}; import os, getpass; print(os.getuid(), getpass.getuser())"
    command = ["docker", "run", *RESTRICTED, "--entrypoint", "python", image, "-c", program]
    assert run(command).split() == ["65532", "freehold"]
