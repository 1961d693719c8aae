"""What a prediction does with samples that cannot be used: stop, or skip them and write a table of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gyrus.errors import NothingUsableError
from gyrus.workflows.display import Display

if TYPE_CHECKING:
    from gyrus.datasets.manifest import Problem


Input = TypeVar("Input")
Result = TypeVar("Result")


def for_each_input(
    inputs: Sequence[Input],
    predict: Callable[[Input], tuple[Result, Sequence[Problem], Path]],
    *,
    skip: bool,
) -> tuple[list[Result], list[Problem]]:
    """Predict each input. Returns the results, and what was skipped, under the names that the results have.

    Args:
        inputs: Files, folders or tables, or the files of sessions.
        predict: Returns the result of an input, what it has skipped, and the folder of the names.
        skip: Whether to go on after an input of which nothing can be used.

    Raises:
        DataError: An input cannot be read, or nothing is left after skipping.
    """
    found: list[Result] = []
    skipped: list[Problem] = []
    last: NothingUsableError | None = None
    for path in inputs:
        try:
            result, problems, root = predict(path)
            found.append(result)
        except NothingUsableError as error:
            if not skip:
                raise
            problems, root, last = error.problems, error.root, error
        skipped += [replace(problem, sample=str(root / problem.sample)) for problem in problems]
    if last is not None and not found:
        raise last
    return found, skipped


def write_skipped(skipped: Sequence[Problem], out: Path, display: Display) -> None:
    """Write what was skipped beside the predictions, or remove such a table of an earlier prediction."""
    path = out.with_name(f"{out.stem}-skipped{out.suffix}")
    if not skipped:
        path.unlink(missing_ok=True)
        return
    import pandas as pd

    from gyrus.inference.predictions import write_table

    rows = [{"sample": one.sample, "kind": one.kind, "reason": one.message} for one in skipped]
    write_table(pd.DataFrame(rows).drop_duplicates(), path)
    display.say(f"{len(rows)} skipped: {path}")
