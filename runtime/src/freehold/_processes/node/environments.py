"""The zygotes of one node: one for each runtime environment, started when first needed.

The environment "" is the driver's own; its zygote is exec'ed before the node process imports
anything else, and replaced when it dies. Others are exec'ed with their variables set. A zygote that
cannot import what it must fails the starts that wait for it, with what it wrote.
"""

from __future__ import annotations

import os

from freehold._core.messages import PrepareEnv
from freehold._io.reactor import Reactor
from freehold._io.zygote_client import ZygoteClient, ZygoteListener
from freehold._io.zygote_protocol import Configure
from freehold._io.zygote_spawn import Spawned, spawn
from freehold._processes.node.settings import (
    NodeSettings,
    environment_with,
    thread_pool_variables,
)


def python_path(env_vars: dict[str, str], working_dir: str) -> list[str]:
    """The folders that an environment's PYTHONPATH names.

    The zygote sets its import path itself, so the interpreter's own reading of the variable is
    lost. An entry that is not absolute means the working directory, as at an interpreter's start.
    """
    entries = env_vars.get("PYTHONPATH", "").split(os.pathsep)
    return [os.path.join(working_dir, entry) for entry in entries if entry]


class Environments:
    """Runtime environments known to this node, and their zygotes."""

    def __init__(
        self,
        reactor: Reactor,
        settings: NodeSettings,
        sys_path: list[str],
        remove_path: str,
        descriptors: tuple[int, int],
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._sys_path = sys_path
        self._remove_path = remove_path
        self._lifeline_fd, self._arena_fd = descriptors
        self._restored = thread_pool_variables()
        self._known: dict[str, PrepareEnv] = {}
        self._zygotes: dict[str, ZygoteClient] = {}

    def prepare(self, env: PrepareEnv) -> bool:
        """Know an environment by its hash; False if it was known."""
        if env.env in self._known:
            return False
        self._known[env.env] = env
        return True

    def known(self) -> list[PrepareEnv]:
        """All environments but the driver's own."""
        return list(self._known.values())

    def is_known(self, env: str) -> bool:
        """Whether workers can be started in it."""
        return not env or env in self._known

    def add(self, spawned: Spawned, listener: ZygoteListener) -> ZygoteClient:
        """Take over the zygote of the driver's own environment."""
        return self._configure(spawned, "", listener)

    def zygote(self, env: str, listener: ZygoteListener) -> ZygoteClient:
        """The zygote of an environment, exec'ed now if there is none.

        Raises:
            OSError: it cannot be executed.
            KeyError: nobody prepared that environment.
        """
        client = self._zygotes.get(env)
        if client is not None and not client.is_closed:
            return client
        variables = environment_with(self._known[env].env_vars) if env else None
        return self._configure(spawn(self._sys_path, variables), env, listener)

    def forget(self, client: ZygoteClient) -> None:
        """A zygote is gone."""
        if self._zygotes.get(client.env) is client:
            del self._zygotes[client.env]

    def dismiss_all(self) -> list[int]:
        """Let all zygotes end, with their workers; their pids."""
        clients = list(self._zygotes.values())
        for client in clients:
            client.dismiss()
        return [client.pid for client in clients]

    def pids(self) -> list[int]:
        """The pids of the living zygotes."""
        return [client.pid for client in self._zygotes.values()]

    def _configure(self, spawned: Spawned, env: str, listener: ZygoteListener) -> ZygoteClient:
        client = ZygoteClient(spawned, self._reactor, listener, env)
        self._zygotes[env] = client
        prepared = self._known.get(env)
        paths = list(self._sys_path)
        working_dir = os.getcwd()
        if prepared is not None:
            if prepared.working_dir:
                working_dir = prepared.working_dir
            paths = [*python_path(prepared.env_vars, working_dir), *prepared.paths, *paths]
            if prepared.working_dir:
                paths.insert(0, working_dir)
        config = Configure(
            sys_path=paths,
            preload=list(self._settings.preload),
            worker=self._settings.worker,
            remove_path=self._remove_path,
            working_dir=working_dir,
            env_vars=prepared.env_vars if prepared is not None else {},
            restored=self._restored,
        )
        client.configure(config, self._lifeline_fd, self._arena_fd)
        return client
