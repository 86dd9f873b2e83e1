"""What `helm test` runs: a suspended FuturesCluster gets its status from the operator, and goes.

It has no pods, so it costs nothing and needs no image; yet for its status the CRDs must be served,
the operator ready, its rights sufficient and its watch alive.
"""

from __future__ import annotations

import os
import sys
import time

from kubernetes import client, config

GROUP = ("freehold.dev", "v1alpha1")
TIMEOUT_S = 60.0


def main() -> int:
    """Create it, wait for its condition Suspended, delete it."""
    namespace, name = os.environ["TEST_NAMESPACE"], os.environ["TEST_NAME"]
    config.load_incluster_config()
    api = client.CustomObjectsApi()
    where = (*GROUP, namespace, "futuresclusters")
    manifest = {
        "apiVersion": "/".join(GROUP),
        "kind": "FuturesCluster",
        "metadata": {"name": name},
        "spec": {"suspend": True, "workerGroups": [{"name": "workers"}]},
    }
    api.create_namespaced_custom_object(*where, manifest)
    conditions: list[dict[str, str]] = []
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            found = api.list_namespaced_custom_object(
                *where, field_selector=f"metadata.name={name}"
            )
            conditions = found["items"][0].get("status", {}).get("conditions", [])
            if any(one["type"] == "Suspended" and one["status"] == "True" for one in conditions):
                sys.stdout.write("the operator has seen a FuturesCluster and written its status\n")
                return 0
            time.sleep(0.5)
    finally:
        api.delete_namespaced_custom_object(*where, name)
    sys.stderr.write(
        f"no condition Suspended=True within {TIMEOUT_S:g} s, only {conditions}: look at the"
        " operator's log\n"
    )
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
