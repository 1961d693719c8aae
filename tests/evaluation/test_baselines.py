"""Baselines: the comparison with a classifier, its verdict, and its file."""

from __future__ import annotations

import json

from gyrus.evaluation.baselines import Baselines, baseline_verdict, evaluate_baselines
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.metrics import HEADLINE_METRICS
from gyrus.inference.predictions import Predictions
from tests.support.predictions import study


def classifiers() -> tuple[Predictions, Predictions]:
    """A strong and a weak classifier of the same 40 subjects."""
    strong, weak = (
        study((20, 20), classes=("A", "B"), skill=skill, seed=seed) for seed, skill in ((0, 8.0), (1, -1.0))
    )
    return strong, weak


def test_a_strong_classifier_beats_a_weak_baseline() -> None:
    strong, weak = classifiers()
    found = evaluate_baselines(strong, {"linear-svm": ("", weak)}, unit="subject", resamples=300)
    (sentence,) = baseline_verdict(evaluate(strong, resamples=300), found)
    assert sentence.startswith("Better than always predicting the majority class 'A' (0.50) and linear SVM")
    assert sentence.endswith("on these 40 subjects.")
    gain = found.results["linear-svm"].gains["accuracy"]
    assert gain.low is not None
    assert gain.low > 0
    assert set(found.results["linear-svm"].scores) == set(HEADLINE_METRICS)


def test_the_verdict_starts_with_the_baselines_that_are_better() -> None:
    strong, weak = classifiers()
    found = evaluate_baselines(weak, {"linear-svm": ("", strong)}, unit="subject", resamples=300)
    sentences = baseline_verdict(evaluate(weak, resamples=300), found)
    assert sentences[0].startswith("Worse than")
    assert "linear SVM on raw pixels (1.00)" in sentences[0]


def test_a_baseline_that_is_not_beaten_is_named() -> None:
    _, weak = classifiers()
    found = evaluate_baselines(weak, {"nearest-neighbour": ("", weak)}, unit="subject", resamples=100)
    assert "nearest neighbour on raw pixels" in " ".join(
        sentence for sentence in baseline_verdict(evaluate(weak, resamples=100), found) if "Not better than" in sentence
    )


def test_saved_and_loaded_gives_the_same(tmp_path) -> None:
    found = evaluate_baselines(study(), {"linear-svm": ("about", study(seed=1))}, unit="subject", resamples=30)
    found.save(tmp_path / "baselines.json")
    assert Baselines.load(tmp_path / "baselines.json") == found
    document = found.to_document()
    document.pop("schema")  # files written before version 0.2 have none
    (tmp_path / "baselines.json").write_text(json.dumps(document))
    assert Baselines.load(tmp_path / "baselines.json") == found
