"""Reporting checklists of a run that predicts a number; TRIPOD+AI covers continuous outcomes, too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from gyrus.evaluation.number_assessment import NumberGroupTable, assessment_sentences
from gyrus.evaluation.number_metrics import NUMBER_METRICS, number_headlines
from gyrus.evaluation.number_result import NumberEvaluation, number_limitations, number_verdict
from gyrus.reporting.checklist import (
    ANSWERS,
    FEW_PEOPLE,
    PEOPLE,
    SITES,
    Checklist,
    Facts,
    fill_with,
    missing_words,
    shared_risks,
    unit_words,
)
from gyrus.reporting.html import subset_title
from gyrus.reporting.number_report import NumberResults
from gyrus.types import SUBSETS

if TYPE_CHECKING:
    from gyrus.runs.run_folder import Run


def fill_numbers(run: Run, standard: str) -> Checklist:
    """As :func:`gyrus.reporting.checklist.fill`, for a run that predicts a number."""
    return fill_with(run, standard, NumberResults.load(run), NUMBER_ANSWERS, _risks)


def _purpose(facts: Facts) -> str:  # noqa: ARG001
    return "The run develops a model of a number and evaluates it internally, on subjects of the same data set."


def _outcome(facts: Facts) -> str:
    scores = facts.results.evaluation.headline
    name = facts.results.evaluation.target.name
    return (
        f"A number, {name}; in the test set mean {scores.mean:.1f}, SD {scores.sd:.1f}, "
        f"{scores.lowest:g} to {scores.highest:g}."
    )


def _sample_size(facts: Facts) -> str:
    scores = facts.results.evaluation.headline
    return f"No sample size was calculated. The test set has {scores.count} {_units(facts)}."


def _units(facts: Facts) -> str:
    return "subjects" if unit_words(facts) == "by subject" else "images"


def _measures(facts: Facts) -> str:
    names = ", ".join(metric.title for metric in NUMBER_METRICS.values())
    compared = " Baselines on the same subjects are compared by paired differences." if facts.results.baselines else ""
    return f"{names}, {unit_words(facts)}; coverage of prediction intervals, error along the range.{compared}"


def _calibration(facts: Facts) -> str:
    assessment = facts.results.assessment
    return " ".join(assessment_sentences(assessment)) if assessment else ""


def _prediction(facts: Facts) -> str:
    pooled = " Numbers of the images of a subject are averaged." if unit_words(facts) == "by subject" else ""
    return f"The predicted number for each image of the test set.{pooled}"


def _distribution(facts: Facts) -> str:
    manifest, split = facts.results.manifest, facts.results.split
    words = []
    for subset in SUBSETS:
        numbers = manifest.targets[manifest.table["sample"].isin(split.samples[subset])]
        words.append(
            f"{subset_title(subset)}: {len(numbers)} images, {manifest.target.name} mean {numbers.mean():.1f}, SD "
            f"{numbers.std():.1f}, {numbers.min():g} to {numbers.max():g}"
        )
    return f"{'; '.join(words)}."


def _flow(facts: Facts) -> str:
    split = facts.results.split
    sizes = []
    for subset in SUBSETS:
        subjects = f"{len(split.subjects[subset])} subjects, " if split.subjects[subset] else ""
        sizes.append(f"{subset_title(subset)}: {subjects}{len(split.samples[subset])} images")
    return f"{'; '.join(sizes)}. {missing_words(facts)}"


def _output(facts: Facts) -> str:
    assessment = facts.results.assessment
    interval = assessment.rule.interval if assessment else None
    known = interval is not None and interval.limit is not None
    words = f" Prediction intervals with a target coverage of {100 * interval.level:g} %." if known and interval else ""
    return f"A number in the unit of {facts.results.evaluation.target.name}.{words}"


def _performance(facts: Facts) -> str:
    scores = facts.results.evaluation.headline
    shown = [
        f"{title} {scores.metrics[name].text()}"
        for name, title in number_headlines().items()
        if scores.metrics[name].value is not None
    ]
    return f"Test set, {scores.count} {_units(facts)}: {'; '.join(shown)}."


def _verdict(facts: Facts) -> str:
    return " ".join(number_verdict(facts.results.evaluation, facts.results.baselines))


def _limitations(facts: Facts) -> str:
    return " ".join(number_limitations(facts.results.evaluation))


def _tables(facts: Facts, names: tuple[str, ...], *, others: bool = False) -> str:
    tables: tuple[NumberGroupTable, ...] = facts.results.subgroups.tables if facts.results.subgroups else ()
    return " ".join(table.text() for table in tables if (table.column.lower() in names) != others)


def _robustness(facts: Facts) -> str:
    found = [_tables(facts, PEOPLE, others=True)]
    path = facts.run.shuffled / "metrics.json"
    if path.is_file():
        error = NumberEvaluation.load(path).headline.metrics["mae"].text(2)
        found.append(f"Control with numbers shuffled across subjects: MAE {error} {unit_words(facts)}.")
    return " ".join(filter(None, found))


def _failures(facts: Facts) -> str:
    assessment = facts.results.assessment
    along = f" Along the range, {assessment.along.text()}" if assessment else ""
    return f"True against predicted numbers and a Bland-Altman plot are in report.html.{along}"


def _risks(facts: Facts) -> tuple[str, ...]:
    scores = facts.results.evaluation.headline
    small = f"Analysis: few {_units(facts)} in the test set ({scores.count}; at least {FEW_PEOPLE} are advised)."
    return shared_risks(facts, {small: scores.count < FEW_PEOPLE}, in_groups=bool(_tables(facts, PEOPLE)))


NUMBER_ANSWERS: Mapping[str, Callable[[Facts], str]] = {
    **ANSWERS,
    "calibration": _calibration,
    "clusters": lambda facts: _tables(facts, SITES),
    "failures": _failures,
    "flow": _flow,
    "imbalance": _distribution,
    "limitations": _limitations,
    "measures": _measures,
    "outcome": _outcome,
    "output": _output,
    "performance": _performance,
    "prediction": _prediction,
    "purpose": _purpose,
    "robustness": _robustness,
    "sample_size": _sample_size,
    "subgroups": lambda facts: _tables(facts, PEOPLE),
    "verdict": _verdict,
}
"""The answers that differ from those of classes."""
