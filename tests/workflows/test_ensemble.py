"""Several runs as one classifier: predictions, evaluation, and errors."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gyrus.datasets.splits import Split
from gyrus.errors import ConfigError, DataError, LeakageError, RunError
from gyrus.evaluation.evaluate import evaluate
from gyrus.files import write_json
from gyrus.inference.pooling import average_predictions
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.workflows.compare import find_runs, read_entry
from gyrus.workflows.ensemble import Ensemble, ensemble, member_weights, open_runs
from gyrus.workflows.predict import predict
from gyrus.workflows.train import train
from tests.conftest import SMALL


@pytest.fixture(scope="module")
def other_run(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another seed on the split of the finished run, evaluated with augmented copies; read only."""
    changes = {"training.epochs": 1, "split.seed": 0, "seed": 1, "evaluation.baselines": False, "evaluation.tta": 2}
    out = tmp_path_factory.mktemp("runs") / "other"
    return train("dementia-baseline", data=phantom_folder, out=out, overrides={**SMALL, **changes}).folder


@pytest.fixture
def copy(finished_run: Path, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(finished_run, tmp_path / "copy")))


def images(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.png"))[:5]


def test_several_runs_predict_the_mean_of_their_probabilities(finished_run, other_run, phantom_folder):
    alone = [predict(run, images(phantom_folder)).probabilities for run in (finished_run, other_run)]
    together = predict([finished_run, other_run], images(phantom_folder))
    np.testing.assert_allclose(together.probabilities, np.mean(alone, axis=0), atol=1e-6)


def test_a_folder_of_a_cross_validation_is_the_ensemble_of_its_folds(finished_run, other_run, phantom_folder, tmp_path):
    for fold, run in enumerate((finished_run, other_run)):
        shutil.copytree(run, tmp_path / "repeat-0" / f"fold-{fold}")
    write_json(tmp_path / "crossval.json", {"schema": "gyrus.crossval/1", "repeats": 1, "folds": 2})
    folds = predict(tmp_path, images(phantom_folder))
    runs = predict([finished_run, other_run], images(phantom_folder))
    np.testing.assert_array_equal(folds.logits, runs.logits)


def test_augmented_copies_are_those_of_the_evaluation_by_default(other_run, phantom_folder):
    judged = Predictions.load(Run(other_run).predictions("test"))
    paths = [phantom_folder / sample for sample in judged.table["sample"]]
    np.testing.assert_allclose(predict(other_run, paths).logits, judged.logits, atol=1e-5)
    np.testing.assert_array_equal(predict(other_run, paths[:3], tta=2).logits, predict(other_run, paths[:3]).logits)
    assert np.abs(predict(other_run, paths, tta=0).logits - judged.logits).max() > 1e-4


def test_an_ensemble_is_evaluated_on_the_shared_test_set(finished_run, other_run, tmp_path):
    found = ensemble([finished_run, other_run], out=tmp_path / "both")
    tables = [Predictions.load(Run(run).predictions("test")) for run in (finished_run, other_run)]
    together = Predictions.load(found.predictions)
    np.testing.assert_allclose(together.probabilities, average_predictions(tables).probabilities, atol=1e-12)
    assert found.evaluation.scores == evaluate(average_predictions(tables)).scores
    assert [each.scores for each in found.alone] == [evaluate(table).scores for table in tables]
    loaded = Ensemble.load(tmp_path / "both")
    assert loaded == found
    assert str(other_run) in found.text()
    assert "mean of the probabilities of 2 runs" in found.report.read_text()
    for place in (found.predictions, found.folder):
        assert len(read_entry(place, "both").test) == len(together)
    assert read_entry(found.folder, "both").facts == {"Model": "mean of 2 runs"}
    assert find_runs(tmp_path)[0] == [found.folder]


def test_weights_are_fitted_on_the_validation_set(finished_run, other_run, copy, tmp_path):
    validation = Predictions.load(copy.predictions("val"))
    surely = np.eye(2)[validation.targets] * 20
    Predictions.from_table(
        validation.table.assign(
            **{f"logit:{name}": surely[:, column] for column, name in enumerate(validation.classes)}
        ),
        classes=validation.classes,
        split_unit=validation.split_unit,
        subset="val",
    ).save(copy.predictions("val"))
    found = ensemble([other_run, copy], out=tmp_path / "weighted", weights="validation")
    assert found.weights == pytest.approx((0, 1), abs=1e-3)
    assert "fitted on the validation set" in found.text()
    assert member_weights(open_runs([finished_run, other_run]), "equal") == (0.5, 0.5)


def changed_split(run: Run, **subsets: list[str]) -> None:
    split = Split.load(run.split)
    replace(split, subjects={**split.subjects, **{subset: tuple(names) for subset, names in subsets.items()}}).save(
        run.split
    )


def test_a_run_trained_on_a_test_subject_is_refused(finished_run, copy, tmp_path):
    split = Split.load(copy.split)
    stranger = split.subjects["test"][0]
    changed_split(copy, val=[*split.subjects["val"], stranger])
    with pytest.raises(LeakageError, match=f"1 subject of the test set.*{stranger}"):
        ensemble([finished_run, copy], out=tmp_path / "x")
    assert not (tmp_path / "x").exists()
    changed_split(copy, val=[*split.subjects["val"], f" {stranger.upper()} "])  # another spelling of the same subject
    with pytest.raises(LeakageError, match=f"1 subject of the test set.*{stranger}"):
        ensemble([finished_run, copy], out=tmp_path / "x")


def test_a_copy_of_a_tested_image_under_another_name_is_found(finished_run, copy, tmp_path):
    from gyrus.datasets.manifest import Manifest

    manifest, split = Manifest.load(copy.manifest), Split.load(copy.split)
    table = manifest.table.set_index("sample", drop=False)
    tested, learnt = split.samples["test"][0], split.samples["train"][0]
    table.loc[learnt, "digest"] = table.loc[tested, "digest"]
    replace(manifest, table=table.reset_index(drop=True)).save(copy.manifest)
    with pytest.raises(LeakageError, match="copies of their images"):
        ensemble([finished_run, copy], out=tmp_path / "x")


def test_other_test_sets_and_splits_by_image_are_refused(finished_run, copy, tmp_path):
    split = Split.load(copy.split)
    replace(split, samples={**split.samples, "test": split.samples["test"][1:]}).save(copy.split)
    with pytest.raises(DataError, match=r"The test sets differ: .* \(only in one: '"):
        ensemble([finished_run, copy], out=tmp_path / "x")
    replace(split, unit="image").save(copy.split)
    with pytest.raises(ConfigError, match="split by image"):
        ensemble([finished_run, copy], out=tmp_path / "x")


def test_members_must_be_distinct_runs_with_shared_subsets(finished_run, copy, phantom_folder, tmp_path):
    with pytest.raises(ConfigError, match="two or more runs, got 1"):
        ensemble([finished_run], out=tmp_path / "x")
    with pytest.raises(ConfigError, match="named twice"):
        ensemble([finished_run, finished_run], out=tmp_path / "x")
    with pytest.raises(RunError, match="not an empty folder"):
        ensemble([finished_run, copy.folder], out=phantom_folder)
    Predictions.load(copy.predictions("val")).select([0, 1]).save(copy.predictions("val"))
    with pytest.raises(ConfigError, match="share the validation set"):
        predict([finished_run, copy], images(phantom_folder), weights="validation")


def test_classifiers_of_other_classes_are_not_combined(finished_run, copy, phantom_folder):
    import json

    about = json.loads(copy.model.read_text())
    write_json(copy.model, about | {"classes": ["Control", "Sick"]})
    with pytest.raises(ConfigError, match="cannot be combined"):
        predict([finished_run, copy], images(phantom_folder))
