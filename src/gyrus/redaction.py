"""Addresses, command lines and configs without the passwords and tokens in them.

Everything that is stored or shown goes through here; only the library that opens a connection gets the secret.
"""

from __future__ import annotations

import re
import sys
from typing import Any

HIDDEN = "***"
"""What stands in place of a secret."""

_USER_AND_PASSWORD = re.compile(r"(\w[\w+.-]*://)([^\s:/@?#]*):(?!\d+(?:[/?#]|\s|$))\S*@")
_TOKEN_AS_USER = re.compile(r"\b(https?://)[^\s:/@?#]+@", re.IGNORECASE)
_NAMED = re.compile(
    r"((?<![\w-])[\w.-]*(?:password|passwd|pwd|secret|token|api[_-]?key|access[_-]?key|credential|signature|authorization)"
    r"(?:\[\w*\])?=)(?:\"[^\"]*\"|'[^']*'|[^\s&;#,'\"]+)",
    re.IGNORECASE,
)
_SHORT_NAMED = re.compile(r"([?&;](?:sig|key|auth|pass|pw|code)=)[^\s&;#]+", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """A text in which passwords and tokens are replaced by :data:`HIDDEN`.

    Found are ``scheme://user:secret@host``, ``https://secret@host``, and assignments to names such as ``password``,
    ``token`` and ``api_key``, in a query string or elsewhere.
    """
    text = _USER_AND_PASSWORD.sub(rf"\1\2:{HIDDEN}@", text)
    text = _TOKEN_AS_USER.sub(rf"\1{HIDDEN}@", text)
    return _SHORT_NAMED.sub(rf"\1{HIDDEN}", _NAMED.sub(rf"\1{HIDDEN}", text))


def document_without_secrets(value: Any) -> Any:
    """A JSON-able value in which every text is without secrets."""
    if isinstance(value, dict):
        return {key: document_without_secrets(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [document_without_secrets(item) for item in value]
    return without_secrets(value) if isinstance(value, str) else value


def command_line() -> list[str]:
    """The words of the command that is running, to be stored: without secrets."""
    return [without_secrets(word) for word in sys.argv]


def has_hidden_secret(address: str) -> bool:
    """Whether the address was stored without its secret, so that it cannot be used."""
    return f":{HIDDEN}@" in address or f"//{HIDDEN}@" in address or f"={HIDDEN}" in address
