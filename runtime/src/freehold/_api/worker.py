"""What the zygote runs in a forked worker: the worker's service, with the public API attached to
it.

Kept apart from the service so that the processes know nothing of the API they serve.
"""

from __future__ import annotations

from typing import NoReturn

from freehold._api.state import Inherited, set_core
from freehold._io.session import read_environment
from freehold._io.zygote_protocol import WorkerStart
from freehold._processes.worker.service import WorkerCore
from freehold._processes.worker.service import run_worker as run_service


def run_worker(start: WorkerStart) -> NoReturn:
    """Be a worker until told to end; in a freshly forked process."""
    run_service(start, _attach)


def _attach(core: WorkerCore, env: str) -> None:
    """Serve user code in this process, and tell its tasks which environment they inherit."""
    inherited = Inherited()
    if env:
        environment = read_environment(core.session_dir, env)
        inherited = Inherited(env, environment.env_vars, environment.working_dir)
        core.be_of(environment)
    set_core(core, inherited)
