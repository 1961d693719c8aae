"""Configs from files and from the command line: strict, typed, and with every mistake reported at once."""

from __future__ import annotations

import copy
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from gyrus.errors import ConfigError
from gyrus.files import write_text
from gyrus.redaction import document_without_secrets, without_secrets
from gyrus.registry import nearest

Model = TypeVar("Model", bound=BaseModel)

_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The loader in C is ten times as fast; not every build of PyYAML has it."""

Difference = tuple[str, Any, Any]
"""A dotted name and its value on either side; None where it is absent."""


class Section(BaseModel):
    """A section of a config: immutable, and unknown names are refused. Validators are built on first use."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def read_document(path: Path) -> dict[str, Any]:
    """Read a YAML or JSON file that holds a mapping.

    Raises:
        ConfigError: The file is missing, is not YAML or JSON, or holds something else.
    """
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except OSError as error:
        raise ConfigError(f"Cannot read the config {path}: {error.strerror or error}.") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is neither YAML nor JSON: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path} must hold fields with values, such as 'seed: 0', not {type(document).__name__}.")
    return document


def write_document(path: Path, config: BaseModel) -> None:
    """Write a config as YAML, atomically, including every default; without passwords."""
    write_text(path, yaml.safe_dump(stored_document(config), sort_keys=False, allow_unicode=True))


def stored_document(config: BaseModel) -> dict[str, Any]:
    """A config as plain values, as :func:`write_document` stores it: without the passwords in its addresses."""
    document: dict[str, Any] = document_without_secrets(config.model_dump(mode="json"))
    return document


def read_assignments(texts: Sequence[str]) -> dict[str, Any]:
    """Overrides of a config from the command line, by dotted name.

    Args:
        texts: Assignments such as ``training.epochs=5``; the value is YAML.

    Raises:
        ConfigError: A text is not of the form NAME=VALUE.

    Example:
        >>> read_assignments(["training.epochs=5", "model.name=timm:resnet18"])
        {'training.epochs': 5, 'model.name': 'timm:resnet18'}
    """
    overrides = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"'{text}' must have the form NAME=VALUE, for example training.epochs=5.")
        try:
            overrides[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"The value of '{text}' cannot be read as YAML: {error}") from error
    return overrides


def with_overrides(document: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``document`` with fields set by their dotted names.

    Args:
        document: Nested mappings and lists.
        overrides: Dotted name to value, as ``{"training.epochs": 5, "preprocessing.steps.1.size": [64, 64]}``.

    Raises:
        ConfigError: A name refers to a field of a value that has no fields.

    Example:
        >>> with_overrides({"training": {"epochs": 30}}, {"training.epochs": 5, "seed": 1})
        {'training': {'epochs': 5}, 'seed': 1}
    """
    result = copy.deepcopy(dict(document))
    for name, value in overrides.items():
        _assign(result, name.split("."), copy.deepcopy(value), name)
    return result


def overlaid(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of ``document`` with the fields of ``changes``; mappings are combined, other values are replaced.

    Example:
        >>> overlaid({"training": {"epochs": 30}, "seed": 0}, {"training": {"batch_size": 8}})
        {'training': {'epochs': 30, 'batch_size': 8}, 'seed': 0}
    """
    result = copy.deepcopy(dict(document))
    for name, value in changes.items():
        inner = result.get(name)
        both = isinstance(inner, Mapping) and isinstance(value, Mapping)
        result[name] = overlaid(inner, value) if both else copy.deepcopy(value)  # type: ignore[arg-type]
    return result


def parse(model: type[Model], document: Mapping[str, Any], *, where: str) -> Model:
    """Validate a document against a config class.

    Args:
        model: The config class.
        document: Nested mappings and lists.
        where: What is read, for the error message.

    Raises:
        ConfigError: Lists every mistake, with the nearest valid name for each unknown name.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        mistakes = list(dict.fromkeys(_describe(detail, model) for detail in error.errors()))
    count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    raise ConfigError(f"{where} has {count}:\n" + "\n".join(f"  - {mistake}" for mistake in mistakes))


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[Difference]:
    """The fields in which two nested documents differ, by their dotted names, in order.

    Lists of mappings of the same length are compared item by item.

    Example:
        >>> differences({"training": {"epochs": 5}, "seed": 0}, {"training": {"epochs": 9}, "seed": 0})
        [('training.epochs', 5, 9)]
    """
    found: list[Difference] = []
    for name in dict.fromkeys([*one, *other]):
        left, right = one.get(name), other.get(name)
        if _are_lists_of_mappings(left, right):
            left, right = _by_index(left), _by_index(right)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differences(left, right, f"{prefix}{name}.")
        elif left != right:
            found.append((f"{prefix}{name}", left, right))
    return found


def _by_index(items: Any) -> Any:
    return {str(index): item for index, item in enumerate(items)}


def _are_lists_of_mappings(left: Any, right: Any) -> bool:
    return (
        isinstance(left, list | tuple)
        and isinstance(right, list | tuple)
        and len(left) == len(right)
        and all(isinstance(item, Mapping) for item in [*left, *right])
    )


def _assign(node: Any, path: list[str], value: Any, override: str) -> None:
    for position, key in enumerate(path):
        last = position == len(path) - 1
        if isinstance(node, list):
            if not key.isdigit() or int(key) >= len(node):
                raise ConfigError(f"'{override}': '{key}' must be a number below {len(node)}, the length of the list.")
            index: Any = int(key)
        elif isinstance(node, dict):
            index = key
            if not last and not isinstance(node.get(key), dict | list):
                node[key] = {}
        else:
            raise ConfigError(f"'{override}': '{'.'.join(path[:position])}' is a value and has no field '{key}'.")
        if last:
            node[index] = value
        else:
            node = node[index]


def _describe(detail: ErrorDetails, model: type[BaseModel]) -> str:
    location, given = detail["loc"], detail.get("input")
    fields, place = _walk(model, location)
    if detail["type"] == "extra_forbidden":
        name = str(location[-1])
        suggestion = nearest(name, fields)
        hint = f" Did you mean '{suggestion}'?" if suggestion else f" Known here: {', '.join(fields)}."
        return f"{place}: there is no such field.{hint}"
    if detail["type"] == "missing":
        return f"{place}: is required."
    if detail["type"] == "union_tag_invalid":
        allowed = [tag.strip(" '") for tag in detail["ctx"]["expected_tags"].split(",")]
        suggestion = nearest(str(detail["ctx"]["tag"]), allowed)
        hint = f" Did you mean '{suggestion}'?" if suggestion else ""
        return f"{place}: there is no '{detail['ctx']['tag']}'.{hint} Known: {', '.join(allowed)}."
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "literal_error" and isinstance(given, str):
        allowed = [word.strip(" '") for word in detail["ctx"]["expected"].replace(" or ", ",").split(",")]
        suggestion = nearest(given, allowed)
        message += f". Did you mean '{suggestion}'?" if suggestion else ""
    shown = "" if isinstance(given, dict | list) else f" (got {without_secrets(repr(given))})"
    return f"{place or 'the config'}: {message[:1].lower()}{message[1:]}{shown}"


def _walk(model: type[BaseModel], location: Sequence[int | str]) -> tuple[list[str], str]:
    """The fields that are valid at the last step of a pydantic location, and the location as a dotted name.

    Pydantic adds the tag of a union's member to the location. Users do not write it, so it is omitted.
    """
    names: list[str] = []
    candidates: list[Any] = [model]
    fields: list[str] = []
    for step in location:
        models = [kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if isinstance(step, int):
            names.append(str(step))
            candidates = [
                inner for kind in candidates for item in typing.get_args(kind) for inner in _alternatives(item)
            ]
            continue
        tagged = [kind for kind in models if _is_tagged(kind, step)]
        if tagged and not any(step in kind.model_fields for kind in models):
            candidates = tagged
            continue
        names.append(step)
        fields = [name for kind in models for name in kind.model_fields]
        candidates = [
            inner
            for kind in models
            if step in kind.model_fields
            for inner in _alternatives(kind.model_fields[step].annotation)
        ]
    return list(dict.fromkeys(fields)), ".".join(names)


def _is_tagged(kind: type[BaseModel], tag: str) -> bool:
    return any(tag in typing.get_args(field.annotation) for field in kind.model_fields.values())


def _alternatives(annotation: Any) -> list[Any]:
    """The members of a union, flattened; of anything else, itself."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    if origin is typing.Union or origin is types.UnionType:
        return [inner for member in typing.get_args(annotation) for inner in _alternatives(member)]
    return [annotation]
