"""Every error that Freehold raises, and the tree they hang in.

The names are Ray's without the prefix ``Ray`` (``freehold.exceptions`` is the same list under Ray's
path); those marked ``*`` are ours alone. This module only says *what went wrong*: it decides
nothing, logs nothing, and every class survives pickling with its message and its fields.

::

    FreeholdError
    ├─ TaskError                          your function raised (also an instance of what it raised)
    ├─ TaskCancelledError                 you cancelled it
    ├─ TaskTimeoutError*                  it outran its timeout_s
    ├─ TaskUnschedulableError             no node can ever run it
    ├─ TaskPlacementGroupRemoved          its placement group went away
    ├─ WorkerCrashedError                 the process under it died
    ├─ NodeDiedError                      the machine under it died
    │  └─ LocalNodeDiedError              … its own node's (Ray: LocalRayletDiedError)
    ├─ OutOfMemoryError                   killed to save the machine
    ├─ ActorError
    │  ├─ ActorDiedError                  it will not come back
    │  └─ ActorUnavailableError           it may come back
    ├─ ActorUnschedulableError, ActorPlacementGroupRemoved
    ├─ ActorAlreadyExistsError, ActorHandleNotFoundError
    ├─ AsyncioActorExit                   control flow of exit_actor
    ├─ PendingCallsLimitExceeded          max_pending_calls of one actor
    ├─ PendingLimitError*                 bytes of arguments pending in this process
    ├─ GetTimeoutError                    your timeout, nothing is wrong with the object
    ├─ ObjectLostError
    │  ├─ OwnerDiedError, ObjectFreedError, ObjectFetchTimedOutError, ObjectUnreachableError*
    │  ├─ ReferenceCountingAssertionError our bug
    │  ├─ StaleReferenceError*            of a cluster that is gone
    │  └─ ObjectReconstructionFailedError
    │     ├─ ObjectReconstructionFailedMaxAttemptsExceededError
    │     └─ ObjectReconstructionFailedLineageEvictedError
    ├─ ObjectStoreFullError, OutOfDiskError, PlasmaObjectNotAvailable
    ├─ SerializationError*                cannot be pickled, names the attribute
    │  └─ DeserializationError*           … a result cannot be unpickled here
    ├─ UnserializableException            an exception that cannot be unpickled here
    ├─ RuntimeEnvSetupError, CrossLanguageError, UserCodeException
    ├─ NotInitializedError*, ForkedProcessError*, ClusterDiedError*
    ├─ ClusterUnreachableError*, JoinRefusedError*
    ├─ KubernetesError*                   the Kubernetes API refused, or is away
    │  ├─ ClusterNotReadyError*           a FuturesCluster does not come up
    │  ├─ JobFailedError*                 a FuturesJob failed
    │  ├─ JobResultError*                 … succeeded, but its value cannot be had
    │  └─ KubernetesTimeoutError*         your timeout, the job goes on
    ├─ HeadStateError*                    what a head keeps of its cluster is not usable
    ├─ SettingsError*, NotSupportedYetError*
    └─ FreeholdSystemError                Freehold itself failed
       ├─ InvariantError*                 … a rule of its own was broken
       └─ ProtocolError*                  … bytes that are not what they should be
          └─ AuthenticationError          … from someone who may not send them

Constructing: ``ObjectLostError(object_id=…, reason=…)``. The fields are the annotated names of the
class (and of its bases); the message is made from them. A first positional argument replaces the
message and keeps the fields. An undeclared field becomes an attribute and nothing more, because an
error path must never fail by itself; a unit test reads the whole tree for such slips instead.
"""

from __future__ import annotations

from freehold._errors.actors import (
    ActorAlreadyExistsError,
    ActorDiedError,
    ActorError,
    ActorHandleNotFoundError,
    ActorPlacementGroupRemoved,
    ActorUnavailableError,
    ActorUnschedulableError,
    AsyncioActorExit,
    PendingCallsLimitExceeded,
    PendingLimitError,
)
from freehold._errors.base import (
    FreeholdError,
)
from freehold._errors.kubernetes import (
    ClusterNotReadyError,
    JobFailedError,
    JobResultError,
    KubernetesError,
    KubernetesTimeoutError,
)
from freehold._errors.objects import (
    CrossLanguageError,
    DeserializationError,
    GetTimeoutError,
    ObjectFetchTimedOutError,
    ObjectFreedError,
    ObjectLostError,
    ObjectReconstructionFailedError,
    ObjectReconstructionFailedLineageEvictedError,
    ObjectReconstructionFailedMaxAttemptsExceededError,
    ObjectStoreFullError,
    ObjectUnreachableError,
    OutOfDiskError,
    OwnerDiedError,
    PlasmaObjectNotAvailable,
    ReferenceCountingAssertionError,
    RuntimeEnvSetupError,
    SerializationError,
    StaleReferenceError,
)
from freehold._errors.process import (
    AuthenticationError,
    ClusterDiedError,
    ClusterUnreachableError,
    ForkedProcessError,
    FreeholdSystemError,
    HeadStateError,
    InvariantError,
    JoinRefusedError,
    NotInitializedError,
    NotSupportedYetError,
    ProtocolError,
    SettingsError,
)
from freehold._errors.task_error import (
    TaskError,
    UnserializableException,
)
from freehold._errors.tasks import (
    LocalNodeDiedError,
    LocalRayletDiedError,
    NodeDiedError,
    OutOfMemoryError,
    TaskCancelledError,
    TaskPlacementGroupRemoved,
    TaskTimeoutError,
    TaskUnschedulableError,
    UserCodeException,
    WorkerCrashedError,
)

__all__ = [
    "ActorAlreadyExistsError",
    "ActorDiedError",
    "ActorError",
    "ActorHandleNotFoundError",
    "ActorPlacementGroupRemoved",
    "ActorUnavailableError",
    "ActorUnschedulableError",
    "AsyncioActorExit",
    "AuthenticationError",
    "ClusterDiedError",
    "ClusterNotReadyError",
    "ClusterUnreachableError",
    "CrossLanguageError",
    "DeserializationError",
    "ForkedProcessError",
    "FreeholdError",
    "FreeholdSystemError",
    "GetTimeoutError",
    "HeadStateError",
    "InvariantError",
    "JobFailedError",
    "JobResultError",
    "JoinRefusedError",
    "KubernetesError",
    "KubernetesTimeoutError",
    "LocalNodeDiedError",
    "LocalRayletDiedError",
    "NodeDiedError",
    "NotInitializedError",
    "NotSupportedYetError",
    "ObjectFetchTimedOutError",
    "ObjectFreedError",
    "ObjectLostError",
    "ObjectReconstructionFailedError",
    "ObjectReconstructionFailedLineageEvictedError",
    "ObjectReconstructionFailedMaxAttemptsExceededError",
    "ObjectStoreFullError",
    "ObjectUnreachableError",
    "OutOfDiskError",
    "OutOfMemoryError",
    "OwnerDiedError",
    "PendingCallsLimitExceeded",
    "PendingLimitError",
    "PlasmaObjectNotAvailable",
    "ProtocolError",
    "ReferenceCountingAssertionError",
    "RuntimeEnvSetupError",
    "SerializationError",
    "SettingsError",
    "StaleReferenceError",
    "TaskCancelledError",
    "TaskError",
    "TaskPlacementGroupRemoved",
    "TaskTimeoutError",
    "TaskUnschedulableError",
    "UnserializableException",
    "UserCodeException",
    "WorkerCrashedError",
]

# Pickles and tracebacks name the public path, so that the files behind it may be cut otherwise.
for _name in __all__:
    globals()[_name].__module__ = __name__
