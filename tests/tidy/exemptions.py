"""What may break a tidy rule, each with its reason. An entry no longer needed fails its test."""

from __future__ import annotations

# "path::qualified name" of functions with more than 6 parameters.
MANY_PARAMETERS: dict[str, str] = {
    "runtime/src/freehold/_api/init.py::init": "Ray's own arguments, by keyword",
    "runtime/src/freehold/testing/_local.py::LocalCluster.__init__": "by keyword, for tests",
    "runtime/src/freehold/kubernetes/_cluster.py::FuturesCluster.__init__": "a user's, by keyword",
    "runtime/src/freehold/kubernetes/_job.py::FuturesJob.submit": "a user's, by keyword",
}

# "path::qualified name" of functions longer than 70 lines.
LONG_FUNCTIONS: dict[str, str] = {}

# Files outside settings.py that touch the process's environment.
ENVIRONMENT: dict[str, str] = {
    "runtime/src/freehold/_io/zygote.py": "puts variables back after a fork",
    "runtime/src/freehold/_io/zygote_spawn.py": "hands the environment to exec",
}

# Modules that no other module imports, beside entry points and public paths.
UNIMPORTED: dict[str, str] = {
    "runtime/src/freehold/_api/worker.py": "named by the setting `worker`, run by the zygote",
    "runtime/src/freehold/cli/job.py": "sub-commands are found by pkgutil",
    "runtime/src/freehold/cli/drain.py": "sub-commands are found by pkgutil",
    "runtime/src/freehold/cli/settings.py": "sub-commands are found by pkgutil",
    "runtime/src/freehold/cli/start.py": "sub-commands are found by pkgutil",
    "runtime/src/freehold/cli/status.py": "sub-commands are found by pkgutil",
    "runtime/src/freehold/cli/stop.py": "sub-commands are found by pkgutil",
}
