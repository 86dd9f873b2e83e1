"""What `start`, `stop`, `status` and `drain` share: where a cluster is, and how to be let in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from freehold._io.rpc.calls import ControlCalls
    from freehold._processes.node.record import NodeRecord
    from freehold._processes.node.settings import NodeSettings


def network_settings(**given: Any) -> NodeSettings:
    """The settings, of options and `FREEHOLD_*` variables."""
    return with_sources(given)[0]


def with_sources(given: dict[str, Any]) -> tuple[NodeSettings, dict[str, str]]:
    """The same, and where each came from."""
    from freehold._processes.node.settings import NodeSettings
    from freehold._processes.settings import resolve

    return resolve(NodeSettings, given)


def running(settings: NodeSettings) -> list[NodeRecord]:
    """The running nodes of this user on this machine."""
    from freehold._processes.node import record

    return record.find(settings)


@contextlib.contextmanager
def control_calls(address: str | None) -> Iterator[ControlCalls]:
    """A connection to a cluster's control service: of the address, or of this machine's node.

    Raises:
        ClusterUnreachableError, AuthenticationError, JoinRefusedError, SettingsError.
    """
    from freehold._processes.driver import joining

    settings = network_settings(address=address)
    with joining.connect(settings) as calls:
        yield calls
