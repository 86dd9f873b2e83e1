"""The environment is touched in `settings.py` alone: every setting has one place and a reason."""

from __future__ import annotations

import ast
from pathlib import PurePosixPath

from tests.tidy import exemptions, tree

TOUCHING = {"os.environ", "os.environb", "os.getenv", "os.getenvb", "os.putenv", "os.unsetenv"}


def touches_environment(name: str) -> bool:
    for node in ast.walk(tree.syntax(name)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) in TOUCHING:
            return True
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            if names & TOUCHING:
                return True
    return False


def test_only_settings_touch_the_environment() -> None:
    found = {
        name
        for name in tree.source_files()
        if PurePosixPath(name).name != "settings.py" and touches_environment(name)
    }
    assert sorted(found - set(exemptions.ENVIRONMENT)) == []
    assert set(exemptions.ENVIRONMENT) <= found, "an exemption is no longer needed"
