"""Requests that are not answered, as HTTP reports them."""

from __future__ import annotations

from gyrus.errors import GyrusError


class RequestError(GyrusError):
    """A request that is not answered.

    Attributes:
        status: The HTTP status.
        retry_after: Seconds after which the same request may succeed; None if it will not.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


def busy(what: str) -> RequestError:
    """The server has no room for a request now."""
    return RequestError(503, f"The server is busy: {what}. Send the request again in a few seconds.", retry_after=5)
