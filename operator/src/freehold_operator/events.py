"""Events about the custom resources, few: at most one per object and reason in five minutes."""

from __future__ import annotations

import logging
from typing import Any

from freehold_operator import kinds, names
from freehold_operator.actions import Tell
from freehold_operator.errors import ApiError
from freehold_operator.kube import Kube
from freehold_operator.model import Meta
from freehold_operator.quantity import format_time

QUIET_S = 300.0
NOTE_MAX = 1000
"""Characters; the API server allows 1,024 bytes."""

_log = logging.getLogger(__name__)


class Events:
    """Writes Events and remembers which it has written."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._told: dict[tuple[str, str], float] = {}

    def is_due(self, uid: str, reason: str, now: float) -> bool:
        """Whether an Event may be written, which from then on counts as written."""
        self._told = {key: at for key, at in self._told.items() if now - at < QUIET_S}
        if (uid, reason) in self._told:
            return False
        self._told[(uid, reason)] = now
        return True

    async def tell(self, kind: str, meta: Meta, action: Tell, now: float) -> None:
        """Write one; a failure is logged and forgotten, as nothing depends on an Event."""
        if not self.is_due(meta.uid, action.reason, now):
            return
        try:
            await self._kube.create(kinds.EVENT, self._manifest(kind, meta, action, now))
        except ApiError as error:
            _log.debug("event not written: %s", error)

    @staticmethod
    def _manifest(kind: str, meta: Meta, action: Tell, now: float) -> dict[str, Any]:
        unique = names.content_hash([meta.uid, action.reason, int(now * 1000)])
        micro = format_time(now).removesuffix("Z") + f".{int(now % 1 * 1e6):06d}Z"
        return {
            "apiVersion": kinds.EVENT.api_version,
            "kind": "Event",
            "metadata": {"name": f"{meta.name}.{unique}", "namespace": meta.namespace},
            "eventTime": micro,
            "type": "Warning" if action.is_warning else "Normal",
            "reason": action.reason[:128],
            "action": "Reconcile",
            "note": action.message[:NOTE_MAX],
            "reportingController": f"{names.GROUP}/operator",
            "reportingInstance": names.FIELD_MANAGER,
            "regarding": {
                "apiVersion": names.API_VERSION,
                "kind": kind,
                "name": meta.name,
                "namespace": meta.namespace,
                "uid": meta.uid,
            },
        }
