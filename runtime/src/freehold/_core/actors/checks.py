"""The directory's invariants: reads its tables, changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold._core.actors.rows import LIVING
from freehold._core.ids import Address
from freehold._core.invariants import check

if TYPE_CHECKING:
    from freehold._core.actors.directory import ActorDirectory

DEAD_ACTORS = 1_000
"""Dead actors remembered, so that a late call learns why; the oldest is forgotten first."""


def check_directory(directory: ActorDirectory) -> None:
    """Compare the tables with each other.

    ACT-1: a name leads to the one actor that has it and is not dead.
    ACT-2: an actor has an address exactly while it is alive, and is then placed.
    ACT-3: an actor that is not dead is placed on a node or waits for one; it is underway exactly
    while it is placed and not alive, unless it was killed there.
    ACT-4: owners and watchers are found by address exactly as the actors know them.
    ACT-5: no actor is restarted more often than it may be, moves not counted.
    ACT-6: the dead are bounded in number and not among the living.

    Raises:
        InvariantError: one of them does not hold.
    """
    rows = directory.rows
    named = {row.name: actor for actor, row in rows.items() if row.name is not None}
    check(named == directory.named, "ACT-1", f"names are {directory.named}, should be {named}")
    owned: dict[Address, dict[bytes, None]] = {}
    watched: dict[Address, dict[bytes, None]] = {}
    for actor, row in rows.items():
        who = f"actor {actor.hex()}"
        alive = row.state in LIVING
        check((row.address is not None) == alive, "ACT-2", f"{who} at {row.address}")
        check(bool(row.placed_on) or not alive, "ACT-2", f"{who} lives nowhere")
        waits = actor in directory.unplaced
        check(waits != bool(row.placed_on), "ACT-3", f"{who} is on {row.placed_on!r}")
        most = row.spec.options.max_restarts
        underway = bool(row.placed_on) and not alive and not row.is_ending
        check((actor in directory.underway) == underway, "ACT-3", f"{who} is {row.state}")
        spent = row.restart - row.moves
        check(most < 0 or spent <= most, "ACT-5", f"{who}: restart {row.restart}")
        check(actor not in directory.dead, "ACT-6", f"{who} is {row.state} and dead")
        if not row.is_orphan:
            owned.setdefault(row.spec.owner.address, {})[actor] = None
        for address in row.watchers:
            watched.setdefault(address, {})[actor] = None
    check(owned == directory.owned, "ACT-4", "the index of owners is wrong")
    check(watched == directory.watched, "ACT-4", "the index of watchers is wrong")
    check(len(directory.dead) <= DEAD_ACTORS, "ACT-6", f"{len(directory.dead)} dead are kept")
