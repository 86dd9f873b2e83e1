"""How a worker that runs tasks ends by itself: after `max_calls`, or `sys.exit()` in one.

From the moment that it *leaves* it starts nothing more and gives back what it is sent. When it has
answered all that it began it says so, to the owner that has leased it (`TasksReturned.is_leaving`)
and to its node manager (`ExitProcess`), and stays until the latter says that no lease is left that
could use it, and what it owns has been handed over (`_core.ownership.handoff`). Were it to end
before, an owner could not tell a task that was never begun from one that crashed.

Place in the flow: the worker's service asks here before it takes anything and after each answer.
A worker whose task will not stop (cancelled by force, past its `timeout_s`) leaves the same way and
does not wait for that task. How actors end is not here: nobody leases them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._core.limits import HANDOFF_PATIENCE_S

if TYPE_CHECKING:
    from freehold._processes.owner.cluster import ClusterCore

_LEASE_ROUNDS = 6
_NEEDED_AGAIN_S = 0.1
"""How often a worker that leaves looks whether somebody still needs what it owns."""


class Leaving:
    """Whether a worker leaves, and how far it is.

    Args:
        end: ends the worker; called under the lock.
    """

    def __init__(self, core: ClusterCore, end: Callable[[], None]) -> None:
        self._core = core
        self._end = end
        self.reason = ""
        """Why it starts no task any more, if it leaves."""
        self.has_announced = False
        self.keeper: Address | None = None
        """Who is to own from now on what this process owns, if its node drains."""
        self.heir: Address | None = None
        """Who does."""
        self._rounds = 0
        self._must_wait = 0
        """Rounds until word of leases given back has come to all nodes, before that of our end."""
        self._lessee: Address | None = None
        self._unanswered = 0

    def leave(self, reason: str) -> None:
        """Start nothing from now on; `announce` follows the answer of the task that said so."""
        self.reason = self.reason or reason

    # ---- under the lock ------------------------------------------------------------------------

    def leased_to(self, owner: Address) -> None:
        """An owner has the lease; it may not know yet that there is nothing to be had from it."""
        self._lessee = owner
        if self.has_announced:
            self._core.owner.outbox.send(owner, m.TasksReturned([], True), True)

    def give_back(self, source: Address, key: int) -> None:
        """A task came too late."""
        returned = m.TasksReturned([key], self.has_announced)
        self._core.owner.outbox.send(source, returned, True)

    def answer_waits(self) -> None:
        """A task has ended, and its answer waits until its references are registered."""
        self._unanswered += 1

    def answered(self) -> None:
        """The answer that had to wait was sent."""
        self._unanswered -= 1
        if self.reason:
            self.announce()

    def announce(self) -> None:
        """Say that nothing will begin here any more; once, after the last answer.

        Whoever has the lease concludes that what it has in flight here has not begun.
        """
        if self.has_announced or self._unanswered:
            return
        self.has_announced = True
        outbox = self._core.owner.outbox
        if self._lessee is not None:
            outbox.send(self._lessee, m.TasksReturned([], True), True)
        outbox.ask_node(m.ExitProcess(self.reason))

    def end_when_not_needed(self) -> None:
        """End once nobody relies on this process: what it owns is handed over meanwhile.

        Who borrowed it and does not turn to the new owner, being stopped, is not waited for.
        """
        handoff = self._core.owner.handoff
        heir = handoff.find_heir([self.keeper, self._lessee]) if handoff.is_needed else None
        if heir is not None:
            if heir != self.heir:
                self.heir = heir
                self._core.owner.outbox.ask_node(m.HeirNamed(heir))
            handoff.hand_over(heir)
        if self._core.owner.leasing.return_all_idle(time.monotonic()):
            self._must_wait = _LEASE_ROUNDS
        self._must_wait = max(0, self._must_wait - 1)
        self._rounds = 0 if handoff.is_giving else self._rounds + 1
        is_over = self._rounds * _NEEDED_AGAIN_S > HANDOFF_PATIENCE_S
        if (not handoff.is_needed or is_over) and not self._must_wait:
            self._end()
        else:
            self._core.reactor.call_later(_NEEDED_AGAIN_S, self.end_when_not_needed)
