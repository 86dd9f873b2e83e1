"""What a call of the API server, or of a head, can end with."""

from __future__ import annotations


class OperatorError(Exception):
    """The root of the operator's own errors."""


class ApiError(OperatorError):
    """The API server refused a call.

    Attributes:
        status: of HTTP; 0 if there was no answer.
        reason: Kubernetes' word for it: NotFound, AlreadyExists, Conflict, Forbidden, Invalid, …
        message: the server's own words.
        retry_after_s: how long it asks to be left alone.
    """

    def __init__(
        self, status: int, reason: str, message: str, retry_after_s: float | None = None
    ) -> None:
        super().__init__(f"{reason} ({status}): {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s

    @property
    def is_absent(self) -> bool:
        """There is no such object."""
        return self.status == 404

    @property
    def is_conflict(self) -> bool:
        """It is there already, or is not the one that was meant."""
        return self.status == 409

    @property
    def is_refusal(self) -> bool:
        """The same call will be refused again until somebody changes something: quota, admission,
        validation."""
        return self.status in (400, 403, 422)


class ApiUnreachableError(ApiError):
    """The API server did not answer. Whether the call was carried out is not known."""

    def __init__(self, message: str) -> None:
        super().__init__(0, "Unreachable", message)


class HeadError(OperatorError):
    """A cluster's control service did not do what it was asked for."""


class SettingsError(OperatorError):
    """A setting is unknown or has a value that is not allowed."""
