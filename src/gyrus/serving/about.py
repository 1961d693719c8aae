"""What the server tells about the classifier of a bundle."""

from __future__ import annotations

from typing import Any

from gyrus.evaluation.number_metrics import number_headlines
from gyrus.evaluation.number_result import NumberEvaluation, NumberScores
from gyrus.evaluation.result import Estimate, Evaluation, headlines_of, subset_name, unit_name
from gyrus.export.manifest import RESEARCH_ONLY, BundleManifest, Choices, OperatingPoint
from gyrus.imaging.decoding import IMAGE_EXTENSIONS
from gyrus.imaging.dicom import DICOM_EXTENSIONS
from gyrus.inference.decision_rule import SHIPPED_SETS
from gyrus.serving.limits import ServingLimits
from gyrus.serving.uploads import VOLUME_EXTENSIONS
from gyrus.types import SPLIT_WARNINGS

SCORES = ("sensitivity", "specificity", "ppv", "npv")


def describe(
    manifest: BundleManifest,
    limits: ServingLimits,
    *,
    heat_map: bool,
    compares: bool,
    evaluation: Evaluation | NumberEvaluation | None = None,
) -> dict[str, Any]:
    """The answer of ``/v1/classifier``.

    Args:
        manifest: Of the bundle.
        limits: Of the server.
        heat_map: Whether it gives heat maps.
        compares: Whether it recognises scans unlike its training data.
        evaluation: Its scores; without them only the accuracy at the operating point is known.
    """
    choices = manifest.choices
    points = choices.operating_points if choices else ()
    point = next((each for each in points if choices and each.goal == choices.operating_point), None)
    sets = [each for each in (choices.conformal if choices else ()) if each.method == SHIPPED_SETS]
    of_volumes = takes_volumes(manifest)
    return {
        "title": manifest.title,
        "version": manifest.created,
        "classes": list(manifest.classes),
        "number": _number(manifest) if manifest.target.is_number else None,
        "input": "volume" if of_volumes else "stack" if takes_stacks(manifest) else "slice",
        "licence": manifest.licence,
        "intended_use": manifest.intended_use,
        "research_only": RESEARCH_ONLY,
        "split_warning": SPLIT_WARNINGS[manifest.split_unit],
        "operating_point": _point(point, choices) if point and choices else None,
        "scores": _headline(evaluation) if evaluation else _accuracy(point, choices) if point and choices else [],
        "calibrated": bool(choices and choices.calibration),
        "prediction_sets": {"coverage": sets[0].level, "measured": _estimate(sets[0].coverage)} if sets else None,
        "recognises_unlike_scans": compares,
        "heat_map": heat_map,
        "limits": {"bytes": limits.bytes, "files": limits.files, "seconds": limits.seconds},
        "accepts": [*(VOLUME_EXTENSIONS if of_volumes else IMAGE_EXTENSIONS), *DICOM_EXTENSIONS * of_volumes, ".zip"],
    }


def takes_volumes(manifest: BundleManifest) -> bool:
    """Whether a bundle answers for volumes; else for image files."""
    return manifest.inputs == "volumes"


def takes_stacks(manifest: BundleManifest) -> bool:
    """Whether a bundle answers for the slice images of a scan together: a stack, or slices with their neighbours."""
    return manifest.inputs == "images" and (manifest.stack is not None or manifest.slices is not None)


def _number(manifest: BundleManifest) -> dict[str, Any]:
    """The number that is predicted, and its prediction intervals."""
    choices, about = manifest.number, {"name": manifest.target.name, "sd_of_training": manifest.number_sd}
    rule = choices.rule if choices else None
    if choices is None or rule is None or rule.interval is None or choices.coverage is None:
        return {**about, "interval": None}
    return {
        **about,
        "interval": {
            "coverage": rule.interval.level,
            "measured": _estimate(choices.coverage),
            "level": choices.level,
            "unit": rule.unit,
            "test_count": choices.test_count,
        },
    }


_OTHER_RANGES = ("quadratic_kappa", "stage_error")
"""Scores of ordered classes that may be below 0 or above 1, so that no bar from 0 to 1 shows them."""


def _headline(evaluation: Evaluation | NumberEvaluation) -> list[dict[str, Any]]:
    scores = evaluation.headline
    about = {
        "unit": unit_name(evaluation, scores),
        "count": scores.count,
        "level": evaluation.level,
        "measured_on": subset_name(evaluation.subset),
    }
    if isinstance(scores, NumberScores):
        titles, other = number_headlines(), (*number_headlines(),)
    else:
        titles, other = headlines_of(scores), _OTHER_RANGES
    return [
        {"title": title, **_estimate(scores.metrics[name]), **about, "from_0_to_1": name not in other}
        for name, title in titles.items()
    ]


def _accuracy(point: OperatingPoint, choices: Choices) -> list[dict[str, Any]]:
    if "accuracy" not in point.rates:
        return []
    about = {"unit": point.unit, "count": choices.test_count, "level": choices.level, "measured_on": "test set"}
    accuracy = _estimate(point.rates["accuracy"])
    return [{"title": "Accuracy at the operating point", **accuracy, **about, "from_0_to_1": True}]


def _point(point: OperatingPoint, choices: Choices) -> dict[str, Any]:
    return {
        "goal": point.goal,
        "title": point.title,
        "level": choices.level,
        "test_count": choices.test_count,
        "positive": list(point.positive),
        "threshold": point.threshold,
        "reached": point.reached,
        "unit": point.unit,
        **{name: _estimate(point.rates[name]) if name in point.rates else None for name in SCORES},
    }


def _estimate(estimate: Estimate) -> dict[str, Any]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
