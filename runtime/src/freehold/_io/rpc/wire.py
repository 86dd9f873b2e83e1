"""Which messages pass between a node manager and the control service, and how a frame holds them.

A message that is in neither list cannot be sent between machines: adding one is a line here, its
mirror in `nodes.proto`, and `make proto`.
"""

from __future__ import annotations

import msgspec

from freehold._core import messages as m
from freehold._io.rpc import convert
from freehold._proto import nodes_pb2

FROM_NODE: tuple[type[m.Message], ...] = (
    m.NodeJoined,
    m.NodeReported,
    m.FromProcess,
    m.ActorStarted,
    m.ActorEnded,
    m.PlacementFailed,
    m.ProcessGone,
    m.ShutDown,
    m.Heartbeat,
    m.DrainAnswered,
    m.DriverAttached,
    m.ActorLeft,
)
"""What a node manager says; `ShutDown`: it is about to end."""

TO_NODE: tuple[type[m.Message], ...] = (
    m.ClusterView,
    m.PlaceActor,
    m.UnplaceActor,
    m.ToProcess,
    m.ProcessDied,
    m.NodeDied,
    m.ShutDown,
    m.HeartbeatAnswered,
    m.Fenced,
    m.DeadNodes,
    m.DrainNode,
    m.MoveActor,
)
"""What the control service says; `ShutDown`: end."""


class Messages:
    """One direction: packs messages into the `oneof kind` of its envelope, and takes them out."""

    def __init__(
        self,
        envelope: type[nodes_pb2.NodeMessage] | type[nodes_pb2.ControlMessage],
        kinds: tuple[type[m.Message], ...],
    ) -> None:
        self._envelope = envelope
        self._names: dict[type[msgspec.Struct], str] = {
            kind: convert.snake_case(kind.__name__) for kind in kinds
        }
        self._kinds = {name: kind for kind, name in self._names.items()}

    def pack(self, message: m.Message) -> nodes_pb2.NodeMessage | nodes_pb2.ControlMessage:
        """The envelope with a message in it.

        Raises:
            ValueError, TypeError: it does not fit, or is not one that goes this way.
        """
        name = self._names.get(type(message))
        if name is None:
            raise TypeError(f"a {type(message).__name__} does not go between machines")
        envelope = self._envelope()
        getattr(envelope, name).CopyFrom(convert.to_proto(message))
        return envelope

    def unpack(
        self, envelope: nodes_pb2.NodeMessage | nodes_pb2.ControlMessage
    ) -> m.Message | None:
        """The message in an envelope; None if it is of a kind that this version does not know.

        Raises:
            ProtocolError: it is malformed.
        """
        name = envelope.WhichOneof("kind")
        if name is None:
            return None
        message: m.Message = convert.from_proto(getattr(envelope, name), self._kinds[name])
        return message


from_node = Messages(nodes_pb2.NodeMessage, FROM_NODE)
to_node = Messages(nodes_pb2.ControlMessage, TO_NODE)
