"""Logging: one line an event, with milliseconds, as text or JSON; and the log of decisions.

A decision's line names the object, the action and why, so that "why was this pod deleted" is
answered by a search for its name.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

DECISIONS = logging.getLogger("freehold_operator.decisions")


def _time(record: logging.LogRecord) -> str:
    at = datetime.fromtimestamp(record.created, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        words = [_time(record), record.levelname.lower(), record.name, record.getMessage()]
        words += [f"{key}={_quoted(value)}" for key, value in fields.items()]
        if record.exc_info:
            words.append("\n" + self.formatException(record.exc_info))
        return " ".join(words)


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        found: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            found["error"] = self.formatException(record.exc_info)
        return json.dumps(found, default=str)


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text) if " " in text or '"' in text or not text else text


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """kopf reports each try of each watch as an error; what fails is said once by the lists."""
    return not (record.name.startswith("kopf") and "will retry" in record.getMessage())


def setup(level: str, format_: str) -> None:
    """Send all logging to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if format_ == "json" else _Text())
    if level != "debug":
        handler.addFilter(_is_worth_saying)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Its own lines about every watch and object are of use to its developers.
    logging.getLogger("kopf").setLevel(logging.WARNING if level != "debug" else logging.INFO)
    logging.getLogger("aiohttp").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def decision(about: str, action: str, what: str, why: str, **more: Any) -> None:
    """Log what was decided, about which custom resource, and why."""
    fields = {"about": about, "action": action, "what": what, **more, "why": why}
    DECISIONS.info("decided", extra={"fields": fields})
