"""Why the scores of two runs differ, in words."""

from __future__ import annotations

from collections.abc import Mapping

from gyrus.evaluation.result import Evaluation
from gyrus.evaluation.text import percent, unit_word


def reasons(evaluations: Mapping[str, Evaluation]) -> tuple[str, ...]:
    """What a reader must know before comparing these scores.

    Args:
        evaluations: By the name of the run.

    Returns:
        Sentences, the most important first; for a pair split by subject and by image, why they differ.
    """
    clean = {name: each for name, each in evaluations.items() if not each.statement}
    leaky = {name: each for name, each in evaluations.items() if each.statement}
    if clean and leaky:
        return _leak(*next(iter(clean.items())), *next(iter(leaky.items())))
    return (
        " ".join(f"'{name}' gets {_as_quoted(each)}." for name, each in evaluations.items()),
        "Each run was judged on its own test set; scores of different people are not ranked.",
    )


def _as_quoted(evaluation: Evaluation) -> str:
    """The accuracy as its user would quote it: by image after a split by image, else by subject."""
    scores = evaluation.scores["image"] if evaluation.split_unit == "image" else evaluation.headline
    return f"{percent(scores.metrics['accuracy'].value or 0.0)} right by {unit_word(evaluation, scores)}"


def _leak(clean: str, honest: Evaluation, leaky: str, other: Evaluation) -> tuple[str, ...]:
    unit = "scans" if other.split_unit == "scan" else "images"
    return (
        f"'{clean}' gets {_as_quoted(honest)}, '{leaky}' {_as_quoted(other)}.",
        f"In '{leaky}' the {unit} were dealt out one by one, so that a person's {unit} are on both sides: "
        f"the classifier is asked about people whose other {unit} it has learnt. {unit.capitalize()} of one person "
        "look alike, and knowing the person is enough to be right.",
        f"In '{clean}' it is asked about people it has never seen, which is what it would meet in use. "
        "The difference is what recognising people is worth; it is no skill.",
        f"Quote the scores of '{clean}'.",
    )
