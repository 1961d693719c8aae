"""How a function becomes a command: groups of options are spelt out, and former names of options are understood."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

import typer
from typer.core import TyperCommand

Function = TypeVar("Function", bound=Callable[..., None])

RENAMED: dict[str, str] = {}
"""Former names of options, which are still accepted, and the names of today."""


class Command(TyperCommand):
    """A command that accepts former names of its options and reports the new names."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace former names of options, then parse."""
        known = {name for parameter in self.params for name in parameter.opts}
        end = args.index("--") if "--" in args else len(args)
        return super().parse_args(ctx, [*(_today(word, known) for word in args[:end]), *args[end:]])


def _today(word: str, known: set[str]) -> str:
    option, equals, value = word.partition("=")
    name = RENAMED.get(option)
    if name is None or name not in known or option in known:
        return word
    typer.echo(f"Note: {option} is now called {name}.", err=True)
    return f"{name}{equals}{value}"


def group(help: str, **settings: Any) -> typer.Typer:
    """A group of commands, such as ``gyrus data``.

    Args:
        help: What the commands are about.
        settings: Other arguments of :class:`typer.Typer`.
    """
    # Without rich: its frames around the help take longer to import than everything else.
    return typer.Typer(help=help, rich_markup_mode=None, **{"no_args_is_help": True, **settings})


def command(app: typer.Typer, name: str) -> Callable[[Function], Function]:
    """Add a function to a group of commands.

    Each parameter of the function whose type is a dataclass stands for the fields of this dataclass, which are
    options. The function gets the dataclass.
    """

    def add(function: Function) -> Function:
        app.command(name, cls=Command)(_spelt_out(function))
        return function

    return add


def _spelt_out(function: Callable[..., None]) -> Callable[..., None]:
    """The function with one parameter for each option, as typer needs it."""
    hints = get_type_hints(function, include_extras=True)
    groups: dict[str, Any] = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
    parameters: dict[str, inspect.Parameter] = {}
    for parameter in inspect.signature(function).parameters.values():
        options = {parameter.name: (hints[parameter.name], parameter.default)}
        if parameter.name in groups:
            each = get_type_hints(groups[parameter.name], include_extras=True)
            options = {field.name: (each[field.name], field.default) for field in fields(groups[parameter.name])}
        for name, (hint, default) in options.items():
            parameters[name] = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)

    @functools.wraps(function)
    def call(**values: Any) -> None:
        built = {
            name: kind(**{field.name: values.pop(field.name) for field in fields(kind)})
            for name, kind in groups.items()
        }
        function(**values, **built)

    call.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    call.__annotations__ = {name: parameter.annotation for name, parameter in parameters.items()}
    return call
