"""`freehold-operator`: the process. Settings are resolved here, once."""

from __future__ import annotations

import asyncio
import sys

from freehold_operator import log, settings
from freehold_operator.app import App, MakeKube, make_kube
from freehold_operator.errors import SettingsError


async def _run(given: settings.Settings, make: MakeKube) -> int:
    return await App(given, make).run()


def main(make: MakeKube = make_kube) -> int:
    """Run the operator; its exit code."""
    try:
        given = settings.load()
    except SettingsError as error:
        print(f"freehold-operator: {error}", file=sys.stderr)  # noqa: T201 — no logging yet
        return 2
    log.setup(given.log_level, given.log_format)
    return asyncio.run(_run(given, make))


if __name__ == "__main__":
    sys.exit(main())
