"""Overrides of a config as options of the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def set_options(overrides: Mapping[str, Any]) -> list[str]:
    """``--set NAME=VALUE`` for each field."""
    return [word for name, value in overrides.items() for word in ("--set", f"{name}={json.dumps(value)}")]
