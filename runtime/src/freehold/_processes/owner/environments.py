"""Runtime environments as their users name them: by the hash of what they are.

The description is left in the cluster's folder, so that a worker of the environment can tell its
own tasks what they inherit.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from freehold._core import messages as m

if TYPE_CHECKING:
    from freehold._processes.owner.cluster import ClusterCore

_FOLDER = "environments"


class Description(msgspec.Struct):
    """What makes an environment; `working_dir` is a copy whose path has its content's hash."""

    env_vars: dict[str, str]
    working_dir: str = ""


def prepare(core: ClusterCore, env_vars: dict[str, str], working_dir: str) -> str:
    """Make an environment known to the node; its hash."""
    description = Description(dict(sorted(env_vars.items())), working_dir)
    text = msgspec.json.encode(description)
    env = blake2b(text, digest_size=8).hexdigest()
    folder = os.path.join(core.session_dir, _FOLDER)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    draft = os.path.join(folder, f"{env}.{os.getpid()}")
    with open(draft, "wb") as file:
        file.write(text)
    os.replace(draft, os.path.join(folder, f"{env}.json"))
    with core.reactor.lock:
        core.check_alive()
        core.owner.outbox.ask_node(m.PrepareEnv(env, description.env_vars, working_dir))
        core.carry_out()
    return env


def describe(session_dir: str, env: str) -> Description:
    """The environment of a hash, from inside it."""
    with open(os.path.join(session_dir, _FOLDER, f"{env}.json"), "rb") as file:
        return msgspec.json.decode(file.read(), type=Description)
