"""The part of requirements.lock that each image needs; run by `make lock`, checked by tests/charts.

There is one lock, and this takes from it, entry by entry with its hashes, what an extra of
pyproject.toml needs in turn. What needs what is read from the installed packages, so it runs in the
environment that the lock made, and asks no index.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
# Interpreters that an image may have, if its base is another than usual.
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def entries(lock: str) -> dict[str, str]:
    """The lock's entries with their hashes, by canonical name."""
    texts = re.findall(r"^[A-Za-z0-9][^\n]*==(?:[^\n]*\\\n)*[^\n]*\n", lock, re.MULTILINE)
    return {canonicalize_name(text.split("==")[0]): text for text in texts}


def _holds(requirement: Requirement, extras: Iterable[str]) -> bool:
    if requirement.marker is None:
        return True
    return any(
        requirement.marker.evaluate({"extra": extra, "python_version": version})
        for extra in ("", *extras)
        for version in PYTHONS
    )


def needed(lines: Iterable[str]) -> set[str]:
    """Canonical names of what requirements need, with all that those need in turn."""
    extras: dict[str, set[str]] = {}
    waiting = [Requirement(line) for line in lines]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in extras and requirement.extras <= extras[name]:
            continue
        wanted = extras.setdefault(name, set())
        wanted |= requirement.extras
        inner = map(Requirement, importlib.metadata.requires(name) or ())
        waiting += [one for one in inner if _holds(one, wanted)]
    return set(extras)


def wanted() -> dict[Path, str]:
    """Every file that is made here, with the text it should have."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    base, optional = project["project"]["dependencies"], project["project"]["optional-dependencies"]
    parts = {
        "runtime/requirements.lock": ([*base, *optional["data"]], "base and data"),
        "operator/requirements.lock": ([*base, *optional["operator"]], "base and operator"),
        "build.lock": (project["build-system"]["requires"], "the build backend"),
    }
    known = entries(LOCK.read_text())
    found = {}
    for name, (lines, what) in parts.items():
        head = f"# Made by `make lock`: the entries of requirements.lock for {what}.\n"
        body = "".join(known[one] for one in sorted(needed(lines)))
        found[ROOT / "images" / name] = head + body
    return found


def main() -> int:
    """Write what differs, or with --check only say so."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; 1 if a file differs")
    check = parser.parse_args().check
    stale = {
        path: text
        for path, text in wanted().items()
        if not path.exists() or path.read_text() != text
    }
    for path, text in stale.items():
        sys.stderr.write(f"{'stale' if check else 'written'}: {path.relative_to(ROOT)}\n")
        if not check:
            path.write_text(text)
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
