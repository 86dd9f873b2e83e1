"""Files are named for what they do, and no folder shadows the standard library."""

from __future__ import annotations

from pathlib import PurePosixPath

from tests.tidy import tree

EMPTY_NAMES = {"utils.py", "helpers.py", "common.py", "manager.py", "misc.py"}
# `operator` beside the standard library's `operator`: a package at this level would shadow it.
PLAIN_FOLDERS = ("runtime", "runtime/src", "operator", "operator/src")


def test_no_file_has_a_name_that_says_nothing() -> None:
    found = [n for n in tree.tracked_files() if PurePosixPath(n).name in EMPTY_NAMES]
    assert found == []


def test_top_folders_are_not_packages() -> None:
    found = [folder for folder in PLAIN_FOLDERS if (tree.ROOT / folder / "__init__.py").exists()]
    assert found == []


def test_every_source_folder_is_a_package() -> None:
    """import-linter does not see a folder without `__init__.py`: its layers would go unchecked."""
    folders = {str(PurePosixPath(n).parent) for n in tree.source_files()}
    found = sorted(f for f in folders if not (tree.ROOT / f / "__init__.py").exists())
    assert found == []
