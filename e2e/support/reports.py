"""What tests that need Kubernetes do with pytest's reports, in `tests/api` and `e2e` alike."""

from __future__ import annotations

import pytest


def refuse_skip(report: pytest.TestReport) -> None:
    """Make a skipped test a failed one: what cannot run here proves nothing here.

    A run without Kubernetes leaves these tests out as a whole, and says so by name.
    """
    if report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which no test of this tier may be: {report.longrepr}"
