"""No tracked file names a machine, a registry or a secret; no note is left for later."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.tidy import tree

# Written with a class of one letter here and there, so that this file does not find itself.
MACHINE_PATHS = re.compile(
    r"/wor[k]/(main|shared|notes|\.library)|/roo[t]/|/hom[e]/[a-z]|/opt/whee[l]s"
)
REGISTRY_HOSTS = re.compile(
    r"pyp[i]\.org|pythonhoste[d]\.org|crate[s]\.io|registry\.npmj[s]|repo1?\.mave[n]|deb\.debia[n]|proxy\.golan[g]"
    r"|artifactor[y]|--(extra-)?index-ur[l]|--trusted-hos[t]|--find-link[s]"
)
SECRETS = re.compile(
    r"gh[pousr]_[A-Za-z0-9]{30,}|AKI[A][0-9A-Z]{16}|-----BEGI[N] [A-Z ]*PRIVATE KEY"
    r"|pyp[i]-[A-Za-z0-9_-]{40,}|xox[abp]-[0-9A-Za-z-]{10,}|\b[a-z]+://[^\s/:@\"'{}<>]+:[^\s/@\"'{}<>]+@"
)
LATER = re.compile(r"\b(TOD[O]|FIXM[E]|XX[X])\b")


def lines_matching(pattern: re.Pattern[str]) -> Iterator[str]:
    for name in tree.tracked_files():
        if name == "LICENSE":
            continue
        for number, line in enumerate(tree.text(name).splitlines(), 1):
            if pattern.search(line):
                yield f"{name}:{number}: {line.strip()[:120]}"


def test_the_patterns_find_what_they_are_for() -> None:
    """Guards the gates themselves: a pattern that cannot match would pass everything."""
    assert MACHINE_PATHS.search("see /" + "work/main/x")
    assert REGISTRY_HOSTS.search("https://pypi" + ".org/simple")
    assert SECRETS.search("https://user:" + "word@host/")
    assert LATER.search("# TO" + "DO: later")


def test_no_machine_path_is_committed() -> None:
    assert list(lines_matching(MACHINE_PATHS)) == []


def test_no_registry_host_is_committed() -> None:
    assert list(lines_matching(REGISTRY_HOSTS)) == []


def test_no_secret_is_committed() -> None:
    assert list(lines_matching(SECRETS)) == []


def test_no_note_for_later_is_committed() -> None:
    assert list(lines_matching(LATER)) == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [n for n in tree.python_files() if not ast.get_docstring(tree.syntax(n))]
    assert silent == []
