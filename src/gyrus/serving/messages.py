"""Messages between the server and its workers: JSON with its length before it.

Not pickle: a worker decodes files of strangers, and the server must not run what a worker sends.
"""

from __future__ import annotations

import json
import struct
from typing import IO, Any

LENGTH = struct.Struct(">Q")
LARGEST = 4 << 30
"""Bytes of a message."""


def pack(message: dict[str, Any]) -> bytes:
    """A message as bytes."""
    body = json.dumps(message, separators=(",", ":")).encode()
    return LENGTH.pack(len(body)) + body


def read_message(stream: IO[bytes]) -> dict[str, Any] | None:
    """The next message of a stream; None at its end."""
    start = stream.read(LENGTH.size)
    if len(start) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(start)
    body = stream.read(length)
    if len(body) < length:
        return None
    found: dict[str, Any] = json.loads(body)
    return found
