"""The leak fixture itself is watched: it must see each kind of leak, and pass a clean test.

Each case is a small test file, run by a pytest of its own with the real conftest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.tidy import tree

LEAKS = {
    "process": "import subprocess; subprocess.Popen(['sleep', '600'])",
    "orphan": "import subprocess; subprocess.run(['sh', '-c', 'sleep 600 >/dev/null 2>&1 &'])",
    "descriptor": "import os; os.open('/etc/hostname', os.O_RDONLY)",
    "session": "import os; os.mkdir(os.path.join(os.environ['FREEHOLD_DIR'], 'deadbeef'))",
}
EXPECTED = {
    "process": "process ",
    "orphan": "process ",
    "descriptor": "file descriptor to /etc/hostname",
    "session": "session directory entry deadbeef",
}


def run_case(folder: Path, statement: str, header: str = "") -> str:
    """Run one test that executes a statement, with a short grace; the output of its pytest."""
    conftest = tree.text("tests/conftest.py").replace("LEAK_GRACE_S = 6.0", "LEAK_GRACE_S = 0.3")
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_case.py").write_text(f"{header}\ndef test_case():\n    {statement}\n")
    # ResourceWarning of the abandoned Popen is not what is looked at here.
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", "/dev/null"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    finished = subprocess.run(
        [*command, f"--rootdir={folder}", str(folder)],
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    return finished.stdout + finished.stderr


@pytest.mark.parametrize("kind", sorted(LEAKS))
def test_a_leak_fails_its_test(kind: str, tmp_path: Path) -> None:
    output = run_case(tmp_path, LEAKS[kind])
    assert "1 passed, 1 error" in output
    assert EXPECTED[kind] in output


def test_a_clean_test_passes(tmp_path: Path) -> None:
    assert "1 passed in" in run_case(tmp_path, "assert 1 + 1 == 2")


def test_a_module_with_a_shared_cluster_is_looked_at_once(tmp_path: Path) -> None:
    header = (
        "import os, pytest\n"
        "pytestmark = pytest.mark.module_cluster\n"
        "@pytest.fixture(scope='module', autouse=True)\n"
        "def shared():\n"
        "    yield\n"
        "    [os.close(fd) for fd in opened]\n"
        "opened = []\n"
    )
    statement = "opened.append(os.open('/etc/hostname', os.O_RDONLY))"
    assert "1 passed" in (clean := run_case(tmp_path, statement, header))
    assert "error" not in clean
