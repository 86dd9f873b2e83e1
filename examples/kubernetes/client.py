"""A cluster for as long as this program needs it, and a function that runs on it.

Estimates pi on two workers. Needs the operator (helm install), a kubeconfig, and on this machine
`pip install kubernetes` beside Freehold, under the Python version of the image:

    python examples/kubernetes/client.py
"""

from __future__ import annotations

import random

import freehold
from freehold.kubernetes import FuturesCluster, FuturesJob

POINTS = 1_000_000


@freehold.remote
def inside(seed: int) -> int:
    """How many of the points in a square fall into the circle."""
    draw = random.Random(seed)
    return sum(draw.random() ** 2 + draw.random() ** 2 < 1 for _ in range(POINTS))


def pi(tasks: int) -> float:
    """Runs in the job's driver, which is attached to the cluster."""
    counts = freehold.get([inside.remote(seed) for seed in range(tasks)])
    print("points:", tasks * POINTS, flush=True)
    return 4 * sum(counts) / (tasks * POINTS)


if __name__ == "__main__":
    with FuturesCluster("pi", workers=2) as cluster:
        job = FuturesJob.submit(pi, 8, cluster=cluster)
        print("pi is about", job.result(logs=True))
