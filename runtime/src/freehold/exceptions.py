"""Ray's path for the errors: ``freehold.exceptions.X is freehold.errors.X``.

Four of Ray's names begin with ``Ray``. They are here, too, and here alone, so that a program which
catches ``ray.exceptions.RayTaskError`` ports by changing its import.
"""

from __future__ import annotations

from freehold.errors import *  # noqa: F403
from freehold.errors import ActorError, FreeholdError, FreeholdSystemError, TaskError
from freehold.errors import __all__ as __all__

RayError = FreeholdError
RayActorError = ActorError
RaySystemError = FreeholdSystemError
RayTaskError = TaskError
