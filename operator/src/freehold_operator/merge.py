"""A user's pod template over the operator's: the user's values win, but for the few refused here.

Lists of named things (containers, volumes, environment variables, ports) merge by name, mounts by
path; any other list is replaced. A value of null removes a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from freehold_operator import names

_MERGE_KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "ports": "name",
    "imagePullSecrets": "name",
    "volumeMounts": "mountPath",
    "topologySpreadConstraints": "topologyKey",
}
_ADDED_LISTS = frozenset({"tolerations"})

_REFUSED_SPEC: Mapping[str, str] = {
    "hostNetwork": "the runtime's ports would be the machine's",
    "hostPID": "workers find their own processes by id",
    "hostIPC": "pods share no memory",
    "restartPolicy": "a worker that ended is replaced by a new pod, a head restarted",
    "terminationGracePeriodSeconds": "it follows drain.timeoutSeconds: set that",
    "automountServiceAccountToken": "head, worker and driver pods have no API token",
    "enableServiceLinks": "its variables would be read as settings",
    "nodeName": "the scheduler has to place the pod: use nodeSelector or affinity",
    "subdomain": "the operator names pods and Services",
    "hostname": "the operator names pods and Services",
}
_REFUSED_ENV = frozenset(
    {
        "FREEHOLD_ADDRESS",
        "FREEHOLD_AUTH_DIR",
        "FREEHOLD_CA_DIR",
        "FREEHOLD_CLUSTER",
        "FREEHOLD_CLUSTER_NAME",
        "FREEHOLD_DRAIN_TIMEOUT_S",
        "FREEHOLD_HOST",
        "FREEHOLD_LABELS",
        "FREEHOLD_MEMORY",
        "FREEHOLD_NODE_NAME",
        "FREEHOLD_NUM_CPUS",
        "FREEHOLD_NUM_GPUS",
        "FREEHOLD_OBJECT_STORE_MEMORY",
        "FREEHOLD_RESOURCES",
        "FREEHOLD_SECOND_ADDRESS",
        "FREEHOLD_STATE_DIR",
    }
)
_RESERVED_LABELS = (names.LABEL_NAME, names.LABEL_MANAGED_BY)


def merged(base: Any, over: Any, key: str = "") -> Any:
    """`over` over `base`, neither of them changed."""
    if isinstance(base, dict) and isinstance(over, Mapping):
        found = {k: v for k, v in base.items() if k not in over or over[k] is not None}
        for name, value in over.items():
            if value is not None:
                found[name] = merged(base[name], value, name) if name in base else value
        return found
    if isinstance(base, list) and isinstance(over, list | tuple):
        if key in _ADDED_LISTS:
            return [*base, *over]
        if key in _MERGE_KEYS:
            return _merged_list(base, list(over), _MERGE_KEYS[key])
    return over


def _merged_list(base: list[Any], over: list[Any], by: str) -> list[Any]:
    def name(item: Any) -> Any:
        return item.get(by) if isinstance(item, Mapping) else None

    theirs = {name(item): item for item in over if name(item) is not None}
    found = [merged(item, theirs[name(item)]) if name(item) in theirs else item for item in base]
    ours = {name(item) for item in base}
    return found + [item for item in over if name(item) is None or name(item) not in ours]


def allowed(template: Mapping[str, Any], path: str) -> tuple[dict[str, Any], list[str]]:
    """A user's template without what is refused, and a sentence for each thing that was.

    Args:
        template: `{metadata: {labels, annotations}, spec: PodSpec}`, each part optional.
        path: where it stands in the custom resource, for the sentences.
    """
    refused: list[str] = []
    spec = dict(template.get("spec") or {})
    for key, why in _REFUSED_SPEC.items():
        if spec.pop(key, None) not in (None, False):
            refused.append(f"{path}.spec.{key}: {why}")
    spec["containers"] = [
        _allowed_container(c, f"{path}.spec.containers[{c.get('name')}]", refused)
        for c in spec.get("containers") or ()
    ]
    metadata = template.get("metadata") or {}
    kept: dict[str, dict[str, str]] = {}
    for part in ("labels", "annotations"):
        kept[part] = {}
        for key, value in (metadata.get(part) or {}).items():
            is_ours = key.startswith(f"{names.GROUP}/") or key in _RESERVED_LABELS
            if (is_ours and part == "labels") or key.startswith(f"{names.GROUP}/"):
                refused.append(f"{path}.metadata.{part}[{key}]: it is the operator's")
            else:
                kept[part][key] = value
    for key in ("name", "generateName", "namespace", "ownerReferences", "finalizers"):
        if metadata.get(key):
            refused.append(f"{path}.metadata.{key}: it is the operator's")
    return {"metadata": kept, "spec": spec}, refused


def _allowed_container(
    container: Mapping[str, Any], path: str, refused: list[str]
) -> dict[str, Any]:
    found = dict(container)
    if found.get("name") != names.CONTAINER or not found.get("env"):
        return found
    for variable in found["env"]:
        if variable.get("name") in _REFUSED_ENV:
            refused.append(f"{path}.env[{variable['name']}]: it follows the spec's own fields")
    found["env"] = [v for v in found["env"] if v.get("name") not in _REFUSED_ENV]
    return found


def is_part(wanted: Any, live: Any) -> bool:
    """Whether everything that is wanted holds; the server may have added defaults."""
    if isinstance(wanted, Mapping):
        return isinstance(live, Mapping) and all(
            key in live and is_part(value, live[key]) for key, value in wanted.items()
        )
    if isinstance(wanted, list | tuple):
        return (
            isinstance(live, list | tuple)
            and len(wanted) == len(live)
            and all(is_part(*pair) for pair in zip(wanted, live, strict=True))
        )
    return bool(wanted == live)
