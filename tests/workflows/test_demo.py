"""What a newcomer sees first must be clear, and true."""

from __future__ import annotations

import pytest

import gyrus
from gyrus.evaluation.result import Baselines, Evaluation, verdict


@pytest.mark.slow
def test_the_classifier_of_the_demo_beats_its_baselines_and_the_leak_shows(tmp_path):
    comparison = gyrus.demo(tmp_path / "demo", seed=0)
    clean, leaky = (Evaluation.load(run.metrics) for run in (comparison.subject, comparison.image))
    baselines = Baselines.load(comparison.subject.baselines)
    assert {"nearest-neighbour", "linear-svm"} <= set(baselines.results)
    assert verdict(clean, baselines)[0].startswith("Better than")
    honest, inflated = (each.scores["image"].metrics["accuracy"].value for each in (clean, leaky))
    assert inflated > honest + 0.1
