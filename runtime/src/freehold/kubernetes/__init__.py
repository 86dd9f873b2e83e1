"""Clusters and jobs on Kubernetes from Python: the objects of the operator, without YAML.

>>> from freehold.kubernetes import FuturesCluster, FuturesJob  # doctest: +SKIP
>>> with FuturesCluster("small", workers=2) as cluster:         # doctest: +SKIP
...     print(FuturesJob.submit("train.py", "--all", cluster=cluster).result(logs=True))

Nothing here talks to a cluster's own processes: all goes through the API server, with the rights of
whoever runs it, and the operator does the work. So a program on a laptop can make a cluster and
submit jobs to it, but `freehold.init` attaches to one from within Kubernetes only.

Needs the packages of the extra `kubernetes`. docs/kubernetes has the pages.
"""

from __future__ import annotations

from freehold.kubernetes._cluster import FuturesCluster
from freehold.kubernetes._job import FuturesJob
from freehold.kubernetes._reasons import JobStatus

__all__ = ["FuturesCluster", "FuturesJob", "JobStatus"]
