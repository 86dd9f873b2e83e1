from . import control_pb2 as _control_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FromNode(_message.Message):
    __slots__ = ("proof", "renewal", "first", "received", "messages")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    RENEWAL_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    proof: Proof
    renewal: Renewal
    first: int
    received: int
    messages: _containers.RepeatedCompositeFieldContainer[NodeMessage]
    def __init__(self, proof: _Optional[_Union[Proof, _Mapping]] = ..., renewal: _Optional[_Union[Renewal, _Mapping]] = ..., first: _Optional[int] = ..., received: _Optional[int] = ..., messages: _Optional[_Iterable[_Union[NodeMessage, _Mapping]]] = ...) -> None: ...

class ToNode(_message.Message):
    __slots__ = ("challenge", "welcome", "renewed", "first", "received", "messages")
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    RENEWED_FIELD_NUMBER: _ClassVar[int]
    FIRST_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    challenge: Challenge
    welcome: Welcome
    renewed: Renewed
    first: int
    received: int
    messages: _containers.RepeatedCompositeFieldContainer[ControlMessage]
    def __init__(self, challenge: _Optional[_Union[Challenge, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., renewed: _Optional[_Union[Renewed, _Mapping]] = ..., first: _Optional[int] = ..., received: _Optional[int] = ..., messages: _Optional[_Iterable[_Union[ControlMessage, _Mapping]]] = ...) -> None: ...

class Challenge(_message.Message):
    __slots__ = ("nonce", "session")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    session: str
    def __init__(self, nonce: _Optional[bytes] = ..., session: _Optional[str] = ...) -> None: ...

class Proof(_message.Message):
    __slots__ = ("version", "certificate_pem", "signature", "session", "received")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    version: _control_pb2.Version
    certificate_pem: bytes
    signature: bytes
    session: str
    received: int
    def __init__(self, version: _Optional[_Union[_control_pb2.Version, _Mapping]] = ..., certificate_pem: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., session: _Optional[str] = ..., received: _Optional[int] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("resumed", "received", "head_node")
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_FIELD_NUMBER: _ClassVar[int]
    HEAD_NODE_FIELD_NUMBER: _ClassVar[int]
    resumed: bool
    received: int
    head_node: str
    def __init__(self, resumed: _Optional[bool] = ..., received: _Optional[int] = ..., head_node: _Optional[str] = ...) -> None: ...

class Renewal(_message.Message):
    __slots__ = ("signing_request_pem",)
    SIGNING_REQUEST_PEM_FIELD_NUMBER: _ClassVar[int]
    signing_request_pem: bytes
    def __init__(self, signing_request_pem: _Optional[bytes] = ...) -> None: ...

class Renewed(_message.Message):
    __slots__ = ("certificate_pem", "ca_pem", "expires_unix_s")
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    CA_PEM_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_UNIX_S_FIELD_NUMBER: _ClassVar[int]
    certificate_pem: bytes
    ca_pem: bytes
    expires_unix_s: int
    def __init__(self, certificate_pem: _Optional[bytes] = ..., ca_pem: _Optional[bytes] = ..., expires_unix_s: _Optional[int] = ...) -> None: ...

class NodeMessage(_message.Message):
    __slots__ = ("node_joined", "node_reported", "from_process", "actor_started", "actor_ended", "placement_failed", "process_gone", "shut_down", "heartbeat", "drain_answered", "driver_attached", "actor_left")
    NODE_JOINED_FIELD_NUMBER: _ClassVar[int]
    NODE_REPORTED_FIELD_NUMBER: _ClassVar[int]
    FROM_PROCESS_FIELD_NUMBER: _ClassVar[int]
    ACTOR_STARTED_FIELD_NUMBER: _ClassVar[int]
    ACTOR_ENDED_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FAILED_FIELD_NUMBER: _ClassVar[int]
    PROCESS_GONE_FIELD_NUMBER: _ClassVar[int]
    SHUT_DOWN_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    DRAIN_ANSWERED_FIELD_NUMBER: _ClassVar[int]
    DRIVER_ATTACHED_FIELD_NUMBER: _ClassVar[int]
    ACTOR_LEFT_FIELD_NUMBER: _ClassVar[int]
    node_joined: NodeJoined
    node_reported: NodeReported
    from_process: FromProcess
    actor_started: ActorStarted
    actor_ended: ActorEnded
    placement_failed: PlacementFailed
    process_gone: ProcessGone
    shut_down: ShutDown
    heartbeat: Heartbeat
    drain_answered: DrainAnswered
    driver_attached: DriverAttached
    actor_left: ActorLeft
    def __init__(self, node_joined: _Optional[_Union[NodeJoined, _Mapping]] = ..., node_reported: _Optional[_Union[NodeReported, _Mapping]] = ..., from_process: _Optional[_Union[FromProcess, _Mapping]] = ..., actor_started: _Optional[_Union[ActorStarted, _Mapping]] = ..., actor_ended: _Optional[_Union[ActorEnded, _Mapping]] = ..., placement_failed: _Optional[_Union[PlacementFailed, _Mapping]] = ..., process_gone: _Optional[_Union[ProcessGone, _Mapping]] = ..., shut_down: _Optional[_Union[ShutDown, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., drain_answered: _Optional[_Union[DrainAnswered, _Mapping]] = ..., driver_attached: _Optional[_Union[DriverAttached, _Mapping]] = ..., actor_left: _Optional[_Union[ActorLeft, _Mapping]] = ...) -> None: ...

class ControlMessage(_message.Message):
    __slots__ = ("cluster_view", "place_actor", "unplace_actor", "to_process", "process_died", "node_died", "shut_down", "heartbeat_answered", "fenced", "dead_nodes", "drain_node", "move_actor")
    CLUSTER_VIEW_FIELD_NUMBER: _ClassVar[int]
    PLACE_ACTOR_FIELD_NUMBER: _ClassVar[int]
    UNPLACE_ACTOR_FIELD_NUMBER: _ClassVar[int]
    TO_PROCESS_FIELD_NUMBER: _ClassVar[int]
    PROCESS_DIED_FIELD_NUMBER: _ClassVar[int]
    NODE_DIED_FIELD_NUMBER: _ClassVar[int]
    SHUT_DOWN_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_ANSWERED_FIELD_NUMBER: _ClassVar[int]
    FENCED_FIELD_NUMBER: _ClassVar[int]
    DEAD_NODES_FIELD_NUMBER: _ClassVar[int]
    DRAIN_NODE_FIELD_NUMBER: _ClassVar[int]
    MOVE_ACTOR_FIELD_NUMBER: _ClassVar[int]
    cluster_view: ClusterView
    place_actor: PlaceActor
    unplace_actor: UnplaceActor
    to_process: ToProcess
    process_died: ProcessDied
    node_died: NodeDied
    shut_down: ShutDown
    heartbeat_answered: HeartbeatAnswered
    fenced: Fenced
    dead_nodes: DeadNodes
    drain_node: DrainNode
    move_actor: MoveActor
    def __init__(self, cluster_view: _Optional[_Union[ClusterView, _Mapping]] = ..., place_actor: _Optional[_Union[PlaceActor, _Mapping]] = ..., unplace_actor: _Optional[_Union[UnplaceActor, _Mapping]] = ..., to_process: _Optional[_Union[ToProcess, _Mapping]] = ..., process_died: _Optional[_Union[ProcessDied, _Mapping]] = ..., node_died: _Optional[_Union[NodeDied, _Mapping]] = ..., shut_down: _Optional[_Union[ShutDown, _Mapping]] = ..., heartbeat_answered: _Optional[_Union[HeartbeatAnswered, _Mapping]] = ..., fenced: _Optional[_Union[Fenced, _Mapping]] = ..., dead_nodes: _Optional[_Union[DeadNodes, _Mapping]] = ..., drain_node: _Optional[_Union[DrainNode, _Mapping]] = ..., move_actor: _Optional[_Union[MoveActor, _Mapping]] = ...) -> None: ...

class Shape(_message.Message):
    __slots__ = ("amounts",)
    class AmountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    AMOUNTS_FIELD_NUMBER: _ClassVar[int]
    amounts: _containers.ScalarMap[str, int]
    def __init__(self, amounts: _Optional[_Mapping[str, int]] = ...) -> None: ...

class NodeInfo(_message.Message):
    __slots__ = ("node", "incarnation", "total", "available", "is_alive", "is_head", "socket_dir", "pid", "hostname", "queued", "store_bytes", "store_total_bytes", "store_touched_free_bytes", "store_pinned_bytes", "host", "port", "name", "labels", "state", "reason", "demand")
    class TotalEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class AvailableEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class QueuedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    IS_ALIVE_FIELD_NUMBER: _ClassVar[int]
    IS_HEAD_FIELD_NUMBER: _ClassVar[int]
    SOCKET_DIR_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    HOSTNAME_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    STORE_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORE_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORE_TOUCHED_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORE_PINNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    PORT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DEMAND_FIELD_NUMBER: _ClassVar[int]
    node: str
    incarnation: int
    total: _containers.ScalarMap[str, int]
    available: _containers.ScalarMap[str, int]
    is_alive: bool
    is_head: bool
    socket_dir: str
    pid: int
    hostname: str
    queued: _containers.ScalarMap[str, int]
    store_bytes: int
    store_total_bytes: int
    store_touched_free_bytes: int
    store_pinned_bytes: int
    host: str
    port: int
    name: str
    labels: _containers.ScalarMap[str, str]
    state: str
    reason: str
    demand: _containers.RepeatedCompositeFieldContainer[ShapeDemand]
    def __init__(self, node: _Optional[str] = ..., incarnation: _Optional[int] = ..., total: _Optional[_Mapping[str, int]] = ..., available: _Optional[_Mapping[str, int]] = ..., is_alive: _Optional[bool] = ..., is_head: _Optional[bool] = ..., socket_dir: _Optional[str] = ..., pid: _Optional[int] = ..., hostname: _Optional[str] = ..., queued: _Optional[_Mapping[str, int]] = ..., store_bytes: _Optional[int] = ..., store_total_bytes: _Optional[int] = ..., store_touched_free_bytes: _Optional[int] = ..., store_pinned_bytes: _Optional[int] = ..., host: _Optional[str] = ..., port: _Optional[int] = ..., name: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., demand: _Optional[_Iterable[_Union[ShapeDemand, _Mapping]]] = ...) -> None: ...

class Pair(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Where(_message.Message):
    __slots__ = ("labels", "preferred", "node", "is_soft", "is_spread")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PREFERRED_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    IS_SOFT_FIELD_NUMBER: _ClassVar[int]
    IS_SPREAD_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedCompositeFieldContainer[Pair]
    preferred: _containers.RepeatedCompositeFieldContainer[Pair]
    node: str
    is_soft: bool
    is_spread: bool
    def __init__(self, labels: _Optional[_Iterable[_Union[Pair, _Mapping]]] = ..., preferred: _Optional[_Iterable[_Union[Pair, _Mapping]]] = ..., node: _Optional[str] = ..., is_soft: _Optional[bool] = ..., is_spread: _Optional[bool] = ...) -> None: ...

class ShapeDemand(_message.Message):
    __slots__ = ("shape", "where", "queued", "running", "oldest_s")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    OLDEST_S_FIELD_NUMBER: _ClassVar[int]
    shape: Shape
    where: Where
    queued: int
    running: int
    oldest_s: float
    def __init__(self, shape: _Optional[_Union[Shape, _Mapping]] = ..., where: _Optional[_Union[Where, _Mapping]] = ..., queued: _Optional[int] = ..., running: _Optional[int] = ..., oldest_s: _Optional[float] = ...) -> None: ...

class NodeGroup(_message.Message):
    __slots__ = ("name", "resources", "labels", "most")
    class ResourcesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    RESOURCES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    MOST_FIELD_NUMBER: _ClassVar[int]
    name: str
    resources: _containers.ScalarMap[str, int]
    labels: _containers.ScalarMap[str, str]
    most: int
    def __init__(self, name: _Optional[str] = ..., resources: _Optional[_Mapping[str, int]] = ..., labels: _Optional[_Mapping[str, str]] = ..., most: _Optional[int] = ...) -> None: ...

class LivingActor(_message.Message):
    __slots__ = ("actor", "restart", "address")
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    actor: bytes
    restart: int
    address: Address
    def __init__(self, actor: _Optional[bytes] = ..., restart: _Optional[int] = ..., address: _Optional[_Union[Address, _Mapping]] = ...) -> None: ...

class ActorReport(_message.Message):
    __slots__ = ("actor_started", "actor_ended", "placement_failed", "actor_left")
    ACTOR_STARTED_FIELD_NUMBER: _ClassVar[int]
    ACTOR_ENDED_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FAILED_FIELD_NUMBER: _ClassVar[int]
    ACTOR_LEFT_FIELD_NUMBER: _ClassVar[int]
    actor_started: ActorStarted
    actor_ended: ActorEnded
    placement_failed: PlacementFailed
    actor_left: ActorLeft
    def __init__(self, actor_started: _Optional[_Union[ActorStarted, _Mapping]] = ..., actor_ended: _Optional[_Union[ActorEnded, _Mapping]] = ..., placement_failed: _Optional[_Union[PlacementFailed, _Mapping]] = ..., actor_left: _Optional[_Union[ActorLeft, _Mapping]] = ...) -> None: ...

class NodeJoined(_message.Message):
    __slots__ = ("info", "actors", "processes", "drivers", "reports", "gone")
    INFO_FIELD_NUMBER: _ClassVar[int]
    ACTORS_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    DRIVERS_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    info: NodeInfo
    actors: _containers.RepeatedCompositeFieldContainer[LivingActor]
    processes: _containers.RepeatedScalarFieldContainer[int]
    drivers: _containers.RepeatedScalarFieldContainer[int]
    reports: _containers.RepeatedCompositeFieldContainer[ActorReport]
    gone: _containers.RepeatedCompositeFieldContainer[ProcessGone]
    def __init__(self, info: _Optional[_Union[NodeInfo, _Mapping]] = ..., actors: _Optional[_Iterable[_Union[LivingActor, _Mapping]]] = ..., processes: _Optional[_Iterable[int]] = ..., drivers: _Optional[_Iterable[int]] = ..., reports: _Optional[_Iterable[_Union[ActorReport, _Mapping]]] = ..., gone: _Optional[_Iterable[_Union[ProcessGone, _Mapping]]] = ...) -> None: ...

class NodeReported(_message.Message):
    __slots__ = ("node", "available", "queued", "store_bytes", "store_touched_free_bytes", "store_pinned_bytes", "state", "reason", "actors", "drivers", "is_idle", "demand")
    class AvailableEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class QueuedEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NODE_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    STORE_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORE_TOUCHED_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    STORE_PINNED_BYTES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACTORS_FIELD_NUMBER: _ClassVar[int]
    DRIVERS_FIELD_NUMBER: _ClassVar[int]
    IS_IDLE_FIELD_NUMBER: _ClassVar[int]
    DEMAND_FIELD_NUMBER: _ClassVar[int]
    node: str
    available: _containers.ScalarMap[str, int]
    queued: _containers.ScalarMap[str, int]
    store_bytes: int
    store_touched_free_bytes: int
    store_pinned_bytes: int
    state: str
    reason: str
    actors: int
    drivers: int
    is_idle: bool
    demand: _containers.RepeatedCompositeFieldContainer[ShapeDemand]
    def __init__(self, node: _Optional[str] = ..., available: _Optional[_Mapping[str, int]] = ..., queued: _Optional[_Mapping[str, int]] = ..., store_bytes: _Optional[int] = ..., store_touched_free_bytes: _Optional[int] = ..., store_pinned_bytes: _Optional[int] = ..., state: _Optional[str] = ..., reason: _Optional[str] = ..., actors: _Optional[int] = ..., drivers: _Optional[int] = ..., is_idle: _Optional[bool] = ..., demand: _Optional[_Iterable[_Union[ShapeDemand, _Mapping]]] = ...) -> None: ...

class Address(_message.Message):
    __slots__ = ("node", "process", "incarnation")
    NODE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    node: str
    process: int
    incarnation: int
    def __init__(self, node: _Optional[str] = ..., process: _Optional[int] = ..., incarnation: _Optional[int] = ...) -> None: ...

class Supervisor(_message.Message):
    __slots__ = ("address", "task", "key")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    address: Address
    task: bytes
    key: int
    def __init__(self, address: _Optional[_Union[Address, _Mapping]] = ..., task: _Optional[bytes] = ..., key: _Optional[int] = ...) -> None: ...

class OwnerInfo(_message.Message):
    __slots__ = ("address", "supervisors")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    SUPERVISORS_FIELD_NUMBER: _ClassVar[int]
    address: Address
    supervisors: _containers.RepeatedCompositeFieldContainer[Supervisor]
    def __init__(self, address: _Optional[_Union[Address, _Mapping]] = ..., supervisors: _Optional[_Iterable[_Union[Supervisor, _Mapping]]] = ...) -> None: ...

class ActorOptions(_message.Message):
    __slots__ = ("name", "namespace", "class_name", "max_restarts", "max_task_retries", "max_concurrency", "concurrency_groups", "is_async", "detached", "max_pending_calls", "handle_meta")
    class ConcurrencyGroupsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    MAX_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    MAX_TASK_RETRIES_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENCY_FIELD_NUMBER: _ClassVar[int]
    CONCURRENCY_GROUPS_FIELD_NUMBER: _ClassVar[int]
    IS_ASYNC_FIELD_NUMBER: _ClassVar[int]
    DETACHED_FIELD_NUMBER: _ClassVar[int]
    MAX_PENDING_CALLS_FIELD_NUMBER: _ClassVar[int]
    HANDLE_META_FIELD_NUMBER: _ClassVar[int]
    name: str
    namespace: str
    class_name: str
    max_restarts: int
    max_task_retries: int
    max_concurrency: int
    concurrency_groups: _containers.ScalarMap[str, int]
    is_async: bool
    detached: bool
    max_pending_calls: int
    handle_meta: bytes
    def __init__(self, name: _Optional[str] = ..., namespace: _Optional[str] = ..., class_name: _Optional[str] = ..., max_restarts: _Optional[int] = ..., max_task_retries: _Optional[int] = ..., max_concurrency: _Optional[int] = ..., concurrency_groups: _Optional[_Mapping[str, int]] = ..., is_async: _Optional[bool] = ..., detached: _Optional[bool] = ..., max_pending_calls: _Optional[int] = ..., handle_meta: _Optional[bytes] = ...) -> None: ...

class Refs(_message.Message):
    __slots__ = ("owners", "packed")
    OWNERS_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    owners: _containers.RepeatedCompositeFieldContainer[OwnerInfo]
    packed: bytes
    def __init__(self, owners: _Optional[_Iterable[_Union[OwnerInfo, _Mapping]]] = ..., packed: _Optional[bytes] = ...) -> None: ...

class Location(_message.Message):
    __slots__ = ("node", "segment", "offset", "size")
    NODE_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    node: str
    segment: int
    offset: int
    size: int
    def __init__(self, node: _Optional[str] = ..., segment: _Optional[int] = ..., offset: _Optional[int] = ..., size: _Optional[int] = ...) -> None: ...

class Arg(_message.Message):
    __slots__ = ("at_int", "at_str", "ref", "blob", "location", "nested")
    AT_INT_FIELD_NUMBER: _ClassVar[int]
    AT_STR_FIELD_NUMBER: _ClassVar[int]
    REF_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    LOCATION_FIELD_NUMBER: _ClassVar[int]
    NESTED_FIELD_NUMBER: _ClassVar[int]
    at_int: int
    at_str: str
    ref: Refs
    blob: bytes
    location: Location
    nested: Refs
    def __init__(self, at_int: _Optional[int] = ..., at_str: _Optional[str] = ..., ref: _Optional[_Union[Refs, _Mapping]] = ..., blob: _Optional[bytes] = ..., location: _Optional[_Union[Location, _Mapping]] = ..., nested: _Optional[_Union[Refs, _Mapping]] = ...) -> None: ...

class ActorSpec(_message.Message):
    __slots__ = ("actor", "owner", "options", "shape", "env", "class_blob", "payload", "args", "nested", "get_if_exists", "placement_shape", "where", "environment")
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    CLASS_BLOB_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    NESTED_FIELD_NUMBER: _ClassVar[int]
    GET_IF_EXISTS_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_SHAPE_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    actor: bytes
    owner: OwnerInfo
    options: ActorOptions
    shape: Shape
    env: str
    class_blob: bytes
    payload: bytes
    args: _containers.RepeatedCompositeFieldContainer[Arg]
    nested: Refs
    get_if_exists: bool
    placement_shape: Shape
    where: Where
    environment: Environment
    def __init__(self, actor: _Optional[bytes] = ..., owner: _Optional[_Union[OwnerInfo, _Mapping]] = ..., options: _Optional[_Union[ActorOptions, _Mapping]] = ..., shape: _Optional[_Union[Shape, _Mapping]] = ..., env: _Optional[str] = ..., class_blob: _Optional[bytes] = ..., payload: _Optional[bytes] = ..., args: _Optional[_Iterable[_Union[Arg, _Mapping]]] = ..., nested: _Optional[_Union[Refs, _Mapping]] = ..., get_if_exists: _Optional[bool] = ..., placement_shape: _Optional[_Union[Shape, _Mapping]] = ..., where: _Optional[_Union[Where, _Mapping]] = ..., environment: _Optional[_Union[Environment, _Mapping]] = ...) -> None: ...

class Environment(_message.Message):
    __slots__ = ("env", "env_vars", "working_dir", "paths", "package", "job", "namespace", "driver")
    class EnvVarsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ENV_FIELD_NUMBER: _ClassVar[int]
    ENV_VARS_FIELD_NUMBER: _ClassVar[int]
    WORKING_DIR_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    PACKAGE_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    DRIVER_FIELD_NUMBER: _ClassVar[int]
    env: str
    env_vars: _containers.ScalarMap[str, str]
    working_dir: str
    paths: _containers.RepeatedScalarFieldContainer[str]
    package: str
    job: str
    namespace: str
    driver: Address
    def __init__(self, env: _Optional[str] = ..., env_vars: _Optional[_Mapping[str, str]] = ..., working_dir: _Optional[str] = ..., paths: _Optional[_Iterable[str]] = ..., package: _Optional[str] = ..., job: _Optional[str] = ..., namespace: _Optional[str] = ..., driver: _Optional[_Union[Address, _Mapping]] = ...) -> None: ...

class RegisterActor(_message.Message):
    __slots__ = ("request", "spec")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    request: int
    spec: ActorSpec
    def __init__(self, request: _Optional[int] = ..., spec: _Optional[_Union[ActorSpec, _Mapping]] = ...) -> None: ...

class WatchActor(_message.Message):
    __slots__ = ("actor",)
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    actor: bytes
    def __init__(self, actor: _Optional[bytes] = ...) -> None: ...

class FindActor(_message.Message):
    __slots__ = ("request", "name", "namespace")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    request: int
    name: str
    namespace: str
    def __init__(self, request: _Optional[int] = ..., name: _Optional[str] = ..., namespace: _Optional[str] = ...) -> None: ...

class ListActors(_message.Message):
    __slots__ = ("request", "namespace")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    request: int
    namespace: str
    def __init__(self, request: _Optional[int] = ..., namespace: _Optional[str] = ...) -> None: ...

class KillActor(_message.Message):
    __slots__ = ("actor", "no_restart", "reason")
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    NO_RESTART_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    actor: bytes
    no_restart: bool
    reason: str
    def __init__(self, actor: _Optional[bytes] = ..., no_restart: _Optional[bool] = ..., reason: _Optional[str] = ...) -> None: ...

class ReleaseActor(_message.Message):
    __slots__ = ("actor",)
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    actor: bytes
    def __init__(self, actor: _Optional[bytes] = ...) -> None: ...

class ActorAdopted(_message.Message):
    __slots__ = ("actor", "owner")
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    actor: bytes
    owner: Address
    def __init__(self, actor: _Optional[bytes] = ..., owner: _Optional[_Union[Address, _Mapping]] = ...) -> None: ...

class ClusterQuery(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: int
    def __init__(self, request: _Optional[int] = ...) -> None: ...

class FromProcess(_message.Message):
    __slots__ = ("source", "register_actor", "watch_actor", "find_actor", "list_actors", "kill_actor", "release_actor", "actor_adopted", "cluster_query", "number")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    REGISTER_ACTOR_FIELD_NUMBER: _ClassVar[int]
    WATCH_ACTOR_FIELD_NUMBER: _ClassVar[int]
    FIND_ACTOR_FIELD_NUMBER: _ClassVar[int]
    LIST_ACTORS_FIELD_NUMBER: _ClassVar[int]
    KILL_ACTOR_FIELD_NUMBER: _ClassVar[int]
    RELEASE_ACTOR_FIELD_NUMBER: _ClassVar[int]
    ACTOR_ADOPTED_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_QUERY_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    source: Address
    register_actor: RegisterActor
    watch_actor: WatchActor
    find_actor: FindActor
    list_actors: ListActors
    kill_actor: KillActor
    release_actor: ReleaseActor
    actor_adopted: ActorAdopted
    cluster_query: ClusterQuery
    number: int
    def __init__(self, source: _Optional[_Union[Address, _Mapping]] = ..., register_actor: _Optional[_Union[RegisterActor, _Mapping]] = ..., watch_actor: _Optional[_Union[WatchActor, _Mapping]] = ..., find_actor: _Optional[_Union[FindActor, _Mapping]] = ..., list_actors: _Optional[_Union[ListActors, _Mapping]] = ..., kill_actor: _Optional[_Union[KillActor, _Mapping]] = ..., release_actor: _Optional[_Union[ReleaseActor, _Mapping]] = ..., actor_adopted: _Optional[_Union[ActorAdopted, _Mapping]] = ..., cluster_query: _Optional[_Union[ClusterQuery, _Mapping]] = ..., number: _Optional[int] = ...) -> None: ...

class ActorStarted(_message.Message):
    __slots__ = ("actor", "restart", "address", "error")
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    actor: bytes
    restart: int
    address: Address
    error: bytes
    def __init__(self, actor: _Optional[bytes] = ..., restart: _Optional[int] = ..., address: _Optional[_Union[Address, _Mapping]] = ..., error: _Optional[bytes] = ...) -> None: ...

class ExitCause(_message.Message):
    __slots__ = ("code", "signal", "reason", "log", "pid", "node")
    CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    PID_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    code: int
    signal: int
    reason: str
    log: _containers.RepeatedScalarFieldContainer[str]
    pid: int
    node: str
    def __init__(self, code: _Optional[int] = ..., signal: _Optional[int] = ..., reason: _Optional[str] = ..., log: _Optional[_Iterable[str]] = ..., pid: _Optional[int] = ..., node: _Optional[str] = ...) -> None: ...

class ActorEnded(_message.Message):
    __slots__ = ("actor", "restart", "cause", "is_intended")
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    IS_INTENDED_FIELD_NUMBER: _ClassVar[int]
    actor: bytes
    restart: int
    cause: ExitCause
    is_intended: bool
    def __init__(self, actor: _Optional[bytes] = ..., restart: _Optional[int] = ..., cause: _Optional[_Union[ExitCause, _Mapping]] = ..., is_intended: _Optional[bool] = ...) -> None: ...

class PlacementFailed(_message.Message):
    __slots__ = ("actor", "restart", "reason", "is_final")
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    actor: bytes
    restart: int
    reason: str
    is_final: bool
    def __init__(self, actor: _Optional[bytes] = ..., restart: _Optional[int] = ..., reason: _Optional[str] = ..., is_final: _Optional[bool] = ...) -> None: ...

class ActorLeft(_message.Message):
    __slots__ = ("actor", "restart")
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    actor: bytes
    restart: int
    def __init__(self, actor: _Optional[bytes] = ..., restart: _Optional[int] = ...) -> None: ...

class ProcessGone(_message.Message):
    __slots__ = ("address", "cause", "was_driver", "heir")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    WAS_DRIVER_FIELD_NUMBER: _ClassVar[int]
    HEIR_FIELD_NUMBER: _ClassVar[int]
    address: Address
    cause: ExitCause
    was_driver: bool
    heir: Address
    def __init__(self, address: _Optional[_Union[Address, _Mapping]] = ..., cause: _Optional[_Union[ExitCause, _Mapping]] = ..., was_driver: _Optional[bool] = ..., heir: _Optional[_Union[Address, _Mapping]] = ...) -> None: ...

class ShutDown(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class ClusterView(_message.Message):
    __slots__ = ("nodes", "groups")
    NODES_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeInfo]
    groups: NodeGroups
    def __init__(self, nodes: _Optional[_Iterable[_Union[NodeInfo, _Mapping]]] = ..., groups: _Optional[_Union[NodeGroups, _Mapping]] = ...) -> None: ...

class NodeGroups(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[NodeGroup]
    def __init__(self, items: _Optional[_Iterable[_Union[NodeGroup, _Mapping]]] = ...) -> None: ...

class MoveActor(_message.Message):
    __slots__ = ("actor", "restart", "callers", "reason")
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    CALLERS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    actor: bytes
    restart: int
    callers: _containers.RepeatedCompositeFieldContainer[Address]
    reason: str
    def __init__(self, actor: _Optional[bytes] = ..., restart: _Optional[int] = ..., callers: _Optional[_Iterable[_Union[Address, _Mapping]]] = ..., reason: _Optional[str] = ...) -> None: ...

class PlaceActor(_message.Message):
    __slots__ = ("spec", "restart")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    spec: ActorSpec
    restart: int
    def __init__(self, spec: _Optional[_Union[ActorSpec, _Mapping]] = ..., restart: _Optional[int] = ...) -> None: ...

class UnplaceActor(_message.Message):
    __slots__ = ("actor", "restart", "grace_s", "reason")
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    RESTART_FIELD_NUMBER: _ClassVar[int]
    GRACE_S_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    actor: bytes
    restart: int
    grace_s: float
    reason: str
    def __init__(self, actor: _Optional[bytes] = ..., restart: _Optional[int] = ..., grace_s: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class ActorInfo(_message.Message):
    __slots__ = ("actor", "owner", "options", "state", "address", "restarts", "reason", "error", "cause", "shape", "where", "moves")
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    MOVES_FIELD_NUMBER: _ClassVar[int]
    actor: bytes
    owner: OwnerInfo
    options: ActorOptions
    state: str
    address: Address
    restarts: int
    reason: str
    error: bytes
    cause: ExitCause
    shape: Shape
    where: Where
    moves: int
    def __init__(self, actor: _Optional[bytes] = ..., owner: _Optional[_Union[OwnerInfo, _Mapping]] = ..., options: _Optional[_Union[ActorOptions, _Mapping]] = ..., state: _Optional[str] = ..., address: _Optional[_Union[Address, _Mapping]] = ..., restarts: _Optional[int] = ..., reason: _Optional[str] = ..., error: _Optional[bytes] = ..., cause: _Optional[_Union[ExitCause, _Mapping]] = ..., shape: _Optional[_Union[Shape, _Mapping]] = ..., where: _Optional[_Union[Where, _Mapping]] = ..., moves: _Optional[int] = ...) -> None: ...

class ActorRegistered(_message.Message):
    __slots__ = ("request", "info", "error")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    request: int
    info: ActorInfo
    error: str
    def __init__(self, request: _Optional[int] = ..., info: _Optional[_Union[ActorInfo, _Mapping]] = ..., error: _Optional[str] = ...) -> None: ...

class ActorState(_message.Message):
    __slots__ = ("info", "is_infeasible")
    INFO_FIELD_NUMBER: _ClassVar[int]
    IS_INFEASIBLE_FIELD_NUMBER: _ClassVar[int]
    info: ActorInfo
    is_infeasible: bool
    def __init__(self, info: _Optional[_Union[ActorInfo, _Mapping]] = ..., is_infeasible: _Optional[bool] = ...) -> None: ...

class ActorFound(_message.Message):
    __slots__ = ("request", "info")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    INFO_FIELD_NUMBER: _ClassVar[int]
    request: int
    info: ActorInfo
    def __init__(self, request: _Optional[int] = ..., info: _Optional[_Union[ActorInfo, _Mapping]] = ...) -> None: ...

class ActorList(_message.Message):
    __slots__ = ("request", "actors")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    ACTORS_FIELD_NUMBER: _ClassVar[int]
    request: int
    actors: _containers.RepeatedCompositeFieldContainer[ActorInfo]
    def __init__(self, request: _Optional[int] = ..., actors: _Optional[_Iterable[_Union[ActorInfo, _Mapping]]] = ...) -> None: ...

class ClusterReply(_message.Message):
    __slots__ = ("request", "nodes")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    request: int
    nodes: _containers.RepeatedCompositeFieldContainer[NodeInfo]
    def __init__(self, request: _Optional[int] = ..., nodes: _Optional[_Iterable[_Union[NodeInfo, _Mapping]]] = ...) -> None: ...

class ToProcess(_message.Message):
    __slots__ = ("target", "actor_registered", "actor_state", "actor_found", "actor_list", "cluster_reply")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    ACTOR_REGISTERED_FIELD_NUMBER: _ClassVar[int]
    ACTOR_STATE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FOUND_FIELD_NUMBER: _ClassVar[int]
    ACTOR_LIST_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_REPLY_FIELD_NUMBER: _ClassVar[int]
    target: Address
    actor_registered: ActorRegistered
    actor_state: ActorState
    actor_found: ActorFound
    actor_list: ActorList
    cluster_reply: ClusterReply
    def __init__(self, target: _Optional[_Union[Address, _Mapping]] = ..., actor_registered: _Optional[_Union[ActorRegistered, _Mapping]] = ..., actor_state: _Optional[_Union[ActorState, _Mapping]] = ..., actor_found: _Optional[_Union[ActorFound, _Mapping]] = ..., actor_list: _Optional[_Union[ActorList, _Mapping]] = ..., cluster_reply: _Optional[_Union[ClusterReply, _Mapping]] = ...) -> None: ...

class ProcessDied(_message.Message):
    __slots__ = ("address", "cause", "heir")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    HEIR_FIELD_NUMBER: _ClassVar[int]
    address: Address
    cause: ExitCause
    heir: Address
    def __init__(self, address: _Optional[_Union[Address, _Mapping]] = ..., cause: _Optional[_Union[ExitCause, _Mapping]] = ..., heir: _Optional[_Union[Address, _Mapping]] = ...) -> None: ...

class NodeDied(_message.Message):
    __slots__ = ("node", "incarnation", "reason")
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    node: str
    incarnation: int
    reason: str
    def __init__(self, node: _Optional[str] = ..., incarnation: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("number",)
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    number: int
    def __init__(self, number: _Optional[int] = ...) -> None: ...

class HeartbeatAnswered(_message.Message):
    __slots__ = ("number", "head", "uptime_s")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    UPTIME_S_FIELD_NUMBER: _ClassVar[int]
    number: int
    head: int
    uptime_s: float
    def __init__(self, number: _Optional[int] = ..., head: _Optional[int] = ..., uptime_s: _Optional[float] = ...) -> None: ...

class Fenced(_message.Message):
    __slots__ = ("incarnation", "reason")
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    incarnation: int
    reason: str
    def __init__(self, incarnation: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class DeadNode(_message.Message):
    __slots__ = ("node", "incarnation", "reason")
    NODE_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    node: str
    incarnation: int
    reason: str
    def __init__(self, node: _Optional[str] = ..., incarnation: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class DeadNodes(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[DeadNode]
    def __init__(self, nodes: _Optional[_Iterable[_Union[DeadNode, _Mapping]]] = ...) -> None: ...

class DrainNode(_message.Message):
    __slots__ = ("request", "is_idle_only", "deadline_s", "reason")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    IS_IDLE_ONLY_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request: int
    is_idle_only: bool
    deadline_s: float
    reason: str
    def __init__(self, request: _Optional[int] = ..., is_idle_only: _Optional[bool] = ..., deadline_s: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class DrainAnswered(_message.Message):
    __slots__ = ("request", "accepted", "refusal")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    request: int
    accepted: bool
    refusal: str
    def __init__(self, request: _Optional[int] = ..., accepted: _Optional[bool] = ..., refusal: _Optional[str] = ...) -> None: ...

class DriverAttached(_message.Message):
    __slots__ = ("address", "job", "attempt")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    address: Address
    job: str
    attempt: int
    def __init__(self, address: _Optional[_Union[Address, _Mapping]] = ..., job: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...
