"""`freehold-operator`: the process. Settings are resolved here, once."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import NoReturn

from freehold_operator import log, settings
from freehold_operator.app import App, MakeKube, make_kube
from freehold_operator.errors import SettingsError


async def _run(given: settings.Settings, make: MakeKube) -> NoReturn:
    try:
        code = await App(given, make).run()
    except SettingsError as error:
        logging.getLogger(__name__).error("%s", error)
        code = 2
    logging.shutdown()
    # Not by `asyncio.run`'s way out, which waits for kopf to put its affairs in order: seconds, for
    # nothing that anybody needs.
    os._exit(code)


def main(make: MakeKube = make_kube) -> int:
    """Run the operator. Returns an exit code only if it could not start; else the process ends."""
    try:
        given = settings.load()
    except SettingsError as error:
        print(f"freehold-operator: {error}", file=sys.stderr)  # noqa: T201 — no logging yet
        return 2
    log.setup(given.log_level, given.log_format)
    return asyncio.run(_run(given, make))


if __name__ == "__main__":
    sys.exit(main())
