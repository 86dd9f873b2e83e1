"""The images' parts of the lock, and what their Dockerfiles have in common."""

from __future__ import annotations

import pytest
from crds.sync import ROOT
from images import lock

NAMES = ("runtime", "operator")


def dockerfile(name: str) -> str:
    return (ROOT / "images" / name / "Dockerfile").read_text()


def test_the_parts_of_the_lock_are_fresh() -> None:
    stale = [
        str(path.relative_to(ROOT))
        for path, text in lock.wanted().items()
        if not path.exists() or path.read_text() != text
    ]
    assert stale == [], "run `.venv/bin/python images/lock.py`"


def test_a_part_has_what_its_image_imports_and_not_what_it_does_not() -> None:
    parts = {path.parent.name: set(lock.entries(text)) for path, text in lock.wanted().items()}
    assert {"msgspec", "grpcio", "cryptography", "numpy", "pyarrow", "cffi"} <= parts["runtime"]
    assert {"kopf", "kubernetes", "grpcio", "cryptography", "aiohttp"} <= parts["operator"]
    assert not parts["runtime"] & {"kubernetes", "kopf", "pytest", "hatchling"}
    assert not parts["operator"] & {"numpy", "pyarrow", "pytest", "hatchling"}
    assert "hatchling" in parts["images"]
    assert len(parts["images"]) < 10


def test_an_entry_is_taken_with_its_hashes() -> None:
    found = lock.entries("# x\na-b==1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:01\nc==2\n")
    assert found == {
        "a-b": "a-b==1 \\\n    --hash=sha256:00 \\\n    --hash=sha256:01\n",
        "c": "c==2\n",
    }


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_what_a_restricted_namespace_takes(name: str) -> None:
    text = dockerfile(name)
    assert "\nUSER 65532:65532\n" in text
    assert "ARG BASE_IMAGE=python:3.11-slim-bookworm" in text
    assert text.count("--require-hashes") == 2
    # Process 1 is the program, not a shell that keeps signals from it.
    assert '\nENTRYPOINT ["freehold' in text


@pytest.mark.parametrize("name", NAMES)
def test_both_images_begin_alike(name: str) -> None:
    """So that they share their first layers."""
    assert shared(name) == shared("runtime")


def shared(name: str) -> str:
    text = dockerfile(name)
    return text[text.index("ARG BASE_IMAGE") : text.index("# The environment of the image")]
