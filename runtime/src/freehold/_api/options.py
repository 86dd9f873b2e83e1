"""The options of tasks, actors and methods: which there are, and what they come to.

`check` is run when the user writes them; the `…_options` and `…_request` functions build the
core's structs, once per function or class and core. Ray's names and defaults throughout; ours
alone is `timeout_s`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from freehold._api import option_checks as checks
from freehold._api.option_checks import Strategy
from freehold._api.suggest import did_you_mean
from freehold._core.resources import CPU, GPU, MEMORY, Shape, make_shape

if TYPE_CHECKING:
    from freehold._core.interface import TaskOptions
    from freehold._core.where import Where

Options = dict[str, Any]

DEFAULT_MAX_RETRIES = 3
DEFAULT_ASYNC_CONCURRENCY = 1000

_BY_RESOURCE = "ask for a custom resource instead: resources={…}"
_LEAVE_OUT = "leave it out"

COMMON: dict[str, checks.Check] = {
    "accelerator_type": checks.not_yet(_BY_RESOURCE),
    "enable_task_events": checks.not_yet("leave it out: they are always on", True),
    "fallback_strategy": checks.not_yet(_LEAVE_OUT),
    "label_selector": checks.labels,
    "memory": checks.amount,
    "name": checks.text,
    "num_cpus": checks.amount,
    "num_gpus": checks.gpus,
    "object_store_memory": checks.not_yet("leave it out: the store admits by bytes"),
    "placement_group": checks.not_yet(_BY_RESOURCE, "default"),
    "placement_group_bundle_index": checks.not_yet(_LEAVE_OUT, -1),
    "placement_group_capture_child_tasks": checks.not_yet(_LEAVE_OUT, False),
    "resources": checks.resources,
    "runtime_env": checks.runtime_env,
    "scheduling_strategy": checks.strategy,
    "_labels": checks.not_yet(_BY_RESOURCE, {}),
    "_metadata": checks.not_yet(_LEAVE_OUT, {}),
}
CALL: dict[str, checks.Check] = {
    "num_returns": checks.num_returns,
    "retry_exceptions": checks.retry_exceptions,
    "timeout_s": checks.seconds,
    "_generator_backpressure_num_objects": checks.not_yet(_LEAVE_OUT, -1),
}
TASK: dict[str, checks.Check] = {
    **COMMON,
    **CALL,
    "max_calls": checks.integer(0),
    "max_retries": checks.integer(0, without_end=True),
    "priority": checks.not_yet("leave it out: tasks are served in the order submitted", 0),
}
ACTOR: dict[str, checks.Check] = {
    **COMMON,
    "allow_out_of_order_execution": checks.not_yet(
        "leave it out: calls run in the order of each caller", False
    ),
    "concurrency_groups": checks.concurrency_groups,
    "enable_tensor_transport": checks.not_yet(_LEAVE_OUT, False),
    "get_if_exists": checks.flag,
    "lifetime": checks.lifetime,
    "max_concurrency": checks.integer(1),
    "max_pending_calls": checks.pending_calls,
    "max_restarts": checks.integer(0, without_end=True),
    "max_task_retries": checks.integer(0, without_end=True),
    "namespace": checks.text,
}
METHOD: dict[str, checks.Check] = {
    **CALL,
    "concurrency_group": checks.text,
    "enable_task_events": COMMON["enable_task_events"],
    "max_task_retries": ACTOR["max_task_retries"],
    "name": checks.text,
    "tensor_transport": checks.not_yet("leave it out: results go through the object store"),
}
KINDS = {"remote functions": TASK, "actors": ACTOR, "actor methods": METHOD}


def check(kind: str, options: Options) -> Options:
    """The options with their values checked, and without those that say nothing.

    Args:
        kind: a key of `KINDS`.
        options: as the user wrote them. None stands for the default and stays, so that it can
            take back what an earlier `.options()` set.

    Raises:
        ValueError, TypeError: an unknown option, or a wrong value.
        NotSupportedYetError: an option of Ray's that is not built.
    """
    table = KINDS[kind]
    found: Options = {}
    for name, value in options.items():
        test = table.get(name)
        if test is None:
            raise ValueError(_unknown(kind, name))
        found[name] = None if value is None else test(name, value)
    return found


def _unknown(kind: str, name: str) -> str:
    for other, table in KINDS.items():
        if name in table:
            return f"{name} is an option of {other}, not of {kind}"
    known = [option for option in KINDS[kind] if not option.startswith("_")]
    return f"{kind} have no option {name!r}{did_you_mean(name, known)}"


def _shape(options: Options, cpus: float) -> Shape:
    given = options.get("num_cpus")
    amounts: dict[str, float] = {
        **(options.get("resources") or {}),
        CPU: cpus if given is None else given,
        GPU: options.get("num_gpus") or 0,
        MEMORY: options.get("memory") or 0,
    }
    return make_shape(amounts)


def task_options(options: Options, name: str, env: str) -> TaskOptions:
    """What the core is told of a remote function's options."""
    from freehold._core.interface import TaskOptions

    retries = options.get("max_retries")
    return TaskOptions(
        shape=_shape(options, 1),
        env=env,
        name=options.get("name") or name,
        num_returns=returns(options.get("num_returns")),
        max_retries=DEFAULT_MAX_RETRIES if retries is None else retries,
        retry_exceptions=pickled_exceptions(options.get("retry_exceptions")),
        timeout_s=options.get("timeout_s"),
        where=where(options),
    )


def where(options: Options) -> Where | None:
    """Labels, affinity and spreading in one; None for the default placement."""
    strategy, selector = options.get("scheduling_strategy"), options.get("label_selector")
    if strategy is None and not selector:
        return None
    from msgspec import structs

    from freehold._core.where import ANYWHERE, make_selector

    found = strategy.where if isinstance(strategy, Strategy) else ANYWHERE
    if strategy == "SPREAD":
        found = structs.replace(found, is_spread=True)
    if selector:
        found = structs.replace(found, labels=found.labels + make_selector(selector))
    return None if found == ANYWHERE else found


def max_calls(options: Options) -> int:
    """Calls before a worker is replaced: after each for GPU tasks, whose memory must be free."""
    given = options.get("max_calls")
    if given is not None:
        return int(given)
    return 1 if options.get("num_gpus") else 0


def actor_shapes(options: Options) -> tuple[Shape, Shape]:
    """What an actor holds while it lives, and what chooses its node.

    As Ray has it: an actor that says nothing about resources holds none and is placed where a CPU
    is free; one that names any of them holds a CPU too, unless it says `num_cpus`.
    """
    named = ("num_cpus", "num_gpus", "memory", "resources")
    if any(options.get(name) is not None for name in named):
        held = _shape(options, 1)
        return held, held
    return (), _shape(options, 1)


def returns(value: int | str | None) -> int:
    """`num_returns` as the core has it."""
    from freehold._core.interface import DYNAMIC

    if value is None:
        return 1
    return value if isinstance(value, int) else DYNAMIC


def pickled_exceptions(
    value: bool | bytes | tuple[type[BaseException], ...] | None,
) -> bool | bytes:
    """`retry_exceptions` as the core has it: pickled, since classes may be of `__main__`."""
    if not isinstance(value, tuple):
        return value or False
    from freehold._io.serialization import dumps

    blob, _ = dumps(value, "retry_exceptions", "retry_exceptions")
    return blob if isinstance(blob, bytes) else blob.join()
