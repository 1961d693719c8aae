"""Frozen values of evaluation as JSON files, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from gyrus.errors import DataError
from gyrus.files import read_json, write_json

Value = TypeVar("Value")


def save_value(value: Any, path: Path, schema: str) -> None:
    """Write a dataclass of plain fields and other dataclasses as JSON, atomically.

    Args:
        value: What to write.
        path: Where.
        schema: What it is, with its version, as "gyrus.calibrator/1".
    """
    content = TypeAdapter(type(value)).dump_python(value, mode="json")
    write_json(Path(path), {"schema": schema, **content})


def load_value(kind: type[Value], path: Path, schema: str) -> Value:
    """Read what :func:`save_value` wrote.

    Raises:
        DataError: The file holds something else, another version of it, or is damaged.
    """
    content = read_json(Path(path))
    found = content.pop("schema", None) if isinstance(content, dict) else None
    if found != schema:
        raise DataError(f"{path} is not a file of schema {schema}; it says {found!r}. Make it again.")
    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"{path} is damaged: field '{where}': {first['msg']}. Make it again.") from error
