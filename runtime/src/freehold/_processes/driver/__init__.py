"""The driver: a user's program, its core, and the node process it started."""

from __future__ import annotations

from freehold._processes.driver.service import DriverCore, start_driver

__all__ = ["DriverCore", "start_driver"]
