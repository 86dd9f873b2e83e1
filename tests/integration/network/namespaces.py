"""Whether this machine can make network namespaces at all."""

from __future__ import annotations

import pytest

from freehold.testing._network import Network


def _why_not() -> str:
    try:
        Network().close()
    except RuntimeError as error:
        return str(error)
    return ""


_reason = _why_not()
needs_namespaces = pytest.mark.skipif(bool(_reason), reason=_reason)
"""For tests that are left out, with the reason, where the kernel lets this user make none."""
