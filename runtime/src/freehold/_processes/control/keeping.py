"""What a control service keeps over its own restart, as records of its database.

Place in the flow: the machines say what to keep (`Keep…`, `Forget…`) before what tells of it; here
that becomes records of the `StateDb`, for which `Outgoing` waits. On one machine nothing is kept,
and this module is not imported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from freehold._core import messages as m
from freehold._core.actors import events as actor_events
from freehold._core.actors.events import ActorLife
from freehold._core.jobs import events as job_events
from freehold._core.jobs.events import JobRecord
from freehold._core.membership import events as member_events
from freehold._io.state_db import Record, StateDb
from freehold.errors import HeadStateError

_encode = msgspec.msgpack.encode

NODE, GROUPS, INCARNATION = "node", "groups", "incarnation"
SPEC, ACTOR, DEAD_ACTOR, JOB = "actor-spec", "actor", "actor-dead", "job"
CLUSTER = "cluster"
_ONE = b""
"""The key of what there is one of."""


class Saved(msgspec.Struct, kw_only=True):
    """All that was kept."""

    incarnation: int = 0
    nodes: list[m.NodeInfo] = []
    groups: list[m.NodeGroup] = []
    actors: list[tuple[m.ActorSpec, ActorLife]] = []
    dead_actors: list[m.ActorState] = []
    jobs: list[JobRecord] = []


def read_saved(db: StateDb, cluster: str) -> Saved:
    """What an earlier control service of this cluster kept.

    Raises:
        HeadStateError: it is another cluster's, or cannot be understood.
    """
    records = db.read()
    known = dict(records.get(CLUSTER, ())).get(_ONE)
    if known is not None and known.decode() != cluster:
        raise HeadStateError(
            path=db.path,
            reason=f"it is that of cluster {known.decode()}, not of {cluster}; name another folder",
        )
    if known is None:
        db.submit([Record(CLUSTER, _ONE, cluster.encode())])

    def values(kind: str, type_: Any) -> list[Any]:
        return [msgspec.msgpack.decode(value, type=type_) for _, value in records.get(kind, ())]

    try:
        lives = {
            key: msgspec.msgpack.decode(value, type=ActorLife)
            for key, value in records.get(ACTOR, ())
        }
        specs = {
            key: msgspec.msgpack.decode(value, type=m.ActorSpec)
            for key, value in records.get(SPEC, ())
        }
        return Saved(
            incarnation=next(iter(values(INCARNATION, int)), 0),
            nodes=values(NODE, m.NodeInfo),
            groups=next(iter(values(GROUPS, list[m.NodeGroup])), []),
            actors=[(specs[actor], life) for actor, life in lives.items() if actor in specs],
            dead_actors=values(DEAD_ACTOR, m.ActorState),
            jobs=values(JOB, JobRecord),
        )
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HeadStateError(
            path=db.path,
            reason=f"a record in it is not understood ({error}); start the head with the version "
            "that wrote it, or move the file away: then the head begins anew",
        ) from error


def records_of(effect: Any) -> list[Record]:
    """What an effect of a machine has kept; nothing for all other effects."""
    make = _MAKERS.get(type(effect))
    return make(effect) if make is not None else []


def _keep_actor(effect: actor_events.KeepActor) -> list[Record]:
    records = [Record(ACTOR, effect.actor, _encode(effect.life))]
    if effect.spec is not None:
        records.append(Record(SPEC, effect.actor, _encode(effect.spec)))
    return records


def _drop_actor(actor: bytes) -> list[Record]:
    return [Record(kind, actor, None) for kind in (ACTOR, SPEC, DEAD_ACTOR)]


def _keep_dead(effect: actor_events.KeepDead) -> list[Record]:
    dead = Record(DEAD_ACTOR, effect.actor, _encode(effect.state))
    return [*_drop_actor(effect.actor)[:2], dead]


def _job_key(job: str, attempt: int) -> bytes:
    return f"{job}/{attempt}".encode()


def _keep_job(effect: job_events.KeepJob) -> list[Record]:
    record = effect.record
    return [Record(JOB, _job_key(record.id, record.attempt), _encode(record))]


_MAKERS: dict[type, Callable[[Any], list[Record]]] = {
    member_events.KeepNode: lambda e: [Record(NODE, e.info.node.encode(), _encode(e.info))],
    member_events.ForgetNode: lambda e: [Record(NODE, e.node.encode(), None)],
    member_events.KeepGroups: lambda e: [Record(GROUPS, _ONE, _encode(e.groups))],
    member_events.KeepIncarnation: lambda e: [Record(INCARNATION, _ONE, _encode(e.incarnation))],
    actor_events.KeepActor: _keep_actor,
    actor_events.KeepDead: _keep_dead,
    actor_events.ForgetActor: lambda e: _drop_actor(e.actor),
    job_events.KeepJob: _keep_job,
    job_events.ForgetJob: lambda e: [Record(JOB, _job_key(e.id, e.attempt), None)],
}
