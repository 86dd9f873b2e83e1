"""The directory after a restart of the control service: what was kept, and what nodes say then.

Place in the flow: `restore` comes first of all events. Then each node that joins says what lives on
it (`NodeReturned`), and rows and nodes are made to agree. Nothing was sent while the control
service was away, and what it sent before either arrived before the node said what it has, or never
will; so a placement that the node does not name is not there, and naming is all it takes to know
that no second process of one placement can exist.

- Placed there and not alive, the node does not name it: the placement never arrived, and is made
  again as the same restart. The node says that it has started: alive.
- Alive, the node does not name it: its process ended while nobody listened; restarted, or dead.
- Moving since its node drains, the node names it: it is asked to move again. It does not, and has
  not reported that it left: as if it had been alive.
- Killed there to be restarted, the node names it: the kill is said again. It does not: restarted.
- Dead, elsewhere, of another restart, or unknown, the node names it: that process is ended.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from freehold._core.actors import events as ev
from freehold._core.actors.placing import room_of
from freehold._core.actors.rows import DEAD, LIVING, MOVING, Row, row_of
from freehold._core.limits import RETURN_S
from freehold._core.messages import ActorStarted, ActorState, ExitCause, LivingActor

if TYPE_CHECKING:
    from freehold._core.actors.directory import ActorDirectory

AWAY = "it ended while the head was away"


def restore(directory: ActorDirectory, event: ev.Restored) -> None:
    """Take over what an earlier directory kept; its nodes have yet to come back."""
    living = {(info.node, info.incarnation) for info in event.nodes if info.is_alive}
    for info in event.nodes:
        if info.is_alive:
            # What only such a node can run waits for it, and is not infeasible.
            directory.lost[info.node] = (room_of(info), directory.now + RETURN_S)
            directory.away[info.node] = None
    directory.groups = event.groups
    directory.dead.update((state.info.actor, state) for state in event.dead)
    for spec, life in event.actors:
        row = row_of(spec, life)
        directory.rows[spec.actor] = row
        if row.name is not None:
            directory.named[row.name] = spec.actor
        if not row.is_orphan:
            directory.owned.setdefault(spec.owner.address, {})[spec.actor] = None
        if not row.placed_on:
            directory.unplaced[spec.actor] = None
        elif row.state not in LIVING and not row.is_ending:
            directory.underway[spec.actor] = None
    # A node's death may have been kept, and what follows from it not.
    for row in list(directory.rows.values()):
        if row.placed_on and (row.placed_on, row.incarnation) not in living:
            reason = f"node {row.placed_on[:8]} died"
            cause = ExitCause(reason=reason, node=row.placed_on)
            directory.leave_node(row)
            directory.restart_row(row, reason, cause)
    gone = [a for a in directory.owned if (a.node, a.incarnation) not in living]
    directory.forget(gone, "its node died")


def node_returned(directory: ActorDirectory, event: ev.NodeReturned) -> None:
    """A node joined: make the rows and what lives there agree."""
    directory.away.pop(event.node, None)
    place = (event.node, event.incarnation)
    rows = [
        (row, row.restart)
        for row in directory.rows.values()
        if (row.placed_on, row.incarnation) == place
    ]
    for report in event.reports:
        directory.report(event.node, report)
    there = {(living.actor, living.restart): living for living in event.actors}
    for row, restart in rows:
        living = there.pop((row.spec.actor, restart), None)
        # What the reports said may have moved it: then its placement is a new one.
        if (row.placed_on, row.incarnation, row.restart, row.state == DEAD) == (
            *place,
            restart,
            False,
        ):
            _agree(directory, row, living)
        elif living is not None and row.state == DEAD:
            directory.unplace_stale(event.node, row.spec.actor, restart)
    for actor, restart in there:
        directory.unplace_stale(event.node, actor, restart)
    for gone in event.gone:
        directory.process_gone(gone)
    alive = set(event.processes)
    directory.forget(
        [
            address
            for address in {**directory.owned, **directory.watched}
            if (address.node, address.incarnation) == place and address.process not in alive
        ],
        AWAY,
    )
    # What was told of their actors since then may be lost, and owners do not watch.
    for address, actors in directory.owned.items():
        if (address.node, address.incarnation) == place:
            for actor in actors:
                directory.tell(address, ActorState(directory.rows[actor].info()))
    for state in directory.dead.values():
        address = state.info.owner.address
        if (address.node, address.incarnation) == place and address.process in alive:
            directory.tell(address, state)


def _agree(directory: ActorDirectory, row: Row, living: LivingActor | None) -> None:
    if living is None:
        node = row.placed_on
        directory.leave_node(row)
        if row.is_ending:
            directory.restart_row(row, row.reason, row.cause)
        elif row.state in LIVING:
            directory.restart_row(row, AWAY, ExitCause(reason=AWAY, node=node))
        else:
            directory.place(row)
    elif row.is_ending:
        directory.unplace(row, 0.0, row.reason)
    elif row.state == MOVING:
        directory.ask_to_move(row)
    elif living.address is not None and row.state not in LIVING:
        directory.started(ActorStarted(living.actor, living.restart, living.address))
