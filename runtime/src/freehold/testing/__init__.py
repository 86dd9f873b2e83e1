"""A test kit: clusters of several nodes on one machine, and waiting for what must come true.

`LocalCluster` has its nodes side by side, and the test's process as the driver. `NamespaceCluster`
has each in a network namespace of its own, started as on machines, so that the network between them
can be slow, lossy, or cut.
"""

from __future__ import annotations

from freehold.testing._local import LocalCluster
from freehold.testing._namespaces import NamespaceCluster
from freehold.testing._waiting import eventually

__all__ = ["LocalCluster", "NamespaceCluster", "eventually"]
