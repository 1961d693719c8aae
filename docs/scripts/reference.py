"""Write the reference pages of the documentation from the code: commands, config fields, files of a run.

    python docs/scripts/reference.py docs/reference

``make docs`` runs it before the site is built, so the pages are those of the code. They are not in version control.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from gyrus.cli.app import app
from gyrus.evaluation.metrics import CLASS_METRICS, METRICS, ORDERED_METRICS
from gyrus.evaluation.number_metrics import NUMBER_METRICS
from gyrus.runs import run_folder
from gyrus.workflows.experiment_config import ExperimentConfig

MADE = "<!-- Written by docs/scripts/reference.py. -->\n"


def cell(text: object) -> str:
    """Text for one cell of a table."""
    return " ".join(str(text).split()).replace("|", "\\|").replace("<", "&lt;")


def table(header: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """A table in Markdown."""
    lines = [header, ("---",) * len(header), *(tuple(map(cell, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


# Commands


def all_commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Each command that does something, with its whole name."""
    inner = getattr(command, "commands", None)
    if not inner or getattr(command, "invoke_without_command", False):
        yield name, command
    for part, each in (inner or {}).items():
        yield from all_commands(each, f"{name} {part}")


def option_row(parameter: Any) -> tuple[object, ...]:
    """Names, meaning, type and default of an option; the meaning comes second, so that a phone shows it."""
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    kind = "" if parameter.is_flag else kind_of(parameter.type_descriptor.annotation)
    if parameter.multiple:
        kind = kind.removeprefix("1 x ") + ", repeatable"
    default = parameter.default
    has_default = default is not None and default not in ((), []) and not callable(default) and not parameter.is_flag
    return names, parameter.help or "", kind, f"`{default}`" if has_default else ""


def commands() -> str:
    """The page of the commands."""
    parts = [MADE, "# Commands\n"]
    for name, command in all_commands(typer.main.get_command(app), "gyrus"):
        parts.append(f"## {name}\n")
        parts.append(f"{inspect.cleandoc(command.help or '').split(chr(12))[0].replace(chr(8), '')}\n")
        arguments = [each for each in command.params if each.param_type_name == "argument"]
        options = [each for each in command.params if each.param_type_name == "option" and not each.hidden]
        usage = " ".join([name, "[OPTIONS]" if options else "", *(each.name.upper() for each in arguments)])
        parts.append(f"```\n{usage}\n```\n")
        if arguments:
            rows = [(f"`{each.name}`", getattr(each, "help", "") or "") for each in arguments]
            parts.append(table(("argument", "meaning"), rows))
        if options:
            parts.append(table(("option", "meaning", "value", "default"), [option_row(each) for each in options]))
    return "\n".join(parts)


# Config


def sections_of(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a type names, in any depth of unions and containers."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    if isinstance(annotation, typing.TypeAliasType if hasattr(typing, "TypeAliasType") else ()):
        return sections_of(annotation.__value__)
    return [each for argument in typing.get_args(annotation) for each in sections_of(argument)]


def kind_of(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is type(None):
        return "null"
    if annotation is Ellipsis:
        return "..."
    if origin is typing.Annotated:
        return kind_of(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(kind_of(each) for each in arguments))
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "section"
    if origin in (tuple, list) or (inspect.isclass(origin) and issubclass(origin, typing.Sequence)):
        inner = [each for each in arguments if each is not Ellipsis]
        shown = list(dict.fromkeys(kind_of(each) for each in inner))
        return (
            f"list of {' and '.join(shown)}"
            if Ellipsis in arguments or len(shown) > 1
            else f"{len(inner)} x {shown[0]}"
        )
    if inspect.isclass(origin):
        return f"mapping to {kind_of(arguments[-1])}"
    if inspect.isclass(annotation) and issubclass(annotation, Enum):
        return ", ".join(f"`{each.value}`" for each in annotation)
    names = {"int": "integer", "float": "number", "str": "text", "bool": "true or false", "Path": "path"}
    return names.get(getattr(annotation, "__name__", ""), getattr(annotation, "__name__", str(annotation)))


def default_of(field: FieldInfo) -> str:
    """The default of a field, as YAML shows it."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel) or (
        isinstance(value, tuple) and any(isinstance(each, BaseModel) for each in value)
    ):
        return ""
    if value is None:
        return "`null`"
    if value == "":
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def limits_of(field: FieldInfo) -> str:
    """The limits of a number."""
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    found = [
        f"{sign} {getattr(each, name)}"
        for each in field.metadata
        for name, sign in signs.items()
        if hasattr(each, name)
    ]
    return f" ({', '.join(found)})" if found else ""


def choice_of(section: type[BaseModel], siblings: list[type[BaseModel]]) -> str:
    """The value by which a section of a union is chosen, as ``name: adamw``."""
    for name in ("name", "step", "method", "kind", "type", "strategy"):
        field = section.model_fields.get(name)
        if field is not None and typing.get_origin(field.annotation) is Literal and len(siblings) > 1:
            return f"{name}: {typing.get_args(field.annotation)[0]}"
    return ""


def first_line(section: type[BaseModel]) -> str:
    """The first line of the text of a section."""
    return plain((inspect.getdoc(section) or "").split("\n\n")[0])


def plain(text: str) -> str:
    """A docstring without the markup of Sphinx."""
    return re.sub(r":\w+:`~?([^`]*)`", r"`\1`", text).replace("``", "`")


def meaning_of(section: type[BaseModel], name: str, field: FieldInfo, inside: list[type[BaseModel]]) -> str:
    """The description of a field, or what the text of its class says about it."""
    if field.description:
        return field.description
    if typing.get_origin(field.annotation) is Literal and len(typing.get_args(field.annotation)) == 1:
        return "chooses this section"
    for each in section.__mro__:
        found = re.search(rf"^ +{name}: (.+(?:\n {{12,}}.+)*)", each.__doc__ or "", re.MULTILINE)
        if found:
            return plain(" ".join(found[1].split()))
    return first_line(inside[0]) if len(inside) == 1 else "see the sections below" if inside else ""


def config_rows(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, list[tuple[object, ...]]]]:
    """Heading, text and rows of a section, then those of the sections inside."""
    rows, inside = [], []
    for name, field in section.model_fields.items():
        path = f"{prefix}{name}"
        found = sections_of(field.annotation)
        kind, meaning = kind_of(field.annotation) + limits_of(field), meaning_of(section, name, field, found)
        rows.append((f"`{path}`", meaning, kind, default_of(field)))
        inside += [(path, each, choice_of(each, found)) for each in found]
    yield prefix.rstrip("."), first_line(section), rows
    for path, each, choice in inside:
        for heading, text, inner in config_rows(each, f"{path}."):
            own = f"{path}, {choice}" if choice and heading == path else heading
            yield own, text, inner


def config() -> str:
    """The page of the config fields."""
    parts = [
        MADE,
        "# Config fields\n",
        "A config is a YAML or JSON file, or the name of a [recipe](../recipes.md), with the fields of this page. "
        "`--set training.epochs=5` sets one field. Unknown names are refused, with the nearest valid name.\n",
    ]
    seen: set[str] = set()
    for heading, text, rows in config_rows(ExperimentConfig, ""):
        if heading in seen:
            continue
        seen.add(heading)
        parts += [f"## {heading or 'Top level'}\n", f"{text}\n", table(("field", "meaning", "type", "default"), rows)]
    return "\n".join(parts)


# Files of a run


def run_files() -> str:
    """The table of the files of a run, from the texts below the attributes of ``Run``."""
    tree = ast.parse(inspect.getsource(run_folder))
    [run] = [each for each in tree.body if isinstance(each, ast.ClassDef) and each.name == "Run"]
    rows: list[tuple[object, ...]] = []
    for assignment, text in zip(run.body, run.body[1:], strict=False):
        match assignment, text:
            case (
                ast.Assign(value=ast.Call(func=ast.Name(id="_File"), args=[ast.Constant(value=name)])),
                ast.Expr(value=ast.Constant(value=said)),
            ):
                rows.append((f"`{name}`", plain(str(said))))
    about = "All files of one training, in its run folder.\n"
    return "\n".join([MADE, "# Files of a run\n", about, table(("file", "content"), rows)])


SYMBOLS = (
    ("n, K", "number of samples (subjects or images), and of classes"),
    ("C[i, j]", "samples of class i that are predicted as class j, the class with the highest probability"),
    ("TP, FP, FN, p", "of one class: true positives, false positives, false negatives, and its probability"),
    ("t, s", "of ordered classes: number of the true stage and of the predicted one, from 0"),
    ("y, f, m", "of numbers: the true and the predicted number, and the mean of y over the samples"),
)

FORMULAS = {
    "accuracy": "Σᵢ C[i, i] / n",
    "accuracy_gain": "accuracy − maxᵢ (Σⱼ C[i, j]) / n",
    "balanced_accuracy": "(1/K) Σᵢ C[i, i] / Σⱼ C[i, j]",
    "macro_precision": "mean of precision over classes",
    "macro_recall": "mean of recall over classes (balanced accuracy)",
    "macro_f1": "mean of F1 over classes",
    "macro_roc_auc": "mean of ROC AUC over classes, each against the rest",
    "macro_pr_auc": "mean of PR AUC over classes, each against the rest",
    "precision": "TP / (TP + FP); 0 if the class is never predicted",
    "recall": "TP / (TP + FN)",
    "f1": "2 TP / (2 TP + FP + FN)",
    "roc_auc": "P(p of a sample of the class > p of another sample) + ½ P(equal)",
    "pr_auc": "Σₖ (Rₖ − Rₖ₋₁) Pₖ, precision P and recall R at each threshold (average precision)",
    "quadratic_kappa": "1 − Σ (t − s)² / E, with E the sum for predictions independent of the truth (Cohen 1968)",
    "stage_error": "(1/n) Σ |t − s|",
    "cut_auc": "mean over cuts c of the ROC AUC of t ≥ c by the summed probability of the stages ≥ c",
    "concordance": "P(expected stage of the sample of higher t is higher) + ½ P(equal), over pairs of different t",
    "mae": "(1/n) Σ |f − y|",
    "rmse": "√((1/n) Σ (f − y)²)",
    "bias": "(1/n) Σ (f − y)",
    "r2": "1 − Σ (f − y)² / Σ (y − m)²",
    "pearson": "cov(f, y) / (sd(f) sd(y))",
    "spearman": "Pearson correlation of the ranks of f and y; equal numbers get their mean rank",
}
"""The formula of each score by its name, with the symbols of :data:`SYMBOLS`."""


def metrics() -> str:
    """The page of the scores."""
    groups = {
        "Classes": METRICS,
        "Each class": CLASS_METRICS,
        "Ordered classes": ORDERED_METRICS,
        "Numbers": NUMBER_METRICS,
    }
    parts = [
        MADE,
        "# Scores\n",
        "Names and formulas of the scores in `metrics.json`, by subject and by image. For intervals, ties, absent "
        "classes and references see [Evaluation](../evaluation.md#definitions) and "
        "[Predicting numbers](../numbers.md).\n",
        table(("symbol", "meaning"), list(SYMBOLS)),
        "A mean over classes leaves out classes without samples.\n",
    ]
    for title, found in groups.items():
        rows = [(f"`{name}`", metric.title, FORMULAS[name]) for name, metric in found.items()]
        parts += [f"## {title}\n", table(("name", "score", "formula"), rows)]
    return "\n".join(parts)


PAGES = {"commands": commands, "config": config, "run-folder": run_files, "scores": metrics}


def main(folder: Path) -> None:
    """Write all pages."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, make in PAGES.items():
        (folder / f"{name}.md").write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/reference"))
