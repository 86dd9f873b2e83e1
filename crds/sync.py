"""Carries the CRDs on to what is made from them; run by `make chart`, checked by tests/charts.

From FuturesCluster its spec goes into FuturesJob's clusterTemplate, and from both the files of the
chart. What is copied is text, so that comments and line breaks stay. The reference page and the
table in the chart's README are made along.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from charts.readme import readme
from crds.reference import page

ROOT = Path(__file__).resolve().parents[1]
CRDS = ROOT / "crds"
CLUSTER = CRDS / "futuresclusters.freehold.dev.yaml"
JOB = CRDS / "futuresjobs.freehold.dev.yaml"
CHART = ROOT / "charts" / "freehold"
PAGE = ROOT / "docs" / "kubernetes" / "reference.md"

BEGIN_SPEC, END_SPEC = "# begin spec", "# end spec"
BEGIN_CLUSTER_ONLY, END_CLUSTER_ONLY = "# cluster only", "# end"
BEGIN_COPY, END_COPY = "# begin copy of FuturesCluster's spec", "# end copy"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _find(lines: list[str], marker: str) -> int:
    found = [number for number, line in enumerate(lines) if line.strip() == marker]
    if len(found) != 1:
        raise ValueError(f"{len(found)} lines say {marker!r}: there has to be one")
    return found[0]


def template_spec(cluster: str) -> list[str]:
    """FuturesCluster's spec as a template has it: without rules about changes, from column 0."""
    lines = cluster.splitlines()
    begin, end = _find(lines, BEGIN_SPEC), _find(lines, END_SPEC)
    found: list[str] = []
    skipping = False
    for line in lines[begin + 1 : end]:
        if line.strip() == BEGIN_CLUSTER_ONLY:
            skipping = True
        elif line.strip() == END_CLUSTER_ONLY:
            skipping = False
        elif not skipping:
            found.append(line[_indent(lines[begin]) :])
    return found


def job_with_template(job: str, cluster: str) -> str:
    """FuturesJob with the copy between its two marks made anew."""
    lines = job.splitlines()
    begin, end = _find(lines, BEGIN_COPY), _find(lines, END_COPY)
    margin = " " * _indent(lines[begin])
    copy = [margin + line if line else line for line in template_spec(cluster)]
    return "\n".join([*lines[: begin + 1], *copy, *lines[end:]]) + "\n"


def wanted() -> dict[Path, str]:
    """Every file that is made here, with the text it should have."""
    cluster = CLUSTER.read_text()
    job = job_with_template(JOB.read_text(), cluster)
    copies = CHART / "files" / "crds"
    return {
        JOB: job,
        copies / CLUSTER.name: cluster,
        copies / JOB.name: job,
        PAGE: page([CLUSTER, JOB]),
        CHART / "README.md": readme(CHART),
    }


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
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return 1 if check and stale else 0


if __name__ == "__main__":
    raise SystemExit(main())
