"""docs/invariants.md lists exactly the invariants that the code checks."""

from __future__ import annotations

import re

from tests.tidy.tree import python_files, text

ID = re.compile(r"\b(?:OWN|SCH|STO|ALC|ACT|MEM|FEN|JOB|DRN|SIM)-\d+\b")
LISTED = re.compile(rf"^\| ({ID.pattern}) \|", re.MULTILINE)
PAGE = "docs/invariants.md"


def test_page_and_code_name_the_same_invariants() -> None:
    places = python_files("runtime/src/freehold/_core/", "tests/simulation/")
    in_code = {found for name in places for found in ID.findall(text(name))}
    listed = LISTED.findall(text(PAGE))
    assert len(listed) == len(set(listed)), "an invariant is listed twice"
    assert len(listed) > 20, "the table of the page was not found"
    # SIM-1 … SIM-5 are written as a range where they are judged.
    code_only = in_code - set(listed)
    page_only = {x for x in listed if x not in in_code and not x.startswith("SIM-")}
    assert not code_only, f"not in {PAGE}: {sorted(code_only)}"
    assert not page_only, f"only in {PAGE}: {sorted(page_only)}"
