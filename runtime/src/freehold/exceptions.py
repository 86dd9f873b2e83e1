"""Ray's path for the errors: ``freehold.exceptions.X is freehold.errors.X``; nothing of its own."""

from __future__ import annotations

from freehold.errors import *  # noqa: F403
from freehold.errors import __all__ as __all__
