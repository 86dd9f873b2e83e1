"""The code on the pages runs: each page's blocks in order, in one namespace, as a reader would."""

from __future__ import annotations

import linecache
from itertools import groupby
from typing import Any

import pytest
from tests.docs.public import FENCE, Block, blocks

PAGES = {page: list(found) for page, found in groupby(blocks(), key=lambda block: block.page)}


def run_block(block: Block, namespace: dict[str, Any]) -> None:
    """Execute one block; tracebacks and `inspect` show the page's lines."""
    padded = "\n" * (block.line - 1) + block.code
    linecache.cache[block.page] = (len(padded), None, padded.splitlines(keepends=True), block.page)
    exec(compile(padded, block.page, "exec"), namespace)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_page(page: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    try:
        for block in PAGES[page]:
            run_block(block, namespace)
    finally:
        stop = getattr(namespace.get("freehold"), "shutdown", None)
        namespace.clear()
        if stop is not None:
            stop()


def test_fences_are_found() -> None:
    """Guards the search: a pattern that finds nothing would pass every page."""
    page = "text\n```python\nx = 1\n```\n```python no-run\ny = 2\n```\n```bash\nls\n```\n"
    assert [(m[1].strip(), m[2]) for m in FENCE.finditer(page)] == [
        ("", "x = 1\n"),
        ("no-run", "y = 2\n"),
    ]
