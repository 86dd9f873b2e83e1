"""`runtime_env`: environment variables and a working directory for tasks and actors.

A worker is forked from a zygote that was started with the environment, one each. Here the fields
are checked, and an environment is made known to the core when a function that names it is first
called. What a task does not name it inherits from the task (or driver) that submits it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from freehold._api import state
from freehold._api.suggest import did_you_mean
from freehold.errors import NotSupportedYetError

if TYPE_CHECKING:
    from freehold._core.interface import Core

FIELDS = ("env_vars", "excludes", "working_dir")
NOT_YET = {
    "conda": "start the cluster from the conda environment",
    "config": "leave it out",
    "container": "start the cluster inside the image",
    "image_uri": "start the cluster inside the image",
    "java_jars": "Freehold runs Python alone",
    "mpi": "start mpirun from a task",
    "nsight": "profile with py-spy or perf on the worker's pid",
    "pip": "install the packages where the cluster is started",
    "pip_check": "install the packages where the cluster is started",
    "py_executable": "start the cluster with that interpreter",
    "py_modules": "put the modules into working_dir",
    "rocprof_sys": "profile with py-spy or perf on the worker's pid",
    "uv": "install the packages where the cluster is started",
    "worker_process_setup_hook": "call the function at the start of the task",
}


class RuntimeEnv(dict[str, Any]):
    """The environment that tasks and actors run in; a plain dict does as well.

    Args:
        env_vars: environment variables, strings to strings. What PYTHONPATH names can be imported.
        working_dir: a local directory. Tasks see a copy of it as their current directory, and can
            import from it. The copy is of the content at the first call of the function or class
            that names it; each `.options(runtime_env=…)` looks again. Tasks of equal content on a
            node share one copy, as in Ray: its files are read-only (not for root, whom modes do
            not bind), and what a task adds the others see. Write results elsewhere.
        excludes: patterns of what to leave out of `working_dir`: without a slash a name anywhere,
            with one a path from its top.

    Raises:
        NotSupportedYetError: a field of Ray's that is not built.
        TypeError, ValueError: a wrong value, or a directory that is not there.

    Example:
        >>> from freehold.runtime_env import RuntimeEnv
        >>> env = RuntimeEnv(env_vars={"GREETING": "hello"})
        >>> @freehold.remote(runtime_env=env)
        ... def greet():
        ...     import os
        ...     return os.environ["GREETING"]
        >>> freehold.get(greet.remote())
        'hello'
    """

    def __init__(
        self,
        *,
        env_vars: Mapping[str, str] | None = None,
        working_dir: str | os.PathLike[str] | None = None,
        excludes: Iterable[str] | None = None,
        **fields: Any,
    ) -> None:
        for name, value in fields.items():
            _refuse(name, value)
        super().__init__()
        if env_vars:
            self["env_vars"] = _checked_vars(env_vars)
        if working_dir is not None:
            self["working_dir"] = _checked_dir(working_dir)
        if excludes is not None:
            self["excludes"] = _checked_excludes(excludes)
            if working_dir is None:
                raise ValueError("runtime_env has excludes but no working_dir to leave them out of")

    def __reduce__(self) -> tuple[Any, ...]:
        # Not through the constructor: a directory is checked where it was written down.
        return _restore, (dict(self),)


def _restore(fields: dict[str, Any]) -> RuntimeEnv:
    env = RuntimeEnv()
    env.update(fields)
    return env


def _refuse(name: str, value: Any) -> None:
    if name in NOT_YET:
        if value is not None:
            raise NotSupportedYetError(feature=f"runtime_env field {name!r}", instead=NOT_YET[name])
        return
    raise ValueError(f"runtime_env has no field {name!r}{did_you_mean(name, FIELDS)}")


def _checked_vars(env_vars: Any) -> dict[str, str]:
    if not isinstance(env_vars, Mapping):
        raise TypeError(f"runtime_env env_vars must be a dict of strings, not {env_vars!r}")
    for name, value in env_vars.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(
                f"runtime_env env_vars must map strings to strings, not {name!r} to {value!r}"
            )
        if not name or "=" in name or "\0" in name + value:
            raise ValueError(f"runtime_env env_vars has {name!r}, which cannot name a variable")
    return dict(env_vars)


def _checked_dir(working_dir: Any) -> str:
    from pathlib import Path  # here: most programs name no directory

    if not isinstance(working_dir, (str, os.PathLike)):
        raise TypeError(f"runtime_env working_dir must be a path, not {working_dir!r}")
    path = os.fspath(working_dir)
    if "://" in path or path.endswith((".zip", ".whl", ".jar")):
        raise NotSupportedYetError(
            feature=f"runtime_env working_dir {path!r}", instead="give a local directory"
        )
    directory = Path(path).expanduser().absolute()
    if not directory.is_dir():
        raise ValueError(f"runtime_env working_dir {path!r} is not a directory")
    return str(directory)


def _checked_excludes(excludes: Any) -> list[str]:
    if isinstance(excludes, str) or not isinstance(excludes, Iterable):
        raise TypeError(f"runtime_env excludes must be a list of patterns, not {excludes!r}")
    patterns = list(excludes)
    for pattern in patterns:
        if not isinstance(pattern, str) or not pattern.strip("/"):
            raise TypeError(f"runtime_env excludes has {pattern!r}; patterns are strings")
        if pattern.startswith("!"):
            raise ValueError(f"runtime_env excludes has {pattern!r}; list what to leave out alone")
    return patterns


def prepare(core: Core, env: RuntimeEnv | None) -> str:
    """The hash of the environment for a call's options; makes it known to the core when new.

    Raises:
        ValueError: the directory is gone, or too large.
    """
    inherited = state.inherited
    if not env:
        return inherited.env
    return adopt(core, env).env


def adopt(core: Core, env: RuntimeEnv) -> state.Inherited:
    """The environment with what it inherits: variables are merged, a directory replaces."""
    inherited = state.inherited
    env_vars = {**inherited.env_vars, **env.get("env_vars", {})}
    working_dir = inherited.working_dir
    if "working_dir" in env:
        working_dir = _staged(core, env["working_dir"], tuple(env.get("excludes", ())))
    key = (tuple(sorted(env_vars.items())), working_dir)
    known = state.prepared_envs.get(key)
    if known is None:
        known = core.prepare_env(env_vars, working_dir)
        state.prepared_envs[key] = known
    return state.Inherited(known, env_vars, working_dir)


def _staged(core: Core, path: str, excludes: tuple[str, ...]) -> str:
    import time

    from freehold._api.working_dir import scan, signature, stage

    now_ns = time.time_ns()
    entries = scan(path, excludes)
    seen = signature(entries, now_ns)
    known = state.staged_dirs.get((path, excludes))
    if known is not None and known[0] == seen:
        return known[1]
    staged = stage(path, excludes, os.path.join(core.session_dir, "working_dirs"), entries)
    if seen is not None:
        state.staged_dirs[path, excludes] = seen, staged
    return staged
