"""The operator's settings: `FREEHOLD_OPERATOR_…` variables, read once, checked as a whole."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from freehold_operator.errors import SettingsError

PREFIX = "FREEHOLD_OPERATOR_"


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an installation decides."""

    namespaces: tuple[str, ...] = ()
    """Namespaces to look after, separated by commas; none named: all of them."""

    runtime_image: str = "freehold/runtime:0.1.0"
    """Image of clusters that name none; the chart sets it to the one it was released with."""

    port: int = 8080
    """Port of /healthz, /readyz and /metrics."""

    host: str = ""
    """Address that port is bound to; empty is all of them, because probes come from the machine."""

    head_address: str = ""
    """Where all clusters' control services are reached, HOST:PORT, for an operator outside of
    Kubernetes; empty: at their pods' addresses."""

    head_period_ms: int = 250
    """How often a head reports at most, in milliseconds: half a second is left of the one in which
    a longer queue is to become a pod."""

    workers: int = 8
    """Objects reconciled at the same time, so that a large one does not hold up the rest."""

    creates_at_once: int = 16
    """Pods of one cluster created at the same time."""

    look_s: float = 15.0
    """Seconds between looks whether the watches miss something: a list of names and versions alone.
    """

    resync_s: float = 300.0
    """Seconds between full lists that replace the cache. Watches tell of changes; this is for what
    they lost."""

    stale_s: float = 60.0
    """Seconds a watch may lag behind a list before the operator reports itself ill (DESIGN §8)."""

    request_timeout_s: float = 30.0
    """Seconds an API call may take."""

    log_level: str = "info"
    """debug, info, warning or error."""

    log_format: str = "text"
    """text, or json for log collectors."""


def _convert(name: str, text: str) -> Any:
    if name == "namespaces":
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def _check(settings: Settings) -> None:
    positive = ("workers", "creates_at_once", "look_s", "resync_s", "stale_s", "request_timeout_s")
    for name in (*positive, "head_period_ms"):
        if getattr(settings, name) <= 0:
            raise SettingsError(f"{PREFIX}{name.upper()} must be above 0")
    if settings.log_level not in ("debug", "info", "warning", "error"):
        raise SettingsError(f"{PREFIX}LOG_LEVEL must be debug, info, warning or error")
    if settings.log_format not in ("text", "json"):
        raise SettingsError(f"{PREFIX}LOG_FORMAT must be text or json")
    if not 0 <= settings.port < 65536:
        raise SettingsError(f"{PREFIX}PORT must be a port number; 0 takes a free one")
    if not settings.runtime_image:
        raise SettingsError(f"{PREFIX}RUNTIME_IMAGE must name an image")


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings from the environment.

    Raises:
        SettingsError: an unknown key, or a value that is not allowed; the message names it.
    """
    given = os.environ if environment is None else environment
    known = {field.name for field in msgspec.structs.fields(Settings)}
    values: dict[str, Any] = {}
    for key, text in given.items():
        if not key.startswith(PREFIX):
            continue
        name = key.removeprefix(PREFIX).lower()
        if name not in known:
            allowed = ", ".join(sorted(f"{PREFIX}{n.upper()}" for n in known))
            raise SettingsError(f"unknown setting {key}: remove it, or use one of {allowed}")
        values[name] = _convert(name, text)
    try:
        settings = msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"settings {PREFIX}…: {error}") from None
    _check(settings)
    return settings


def kubeconfig() -> str | None:
    """The kubeconfig that KUBECONFIG names; the client itself reads that when it is imported."""
    return os.environ.get("KUBECONFIG")


def in_cluster(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the operator runs in a pod."""
    return "KUBERNETES_SERVICE_HOST" in (os.environ if environment is None else environment)
