"""requirements.lock names no index, hashes everything, and covers what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tests.tidy import tree

LOCK = "requirements.lock"


def pins() -> dict[str, str]:
    """Name to version."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", tree.text(LOCK), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in found}


def wanted() -> list[Requirement]:
    project = tomllib.loads(tree.text("pyproject.toml"))
    extras = project["project"]["optional-dependencies"]
    lines = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *extras["data"],
        *extras["dev"],
    ]
    return [Requirement(line) for line in lines]


def test_the_lock_names_no_index_and_no_address() -> None:
    odd = [
        line
        for line in tree.text(LOCK).splitlines()
        if "://" in line or (line.startswith("-") and not line.startswith("--hash="))
    ]
    assert odd == []


def test_every_pin_has_a_hash() -> None:
    entries = re.split(r"\n(?=[A-Za-z0-9])", tree.text(LOCK))
    bare = [e.splitlines()[0] for e in entries if "==" in e and "--hash=sha256:" not in e]
    assert bare == []
    assert len(pins()) > 20


def test_the_lock_covers_the_project() -> None:
    pinned = pins()
    missing = [
        str(requirement)
        for requirement in wanted()
        if not requirement.specifier.contains(
            pinned.get(canonicalize_name(requirement.name), "0"), prereleases=True
        )
        or canonicalize_name(requirement.name) not in pinned
    ]
    assert missing == []


def test_every_base_dependency_has_its_reason_beside_it() -> None:
    block = tree.text("pyproject.toml").split("\ndependencies = [", 1)[1].split("\n]", 1)[0]
    bare = [
        line for line in block.splitlines() if line.strip().startswith('"') and "# " not in line
    ]
    assert bare == []
