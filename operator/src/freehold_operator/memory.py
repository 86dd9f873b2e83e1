"""What the operator remembers of an object between passes. All of it may be lost at any time: it
only saves calls and spaces them out; what matters is in the API server.
"""

from __future__ import annotations

from freehold_operator.errors import ApiError
from freehold_operator.facts import HeadReport, Trouble
from freehold_operator.view import Refusal

REFUSED_FIRST_S = 2.0
REFUSED_MAX_S = 60.0
"""Between tries of what was refused. Quota may be freed by others, so it is not given up."""

INVALID_MAX_S = 300.0
"""The same for what is invalid until somebody changes it; a change of the spec is tried at once."""

ASKED_S = 10.0
"""For how long an accepted drain is believed before the head's report shows it."""

HEAD_CHECK_S = 30.0
"""Between tries whether a head's pod would be accepted."""


def trouble_of(error: ApiError) -> Trouble:
    """A refusal's reason in one word; the message stays the server's own."""
    text = error.message
    if "exceeded quota" in text:
        return Trouble("QuotaExceeded", text)
    if "violates PodSecurity" in text:
        return Trouble("PodSecurity", text)
    if "is being terminated" in text:
        return Trouble("NamespaceTerminating", text)
    return Trouble(error.reason if error.reason.isalnum() else "Refused", text)


class Memory:
    """Of one custom resource, as long as it has this UID."""

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.generation = 0
        self.refusals: dict[str, Refusal] = {}
        self.drains: dict[str, float] = {}
        self.asked: dict[str, float] = {}
        self.head_checked = 0.0
        self.has_secrets = False
        self.secrets_seen = 0.0
        self.status_written = 0.0
        self._refused: dict[str, int] = {}

    def see_generation(self, generation: int) -> None:
        """A changed spec deserves a new try of everything that was refused."""
        if generation != self.generation:
            self.generation = generation
            self.refusals.clear()
            self._refused.clear()
            self.head_checked = 0.0

    def refuse(self, key: str, error: ApiError, now: float) -> None:
        """Remember that a write was refused, and for how long it is let be."""
        count = self._refused.get(key, 0)
        self._refused[key] = count + 1
        most = INVALID_MAX_S if error.status == 422 else REFUSED_MAX_S
        delay_s = max(error.retry_after_s or 0.0, min(most, REFUSED_FIRST_S * 2 ** min(count, 16)))
        self.refusals[key] = Refusal(trouble=trouble_of(error), until=now + delay_s)

    def accept(self, key: str) -> None:
        """A write was accepted."""
        self.refusals.pop(key, None)
        self._refused.pop(key, None)

    def see_report(self, report: HeadReport | None, pods: dict[str, str], now: float) -> None:
        """Note when drains began.

        Args:
            pods: UIDs by name, of those that are there.
        """
        uids = set(pods.values())
        self.asked = {u: at for u, at in self.asked.items() if u in uids and now - at < ASKED_S}
        self.drains = {u: at for u, at in self.drains.items() if u in uids}
        if report is None:
            return
        states = {node.name: node.state for node in report.nodes if node.state != "DEAD"}
        for name, uid in pods.items():
            if states.get(name) == "DRAINING":
                self.drains.setdefault(uid, now)
            elif uid not in self.asked:
                self.drains.pop(uid, None)
