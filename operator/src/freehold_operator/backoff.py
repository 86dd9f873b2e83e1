"""How long a worker that failed waits for its successor: 10 s, and twice as long with each failure.

The count stands in an annotation of each pod, so that an operator that starts anew goes on where
the last one was; the pod that failed stays until it is replaced. Counted are failures of pods that
ran for less than ten minutes, in a row and of one place (group and ordinal), as a kubelet counts
those of a container. It begins anew when a pod has run for longer, when the group's template is
changed, for that may be the cure, and when the place was not wanted meanwhile.

Why a pod ended is not asked: one that was evicted because it fills its disk, or whose program ends
with code 0 at once, would be made again as often as one that crashes.
"""

from __future__ import annotations

from collections.abc import Iterable

from freehold_operator.supply import State, Worker

FIRST_S = 10.0
MOST_S = 300.0
"""Between a failure and the next try."""

STEADY_S = 600.0
"""A pod that ran for this long has not failed young: it is replaced at once."""


def _ended_at(worker: Worker) -> float:
    """When it ended; one that was refused by its machine has no containers that could say so."""
    pod = worker.pod
    return pod.finished if pod.finished is not None else pod.meta.created


def failures(worker: Worker) -> int:
    """Failures in a row of a worker's place, its own included if it has failed."""
    pod = worker.pod
    if worker.state is not State.ENDED:
        return pod.failures
    ended = _ended_at(worker)
    started = pod.started if pod.started is not None else ended
    return 0 if ended - started >= STEADY_S else pod.failures + 1


def retry_at(worker: Worker) -> float:
    """When an ended worker may be replaced."""
    count = failures(worker)
    delay_s = min(MOST_S, FIRST_S * 2.0 ** min(count - 1, 16)) if count else 0.0
    return _ended_at(worker) + delay_s


def successor(before: Iterable[Worker], template_hash: str) -> tuple[float, int]:
    """When a place may be filled again, and the failures its next pod is to know of.

    Args:
        before: all pods of the place, none of them living.
        template_hash: of the pods that are made now.
    """
    last = max(before, key=lambda w: w.pod.attempt, default=None)
    if last is None or last.pod.template_hash != template_hash:
        return 0.0, 0
    return (retry_at(last) if last.state is State.ENDED else 0.0), failures(last)
