"""What a server accepts, and how long and how much it works on it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from gyrus.errors import ConfigError
from gyrus.memory import memory_text


@dataclass(frozen=True)
class ServingLimits:
    """ServingLimits of a server.

    Attributes:
        bytes: Of the body of a request.
        files: In a request, those in archives included.
        unpacked_bytes: Of all files of a request, unpacked.
        seconds: To answer a request once a worker has begun.
        upload_seconds: To receive a request.
        waiting: Requests that are received, wait or are answered at the same time, for each worker.
        held_bytes: Of all requests together.
        batch: Requests that one pass of the networks answers together, at most.
        memory: Bytes of memory of a worker; None for half of what is available when the server starts.
    """

    bytes: int = 256 << 20
    files: int = 2000
    unpacked_bytes: int = 1 << 30
    seconds: float = 60.0
    upload_seconds: float = 60.0
    waiting: int = 32
    held_bytes: int = 1 << 30
    batch: int = 16
    memory: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and value <= 0:
                raise ConfigError(f"The limit '{field.name}' must be above 0, got {value}.")
        if self.memory is not None and self.memory < SMALLEST_MEMORY:
            raise ConfigError(
                f"A worker needs at least {memory_text(SMALLEST_MEMORY)} of memory, got {memory_text(self.memory)}."
            )


SMALLEST_MEMORY = 256 << 20
"""Bytes: Python, the libraries and a small network."""
