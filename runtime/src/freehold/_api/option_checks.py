"""Checks of single option values: what each may be, and what is not built yet.

Each check takes the option's name and the value as written, and returns the value to keep. None
always means "as if left out". What Ray has and we have not raises `NotSupportedYetError` unless it
is Ray's own default, so that no option is accepted and does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from freehold._api.runtime_env import RuntimeEnv
from freehold._core.resources import to_units
from freehold.errors import NotSupportedYetError

if TYPE_CHECKING:
    from freehold._core.where import Where

Check = Callable[[str, Any], Any]
DYNAMIC_RETURNS = "dynamic"
RESERVED_RESOURCES = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}


def amount(name: str, value: Any) -> Any:
    """A number of CPUs, GPUs or bytes, 0 or more."""
    to_units(name, value)
    return value


def gpus(name: str, value: Any) -> Any:
    """Fractions of one GPU can be shared; of several only whole ones can be given."""
    units = to_units(name, value)
    if value > 1 and units % 10_000:
        raise ValueError(f"{name}={value!r} above 1 must be a whole number")
    return value


def resources(name: str, value: Any) -> dict[str, float]:
    """Custom resources by name."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict of names and amounts, not {value!r}")
    for key, units in value.items():
        if not isinstance(key, str) or not key:
            raise TypeError(f"{name} has the key {key!r}; keys are non-empty strings")
        if key in RESERVED_RESOURCES:
            raise ValueError(f"use {RESERVED_RESOURCES[key]}={units!r}, not {name}={{{key!r}: …}}")
        to_units(f"{name}[{key!r}]", units)
    return dict(value)


def integer(least: int, without_end: bool = False) -> Check:
    """A whole number of at least `least`, or with `without_end` also −1."""

    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} must be an int, not {value!r}")
        if value < least and not (without_end and value == -1):
            also = ", or -1 for no limit" if without_end else ""
            raise ValueError(f"{name} must be {least} or more{also}, not {value}")
        return value

    return check


def num_returns(name: str, value: Any) -> int | str:
    """A number of returns of 0 or more, or "dynamic"."""
    if value == "streaming":
        raise NotSupportedYetError(
            feature='num_returns="streaming"',
            instead='use num_returns="dynamic" (all outputs when the task is done) or a number',
        )
    if value == DYNAMIC_RETURNS:
        return DYNAMIC_RETURNS
    if isinstance(value, str):
        raise ValueError(f'{name} must be a number or "dynamic", not {value!r}')
    return int(integer(0)(name, value))


def retry_exceptions(name: str, value: Any) -> bool | tuple[type[BaseException], ...]:
    """True, False, or the exception classes to retry on."""
    if isinstance(value, bool):
        return value
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name} must be a bool or a list of exception classes, not {value!r}")
    for cls in value:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            raise TypeError(f"{name} lists {cls!r}, which is not an exception class")
    return tuple(value) or False


def seconds(name: str, value: Any) -> float:
    """A time in seconds above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be more than 0 seconds and finite, not {value!r}")
    return float(value)


def text(name: str, value: Any) -> str:
    """A string that is not empty."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {value!r}")
    if not value:
        raise ValueError(f"{name} must not be empty; leave it out for none")
    return value


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, not {value!r}")
    return value


def lifetime(name: str, value: Any) -> str:
    """Whether an actor outlives its driver ("detached") or ends with its last handle."""
    if value not in ("detached", "non_detached"):
        raise ValueError(f'{name} must be "detached", "non_detached" or None, not {value!r}')
    return str(value)


def pending_calls(name: str, value: Any) -> int:
    """1 or more, or −1 for no limit."""
    return int(integer(1, without_end=True)(name, value))


def concurrency_groups(name: str, value: Any) -> dict[str, int]:
    """Threads (or coroutines at a time) by group."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict of group names and limits, not {value!r}")
    for key, limit in value.items():
        text(f"a key of {name}", key)
        integer(1)(f"{name}[{key!r}]", limit)
    return dict(value)


def runtime_env(name: str, value: Any) -> RuntimeEnv:
    """`env_vars` and `working_dir`; checked by `RuntimeEnv` itself."""
    if isinstance(value, RuntimeEnv):
        return value
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict or a RuntimeEnv, not {value!r}")
    return RuntimeEnv(**value)


class Strategy:
    """Base of the strategy objects that say where something may run."""

    where: Where


def strategy(name: str, value: Any) -> Any:
    """ "DEFAULT", "SPREAD", or a node affinity or node label strategy."""
    if value == "DEFAULT":
        return None
    if value == "SPREAD" or isinstance(value, Strategy):
        return value
    if isinstance(value, str):
        raise ValueError(f'{name} must be "DEFAULT", "SPREAD" or a strategy object, not {value!r}')
    if not type(value).__name__.endswith("SchedulingStrategy"):
        raise TypeError(f"{name} must be a string or a strategy object, not {value!r}")
    raise NotSupportedYetError(
        feature=f"{name}={type(value).__name__}",
        instead='use "SPREAD", a node affinity, or label_selector={…}',
    )


def labels(name: str, value: Any) -> dict[str, str]:
    """Conditions on labels by name: "a", "!a", "in(a, b)", "!in(a, b)", "exists()", "!exists()"."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict of label names and conditions, not {value!r}")
    from freehold._core.where import make_selector

    make_selector(value)
    return dict(value)


def node_labels(name: str, value: Any) -> dict[str, str]:
    """A node's labels: strings by name."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict of strings, not {value!r}")
    for key, label in value.items():
        text(f"a key of {name}", key)
        text(f"{name}[{key!r}]", label)
    return dict(value)


def not_yet(instead: str, *neutral: Any) -> Check:
    """An option of Ray's that is not built: only its neutral values pass."""

    def check(name: str, value: Any) -> None:
        for plain in neutral:
            if type(value) is type(plain) and value == plain:
                return
        raise NotSupportedYetError(feature=f"{name}={value!r:.60}", instead=instead)

    return check
