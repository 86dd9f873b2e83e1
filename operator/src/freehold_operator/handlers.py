"""kopf's part: it watches, and hands each event on. Nothing is decided or written here.

Of kopf only `on.event` and `on.login` are used. Its daemons, timers and change handlers would put
annotations on objects, or finalizers that hang when the operator is gone. It keeps no index: the
cache has to be replaced by lists, which an index of kopf's cannot be.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator, Mapping
from typing import Any

import kopf

from freehold_operator import kinds
from freehold_operator.kinds import Kind
from freehold_operator.settings import Settings, in_cluster

RequestBackoffs = (0.2, 0.5, 1.0, 2.0)
BACKOFF_MAX_S = 5.0

Told = Callable[[Kind, str, Mapping[str, Any]], None]
"""Takes a kind, the event's type (none for what a watch begins with) and the object."""


class _Patience:
    """Delays between tries of a list or watch, without end: an outage must not end the operator."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain(RequestBackoffs, itertools.repeat(BACKOFF_MAX_S))


def _group_version(kind: Kind) -> tuple[str, str]:
    group, _, version = kind.api_version.rpartition("/")
    return group, version


def registry(told: Told) -> kopf.OperatorRegistry:
    """Handlers for every watched kind."""
    found = kopf.OperatorRegistry()
    for kind in kinds.WATCHED:
        _watch(found, kind, told)
    kopf.on.login(registry=found)(_login)
    return found


def _watch(found: kopf.OperatorRegistry, kind: Kind, told: Told) -> None:
    async def handle(event: Mapping[str, Any], **_: Any) -> None:
        told(kind, event.get("type") or "", event["object"])

    kopf.on.event(*_group_version(kind), kind.plural, registry=found, id=kind.plural)(handle)


async def _login(settings: kopf.OperatorSettings, **_: Any) -> kopf.ConnectionInfo | None:
    """The pod's account, or a kubeconfig. kopf's own way would import the client a second time."""
    if in_cluster():
        return kopf.login_with_service_account(settings=settings)
    return kopf.login_with_kubeconfig(settings=settings)


def run(settings: Settings, told: Told, ready: asyncio.Event) -> Coroutine[Any, Any, None]:
    """Watch until cancelled.

    Args:
        ready: set once the watches have begun. kopf takes the process's signals before that.
    """
    return kopf.operator(
        registry=registry(told),
        settings=operator_settings(settings),
        clusterwide=not settings.namespaces,
        namespaces=settings.namespaces,
        standalone=True,
        ready_flag=ready,
    )


def operator_settings(settings: Settings) -> kopf.OperatorSettings:
    """kopf's settings."""
    found = kopf.OperatorSettings()
    found.peering.standalone = True
    found.posting.enabled = False
    # With namespaces named there is no right to look at namespaces and CRDs.
    found.scanning.disabled = bool(settings.namespaces)
    found.watching.server_timeout = 300
    found.watching.inactivity_timeout = 70
    found.watching.connect_timeout = 10
    found.networking.request_timeout = settings.request_timeout_s
    found.networking.connect_timeout = 10
    found.networking.error_backoffs = _Patience()
    found.queueing.exit_timeout = 0.5
    for kind in kinds.WATCHED:
        if kind.selector:
            key = (*_group_version(kind), kind.plural)
            found.watching.label_selectors[key] = kind.selector
    return found
