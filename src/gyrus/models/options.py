"""Options of models and heads: typed, strict, every mistake reported at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from gyrus.errors import ConfigError
from gyrus.registry import nearest

Item = TypeVar("Item", bound=int | float | str)


class ModelOptions(BaseModel):
    """What can be set about a model or a head. Values only, checked when made, never changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


OptionsType = TypeVar("OptionsType", bound=ModelOptions)


def complete(defaults: OptionsType, given: Mapping[str, Any], owner: str) -> OptionsType:
    """The defaults with what was given put in their place.

    Args:
        defaults: A preset.
        given: Option name to value, as a config file has it.
        owner: Whose options they are, for the message: "model 'convnext'".

    Raises:
        ConfigError: Names all unknown options, with the nearest known name, and all wrong values.
    """
    try:
        return type(defaults).model_validate({**defaults.model_dump(), **given})
    except ValidationError as error:
        known = list(type(defaults).model_fields)
        mistakes = _describe(error, given, known)
        raise ConfigError(f"ModelOptions of {owner}: {'; '.join(mistakes)}. Known: {', '.join(known)}.") from error


def each(value: Item | tuple[Item, ...], count: int, name: str) -> tuple[Item, ...]:
    """One value for each of ``count`` parts: a tuple of that length as it is, a single value repeated.

    Raises:
        ConfigError: A tuple of another length.
    """
    if not isinstance(value, tuple):
        return (value,) * count
    if len(value) != count:
        raise ConfigError(f"`{name}` must be one value or {count} of them, got {len(value)}: {list(value)}.")
    return value


def _describe(error: ValidationError, given: Mapping[str, Any], known: list[str]) -> list[str]:
    """One sentence a field: a field that takes several forms fails in each of them."""
    found: dict[str, list[str]] = {}
    for mistake in error.errors():
        found.setdefault(str(mistake["loc"][0]), []).append(mistake["msg"])
    sentences = []
    for name, messages in found.items():
        if name in known:
            sentences.append(f"`{name}` {given[name]!r}: {' / '.join(dict.fromkeys(messages))}")
        else:
            suggestion = nearest(name, known)
            sentences.append(f"there is no option '{name}'" + (f", did you mean '{suggestion}'?" if suggestion else ""))
    return sentences


@contextmanager
def told_by_pydantic() -> Iterator[None]:
    """Turn our errors about a config into the kind that pydantic collects and tells all at once."""
    try:
        yield
    except ConfigError as error:
        raise ValueError(str(error)) from error
