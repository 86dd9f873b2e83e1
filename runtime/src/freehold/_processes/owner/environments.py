"""Runtime environments as their users name them: by the hash of what they are.

The description is left in the cluster's folder, so that a worker of the environment can tell its
own tasks what they inherit; other nodes ask this one for it when they are to run something in it.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from freehold._core import messages as m
from freehold._io.session import write_environment

if TYPE_CHECKING:
    from freehold._processes.owner.cluster import ClusterCore


def prepare(core: ClusterCore, env_vars: dict[str, str], working_dir: str) -> str:
    """Make an environment known to the node; its hash.

    Args:
        working_dir: a copy in the cluster's folder, whose name is its content's hash; or "".
    """
    environment = msgspec.structs.replace(
        core.job,
        env_vars=dict(sorted(env_vars.items())),
        working_dir=working_dir,
        package=os.path.basename(working_dir),
    )
    env = blake2b(msgspec.json.encode(environment), digest_size=8).hexdigest()
    environment = msgspec.structs.replace(environment, env=env)
    write_environment(core.session_dir, environment)
    with core.reactor.lock:
        core.check_alive()
        core.owner.outbox.ask_node(m.PrepareEnv(environment))
        core.carry_out()
    return env
