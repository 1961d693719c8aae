"""The same training and cross-validation, split by subject and by image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gyrus.runs.run_folder import Run
from gyrus.workflows.crossval_folder import CrossValidation
from gyrus.workflows.split_unit_comparison import crossval_both, train_both
from tests.conftest import SMALL

QUICK = {**SMALL, "training.epochs": 1, "evaluation.baselines": False, "preprocessing.steps.1.size": [16, 16]}


@pytest.fixture(autouse=True)
def _no_pages_of_runs() -> Iterator[None]:
    """Leave out the pages and maps of single runs: they have tests of their own, and take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gyrus.workflows.evaluate.report_run", lambda *_, **__: None)
        for name in ("save_examples", "save_embeddings"):
            patch.setattr(f"gyrus.workflows.train.{name}", lambda *_, **__: None)
        yield


def test_scores_of_both_splits_are_compared_and_explained(phantom_folder: Path, tmp_path: Path) -> None:
    comparison = train_both("dementia-baseline", data=phantom_folder, out=tmp_path / "both", overrides=QUICK)
    for unit in ("subject", "image"):
        assert Run.open(tmp_path / "both" / unit).status == "finished"
    assert "also in the training set" in comparison.text()
    assert comparison.report == tmp_path / "both" / "report.html"
    assert "image-level split" in comparison.report.read_text()


def test_folds_by_subject_and_by_image_are_compared(phantom_folder: Path, tmp_path: Path) -> None:
    both = crossval_both("dementia-baseline", data=phantom_folder, out=tmp_path / "both", folds=2, overrides=QUICK)
    assert both.subject.pooled == CrossValidation.load(tmp_path / "both" / "subject").pooled
    assert "image-level split" in both.image.text()
    assert "image-level split" in both.report.read_text()
    assert "Report the scores of 'folds by subject'" in both.text()
