"""Look a name up in an explicit table, and help whoever misspelt it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from gyrus.errors import UnknownNameError

Value = TypeVar("Value")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name most like ``name``, or None where none is near."""
    matches = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return matches[0] if matches else None


def look_up(name: str, table: Mapping[str, Value], kind: str) -> Value:
    """The value that ``table`` holds under ``name``.

    Args:
        name: What the user asked for.
        table: An explicit table, name to value.
        kind: What the table holds, in the singular, for the message: "model", "loss".

    Raises:
        UnknownNameError: ``name`` is not in the table; the message has the nearest name and the whole list.

    Example:
        >>> look_up("adamw", {"adamw": 1, "sgd": 2}, "optimiser")
        1
    """
    if name in table:
        return table[name]
    suggestion = nearest(name, table)
    hint = f" Did you mean '{suggestion}'?" if suggestion else ""
    raise UnknownNameError(f"There is no {kind} '{name}'.{hint} Known: {', '.join(table)}.")
