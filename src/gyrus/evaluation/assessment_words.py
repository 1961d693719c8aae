"""An assessment in words."""

from __future__ import annotations

from gyrus.evaluation.assessment import Assessment
from gyrus.evaluation.calibration_metrics import Calibration
from gyrus.evaluation.calibrators import CALIBRATORS
from gyrus.evaluation.result import Estimate
from gyrus.evaluation.thresholds import OperatingResult

QUOTED_COVERAGE = 0.8
"""At which coverage the risk is told in words."""


def assessment_text(assessment: Assessment) -> str:
    """What was found, in about ten lines; the warning about the split first."""
    lines = [f"WARNING: {assessment.statement}"] if assessment.statement else []
    lines += [*assessment_sentences(assessment), *[f"Note: {note}" for note in assessment.notes]]
    return "\n".join(lines) + "\n"


def assessment_sentences(assessment: Assessment) -> list[str]:
    """What was found, without the warning and the notes."""
    return [
        f"Chosen on {_many(assessment.validation_count, assessment.group)} of the validation set, "
        f"judged on {_many(assessment.test_count, assessment.group)} of the test set; "
        f"in brackets {assessment.level:.0%} intervals.",
        *calibration_sentences(assessment),
        *[point_sentence(result) for result in _quoted_points(assessment)],
        *_curve_sentence(assessment),
        _abstention_sentence(assessment),
        *_set_sentences(assessment),
    ]


def calibration_sentences(assessment: Assessment) -> list[str]:
    """Whether the probabilities mean what they say, before and after they were mended."""
    sentences = [f"Probabilities as they are: {_calibration_words(assessment.before, assessment.level)}"]
    if assessment.after and assessment.calibrator:
        title = CALIBRATORS[assessment.calibrator.kind].title
        sentences.append(f"After {title.lower()}: {_calibration_words(assessment.after, assessment.level)}")
    return sentences


def point_sentence(result: OperatingResult) -> str:
    """An operating point, and what it does on the test set."""
    rates = ", ".join(f"{title} {_percent(result.rates[name])}" for name, title in _SHORT.items())
    return f"{result.point.text()}; {rates}."


_SHORT = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "positive_precision": "precision of positive calls",
    "negative_precision": "of negative calls",
}


def _quoted_points(assessment: Assessment) -> list[OperatingResult]:
    return [result for result in assessment.points if result.point.goal in ("youden", "healthy_precision")]


def _calibration_words(found: Calibration, level: float) -> str:
    error = found.errors["equal_mass"]
    if error.p_value is None or error.expected is None:
        return f"they are off by {error.value:.3f} on average (ECE); Brier score {found.brier.text()}."
    chance = f"{error.expected:.3f} would be chance; p = {error.p_value:.2g}"
    shown = "are not calibrated" if error.p_value < 1 - level else "are not shown to be wrong"
    return f"they {shown}: off by {error.value:.3f} on average (ECE; {chance}). Brier score {found.brier.text()}."


def _curve_sentence(assessment: Assessment) -> list[str]:
    if not assessment.curve:
        return []
    better = [point.threshold for point in assessment.curve.points if point.gain.low is not None and point.gain.low > 0]
    if not better:
        return ["Decision curve: at no threshold shown to do more good than acting on everybody or nobody."]
    return [
        "Decision curve: shown to do more good than acting on everybody or nobody for those who act from "
        f"{min(better):.0%} to {max(better):.0%} on."
    ]


def _abstention_sentence(assessment: Assessment) -> str:
    risks = assessment.abstention.risks
    return (
        f"Mistakes: {_percent(risks[1.0])} when it answers for all, {_percent(risks[QUOTED_COVERAGE])} when it may "
        f"leave out the {1 - QUOTED_COVERAGE:.0%} it is least sure of."
    )


def _set_sentences(assessment: Assessment) -> list[str]:
    return [
        f"Sets of classes ({each.sets.method.upper()}) meant to hold the true class for {each.sets.level:.0%} hold it "
        f"for {_percent(each.coverage)}, with {each.size.text(1)} of {len(assessment.classes)} classes on average."
        for each in assessment.sets
    ]


def _percent(estimate: Estimate) -> str:
    if estimate.value is None:
        return f"undefined ({estimate.note})"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.0%} (no interval)"
    return f"{estimate.value:.0%} [{estimate.low:.0%}, {estimate.high:.0%}]"


def _many(count: int, group: str) -> str:
    return f"{count:,} {group}" if count == 1 else f"{count:,} {group}s"
