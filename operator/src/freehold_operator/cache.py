"""What the operator knows of the API server's objects: told by watches, put right by lists.

An object's resource version says which of two tellings is newer, so events, lists and the answers
to own writes may come in any order. Own writes go in at once, which is what other operators call
expectations: a slow watch makes nothing happen twice. A list that began before a write does not
    take it back, as the object is newer than the list; a later list that lacks it does, so that
    nothing is expected for ever. What was deleted is, by its UID and for a minute, not believed to
    be back by an event that was under way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from freehold_operator import names
from freehold_operator.kinds import HasMeta, Kind
from freehold_operator.model import Meta

EXPECTATION_S = 60.0
"""How long a deletion is remembered against events that were under way."""

Key = tuple[str, str]
"""Namespace and name."""


def version_number(text: str) -> int:
    """A resource version to compare; one that is no number is older than any."""
    return int(text) if text.isdigit() else 0


class Cache:
    """All watched objects, by kind, and pods and the like by the cluster or job they belong to."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Any]] = {}
        self._by_owner: dict[tuple[str, str, str, str], dict[str, Any]] = {}
        self._gone: dict[str, float] = {}
        self._listed: set[str] = set()

    def has_listed(self, kinds: Iterable[Kind]) -> bool:
        """Whether all of these kinds were listed once."""
        return all(kind.name in self._listed for kind in kinds)

    def get(self, kind: Kind, namespace: str, name: str) -> Any:
        """One object's facts, or None."""
        return self._objects.get(kind.name, {}).get((namespace, name))

    def all(self, kind: Kind) -> list[Any]:
        """All facts of a kind, in no order."""
        return list(self._objects.get(kind.name, {}).values())

    def of(self, kind: Kind, label: str, namespace: str, value: str) -> tuple[Any, ...]:
        """The facts of a kind that carry a label, the cluster's or the job's, by name."""
        found = self._by_owner.get((kind.name, label, namespace, value), {})
        return tuple(found[name] for name in sorted(found))

    def versions(self, kind: Kind) -> dict[Key, tuple[str, int]]:
        """UID and resource version of each object."""
        return {
            key: (facts.meta.uid, version_number(facts.meta.resource_version))
            for key, facts in self._objects.get(kind.name, {}).items()
        }

    def put(self, kind: Kind, body: Mapping[str, Any], now: float) -> bool:
        """Take an object as it is now; whether that was news."""
        assert kind.parse is not None
        metadata = body.get("metadata") or {}
        key = (metadata.get("namespace", ""), metadata.get("name", ""))
        uid, version = metadata.get("uid", ""), version_number(metadata.get("resourceVersion", ""))
        known = self._objects.get(kind.name, {}).get(key)
        if self._gone.get(uid, 0.0) > now:
            return False
        if known is not None and known.meta.uid == uid:
            if version_number(known.meta.resource_version) >= version:
                return False
        elif known is not None and version_number(known.meta.resource_version) > version:
            return False  # of an earlier object of this name
        self._store(kind, key, kind.parse(body))
        return True

    def remove(self, kind: Kind, key: Key, uid: str, now: float, *, is_sure: bool = True) -> bool:
        """An object is gone; whether it was known.

        Args:
            is_sure: it was seen to go. Where a call merely did not find it, a later list may bring
                it back.
        """
        if is_sure:
            self._gone[uid] = now + EXPECTATION_S
        known = self._objects.get(kind.name, {}).get(key)
        if known is None or known.meta.uid != uid:
            return False
        self._drop(kind, key)
        return True

    def replace(
        self,
        kind: Kind,
        namespace: str | None,
        bodies: Iterable[Mapping[str, Any]],
        version: str,
        now: float,
    ) -> set[Key]:
        """A whole list takes the cache's place; the keys that changed.

        Args:
            namespace: that was listed; None for all.
            version: of the list: objects that are newer are not taken back by it.
        """
        at = version_number(version)
        changed: set[Key] = set()
        listed: set[Key] = set()
        for body in bodies:
            metadata = body["metadata"]
            key = (metadata.get("namespace", ""), metadata["name"])
            listed.add(key)
            if self.put(kind, body, now):
                changed.add(key)
        for key, facts in list(self._objects.get(kind.name, {}).items()):
            if key in listed or (namespace is not None and key[0] != namespace):
                continue
            if version_number(facts.meta.resource_version) > at:
                continue
            self._drop(kind, key)
            changed.add(key)
        self._gone = {uid: until for uid, until in self._gone.items() if until > now}
        return changed

    def mark_listed(self, kind: Kind) -> None:
        """A kind was listed in all namespaces that are looked after."""
        self._listed.add(kind.name)

    def _indices(self, kind: Kind, meta: Meta) -> list[tuple[str, str, str, str]]:
        labels = (names.LABEL_CLUSTER, names.LABEL_JOB)
        return [
            (kind.name, label, meta.namespace, meta.labels[label])
            for label in labels
            if label in meta.labels
        ]

    def _store(self, kind: Kind, key: Key, facts: HasMeta) -> None:
        objects = self._objects.setdefault(kind.name, {})
        if key in objects:
            self._drop(kind, key)
        objects[key] = facts
        for index in self._indices(kind, facts.meta):
            self._by_owner.setdefault(index, {})[key[1]] = facts

    def _drop(self, kind: Kind, key: Key) -> None:
        facts = self._objects[kind.name].pop(key)
        for index in self._indices(kind, facts.meta):
            members = self._by_owner[index]
            members.pop(key[1], None)
            if not members:
                del self._by_owner[index]
