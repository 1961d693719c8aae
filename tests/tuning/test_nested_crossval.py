"""Nested cross-validation: each fold is tuned on its training and validation subjects."""

from __future__ import annotations

import pandas as pd
import pytest

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.runs.run_folder import Run
from gyrus.workflows.experiment_config import load_config
from tests.support.command_line import gyrus, refused
from tests.support.options import set_options
from tests.support.tiny_study import TINY

SETTINGS = set_options(TINY)
RANGE = "training.optimiser.lr=1e-4|1e-2"


def nested(data, out, *more):
    return ("crossval", "--recipe", "dementia-baseline", "--data", data, "--out", out, "--folds", 2, *SETTINGS, *more)


@pytest.fixture(scope="module")
def folder(phantom_folder, tmp_path_factory):
    """Two folds, each with a study of two trials; not to be changed."""
    out = tmp_path_factory.mktemp("nested") / "folds"
    result = gyrus(*nested(phantom_folder, out, "--range", RANGE, "--trials", 2, "--inner-folds", 2))
    assert result.returncode == 0, result.stderr
    return out


def test_the_study_of_a_fold_excludes_its_test_subjects(folder):
    for fold in range(2):
        run = Run.open(folder / "repeat-0" / f"fold-{fold}")
        study = Manifest.load(folder / "repeat-0" / f"choice-{fold}" / "manifest.parquet")
        split = Split.load(run.split)
        assert set(study.table["subject"]) == {*split.subjects["train"], *split.subjects["val"]}


def test_a_fold_is_trained_with_the_best_configuration_of_its_study(folder):
    for fold in range(2):
        study = folder / "repeat-0" / f"choice-{fold}"
        trials = pd.read_csv(study / "trials.csv")
        assert len(trials) == 2
        assert len(list(study.rglob("fold-1/history.csv"))) >= 1
        rate = load_config(Run.open(folder / "repeat-0" / f"fold-{fold}").config).training.optimiser.lr
        assert rate == load_config(study / "best.yaml").training.optimiser.lr


def test_other_settings_and_mistakes_are_refused(folder, phantom_folder, tmp_path):
    assert "differs in nested" in refused(*nested(phantom_folder, folder))
    assert "differs in nested" in refused(*nested(phantom_folder, folder, "--range", RANGE, "--trials", 3))
    new = tmp_path / "new"
    assert "optimiser.lrr" in refused(*nested(phantom_folder, new, "--range", "training.optimiser.lrr=1|2"))
    assert "--trials" in refused(*nested(phantom_folder, new, "--range", RANGE, "--trials", 0))
    last = ("--set", "training.monitor=epoch", "--set", "training.early_stopping=null")
    assert "no score to tune by" in refused(*nested(phantom_folder, new, "--range", RANGE, *last))
    assert not new.exists()
