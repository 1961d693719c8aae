"""The page of a cross-validation shows the folds and the pooled scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from gyrus.datasets.targets import Target
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.out_of_fold import fold_scores, summarise_folds
from gyrus.files import write_json, write_text
from gyrus.reporting.crossval_report import folds_figure, report_folds
from tests.support.manifests import manifest_of
from tests.support.predictions import study
from tests.support.report_contents import page_text, words

MANIFEST = manifest_of({"p0": "CN", "p1": "AD"})
PREDICTIONS = study((10, 10), classes=("CN", "AD"))
POOLED = evaluate(PREDICTIONS, resamples=20)
IS_FIRST = PREDICTIONS.table["subject"].isin([f"p{number}" for number in (*range(5), *range(10, 15))]).to_numpy()
SCORES = fold_scores(
    {
        (0, fold): evaluate(PREDICTIONS.select(np.flatnonzero(rows)), resamples=0)
        for fold, rows in enumerate((IS_FIRST, ~IS_FIRST))
    }
)
SUMMARY = summarise_folds(SCORES, [POOLED])


def test_the_figure_has_folds_mean_and_pooled_score() -> None:
    text = words(folds_figure(POOLED, SCORES, SUMMARY))
    assert all(part in text for part in ("one fold", "mean of folds", "pooled, 95 % CI", "Macro ROC AUC"))


def test_the_page_has_a_table_of_the_folds(tmp_path: Path) -> None:
    facts = {"created": "2026-01-02", "command": ["gyrus", "crossval"], "folds": 2, "repeats": 1}
    versions = {"python": "3.11", "system": "Linux", "libraries": {"torch": "2.0"}}
    write_json(tmp_path / "crossval.json", {**facts, "plan": {"nested": None}, "environment": versions})
    write_text(tmp_path / "config.yaml", "seed: 0\n")
    page = report_folds(
        tmp_path, predictions=PREDICTIONS, evaluation=POOLED, scores=SCORES, summary=SUMMARY, manifest=MANIFEST
    )
    text = page_text(page.read_text(encoding="utf-8"))
    row = SUMMARY[(SUMMARY["unit"] == "subject") & (SUMMARY["metric"] == "accuracy")].iloc[0]
    pooled = POOLED.headline.metrics["accuracy"].text()
    assert f"Accuracy by subject 2 of 2 {row['mean']:.3f} {row['sd']:.3f}" in text
    assert pooled in text
    assert "2-fold cross-validation" in text
    assert "Python 3.11, System Linux, torch 2.0." in text
    assert "gyrus audit" not in text


def test_folds_of_stages_show_their_kappa() -> None:
    stages = replace(study((10, 10, 10), classes=("Non", "Mild", "Moderate")), target=Target("ordered"))
    pooled = evaluate(stages, resamples=0)
    halves = [stages.table["subject"].str[-1].isin(list(digits)).to_numpy() for digits in ("01234", "56789")]
    found = {(0, fold): evaluate(stages.select(rows), resamples=0) for fold, rows in enumerate(halves)}
    scores = fold_scores(found)
    text = words(folds_figure(pooled, scores, summarise_folds(scores, [pooled])))
    assert "Quadratic-weighted kappa" in text
    assert "error" not in text
