"""The runtime environments of one node, and their zygotes: one each, started when first needed.

The environment "" is the starter's own; its zygote is exec'ed before the node process imports
anything else, and replaced when it dies. Others are exec'ed with their variables set. A zygote that
cannot import what it must fails the starts that wait for it, with what it wrote.

Nobody announces an environment to other nodes: one that gets a demand for an environment that it
does not know asks the node of the demand's owner, which has it, since the owner runs there. So
nothing has to be kept in step, and a node that joins late lacks nothing. An environment of a job
ends with the job's driver, as soon as no worker runs in it: until then a detached actor, which
outlives the driver, has its tasks run in it. A restart of the actor brings the environment along.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import msgspec

from freehold._core import messages as m
from freehold._core.ids import Address
from freehold._io.session import write_environment
from freehold._io.zygote_client import ZygoteClient, ZygoteListener
from freehold._io.zygote_protocol import Configure
from freehold._io.zygote_spawn import Spawned, spawn
from freehold._processes.node.hub import Handler, Hub
from freehold._processes.node.packages import Packages
from freehold._processes.node.settings import (
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


GONE_DRIVERS = 4096
"""Ended processes that are remembered, so that an environment which comes back with a detached
actor is known to be of a job that has ended."""

ENV_ANSWER_S = 10.0
"""Seconds until a node that was asked for an environment is taken to have no answer."""


class Environments:
    """Runtime environments known to this node, and their zygotes."""

    def __init__(
        self,
        hub: Hub,
        sys_path: list[str],
        session_path: str,
        remove_path: str,
        descriptors: tuple[int, int],
    ) -> None:
        self._hub = hub
        self._reactor = hub.reactor
        self._settings = hub.settings
        self._sys_path = sys_path
        self._session_path = session_path
        self._remove_path = remove_path
        self._lifeline_fd, self._arena_fd = descriptors
        self._restored = thread_pool_variables()
        self.packages = Packages(hub, session_path)
        self._known: dict[str, m.Environment] = {}
        self._wanted: dict[str, list[Callable[[str], None]]] = {}
        """Environments on their way here, and whom to tell when they have come."""
        self._ended: set[str] = set()
        """Environments of jobs that have ended: they go when nothing runs in them any more, and
        nothing is started in them, …"""
        self._outlived: set[str] = set()
        """… but in these, where a detached actor is to live, or has something to run."""
        self._gone: dict[Address, None] = {}
        """The last `GONE_DRIVERS` processes that ended, drivers among them."""
        self._zygotes: dict[str, ZygoteClient] = {}

    def handlers(self) -> dict[type, Handler]:
        """The messages that are about environments."""
        return {
            m.PrepareEnv: lambda source, message: self.prepare(message.environment, source.node),
            m.EnvWanted: self._on_wanted,
            m.EnvFailed: lambda source, message: self._arrived(message.env, message.reason),
            **self.packages.handlers(),
        }

    def get(self, env: str) -> m.Environment | None:
        """What is known of an environment."""
        return self._known.get(env)

    def driver_of(self, env: str) -> Address | None:
        """The driver of the job that an environment is of."""
        known = self._known.get(env)
        return known.driver if known is not None else None

    # ---- getting to know -------------------------------------------------------------------------

    def prepare(self, environment: m.Environment, node: str) -> None:
        """Know an environment by its hash; `node` has its files."""
        env = environment.env
        if environment.driver in self._gone:
            self._ended.add(env)
            self._outlived.add(env)
        if env in self._known:
            return
        if environment.package:
            path = self.packages.path(environment.package)
            environment = msgspec.structs.replace(environment, working_dir=path)
        if node != self._hub.node:
            write_environment(self._session_path, environment)
        self._known[env] = environment
        if environment.package and node != self._hub.node:
            self._wanted.setdefault(env, [])
            self.packages.fetch(environment.package, node, lambda error: self._arrived(env, error))
        else:
            self._arrived(env, "")

    def want(self, env: str, node: str) -> None:
        """Something is to run in this environment: ask `node` for it unless it is known."""
        if env in self._ended:
            self._outlived.add(env)
        if not env or env in self._known or env in self._wanted or node == self._hub.node:
            return
        self._wanted[env] = []
        if not self._hub.send(Address(node, 0), m.EnvWanted(env)):
            reason = f"node {node[:8]} cannot be reached"
            self._reactor.call_later(0, lambda: self._arrived(env, reason))
            return
        reason = f"node {node[:8]} did not say what it is within {ENV_ANSWER_S:g} s"
        self._reactor.call_later(ENV_ANSWER_S, lambda: self._give_up(env, reason))

    def when_ready(self, env: str, then: Callable[[str], None]) -> None:
        """Call `then("")` when workers can be started in an environment, or with why not."""
        if env in self._ended - self._outlived:
            then(f"the job of runtime environment {env} has ended")
        elif env in self._wanted:
            self._wanted[env].append(then)
        elif not env or env in self._known:
            then("")
        else:
            then(f"runtime environment {env} was never prepared")

    def _on_wanted(self, source: Address, message: m.EnvWanted) -> None:
        known = self._known.get(message.env)
        if known is not None and message.env not in self._wanted:
            self._hub.send(source, m.PrepareEnv(known))
        else:
            reason = f"node {self._hub.node[:8]} does not know runtime environment {message.env}"
            self._hub.send(source, m.EnvFailed(message.env, reason))

    def _give_up(self, env: str, reason: str) -> None:
        if env not in self._known:
            self._arrived(env, reason)

    def _arrived(self, env: str, error: str) -> None:
        if error:
            self._known.pop(env, None)  # whoever needs it next asks again
        for then in self._wanted.pop(env, ()):
            then(error)

    # ---- ends ------------------------------------------------------------------------------------

    def job_ended(self, driver: Address) -> None:
        """The driver of a job ended: its environments are needed by detached actors alone."""
        self._gone[driver] = None
        if len(self._gone) > GONE_DRIVERS:
            del self._gone[next(iter(self._gone))]
        for env, known in self._known.items():
            if known.driver == driver:
                self._ended.add(env)

    def dismiss_unused(self, in_use: set[str]) -> None:
        """Let the zygotes of ended jobs go in which no worker runs."""
        for env in self._ended - in_use:
            client = self._zygotes.pop(env, None)
            if client is not None:
                client.dismiss()
            self._known.pop(env, None)  # it may have been wanted in vain
        self._ended &= in_use
        self._outlived &= self._ended

    # ---- zygotes ---------------------------------------------------------------------------------

    def add(self, spawned: Spawned, listener: ZygoteListener) -> ZygoteClient:
        """Take over the zygote of the starter's own environment."""
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
