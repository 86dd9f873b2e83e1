"""Whether the operator is well: its watches tell what lists show, and the API server answers.

A watch that died silently is the failure that an event loop's own pulse does not show. So for each
watched kind, an object whose listed version the *watch* has not told within a minute makes the
operator ill, and the kubelet starts it anew, even though lists have put the cache right meanwhile.
Objects that are gone do not count: after a broken watch was begun anew nobody tells of them.

An API server that does not answer makes it not ready, but not ill: a restart would change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

from freehold_operator.cache import Key, version_number
from freehold_operator.metrics import Metrics


class Liveness:
    """What watches have told, against what lists show."""

    def __init__(self, stale_s: float, metrics: Metrics) -> None:
        self._stale_s = stale_s
        self._metrics = metrics
        self._told: dict[str, dict[Key, int]] = {}
        self._behind: dict[str, dict[Key, tuple[int, float]]] = {}
        self._lag_s: dict[str, float] = {}
        self.is_reachable = False

    def note_success(self, now: float) -> None:
        """The API server answered."""
        self.is_reachable = True

    def note_failure(self) -> None:
        """It did not. What is not known cannot be held against a watch."""
        self.is_reachable = False
        self._behind.clear()
        self._lag_s.clear()

    def tell(self, kind: str, key: Key, version: str, *, is_gone: bool) -> None:
        """A watch told of an object."""
        told = self._told.setdefault(kind, {})
        if is_gone:
            told.pop(key, None)
        else:
            told[key] = max(version_number(version), told.get(key, 0))

    def compare(self, kind: str, listed: Mapping[Key, tuple[str, int]], now: float) -> None:
        """A list succeeded."""
        self.is_reachable = True
        told = self._told.setdefault(kind, {})
        before = self._behind.get(kind, {})
        behind: dict[Key, tuple[int, float]] = {}
        for key, (_, version) in listed.items():
            told_version = told.get(key, 0)
            if told_version >= version:
                continue
            missed, since = before.get(key, (version, now))
            # Still waiting for the version first missed, or for a later one after that was told.
            behind[key] = (missed, since) if told_version < missed else (version, now)
        self._behind[kind] = behind
        self._lag_s[kind] = max((now - since for _, since in behind.values()), default=0.0)
        self._metrics.watch_lag.labels(kind).set(self._lag_s[kind])
        for key in told.keys() - listed.keys():
            del told[key]  # gone without the watch's word; versions of a new one are higher

    def illness(self) -> str:
        """Why the operator should be started anew; empty if it should not."""
        for kind, lag_s in sorted(self._lag_s.items()):
            if lag_s > self._stale_s:
                return f"the watch of {kind} is {lag_s:.0f} s behind a list"
        return ""
