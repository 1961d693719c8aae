"""Results folders that ClinicaDL 1.6.1 and 2.0.0 wrote (two folds of 20 phantoms), without weights and logs."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from gyrus.errors import ConfigError, DataError, GyrusError, LeakageError
from gyrus.evaluation.result import Evaluation
from gyrus.inference.predictions import Predictions
from gyrus.workflows.import_maps import import_maps
from tests.support.command_line import succeeded

ARCHIVE = Path(__file__).parents[1] / "compatibility" / "clinicadl-maps.tar.xz"


@pytest.fixture
def maps(tmp_path):
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path / "maps", filter="data")
    return tmp_path / "maps"


def test_the_scores_of_version_1_are_those_of_its_tables(maps, tmp_path):
    imported = import_maps(maps / "version-1", out=tmp_path / "out")
    assert (imported.version, list(imported.splits)) == ("1", ["split-0", "split-1"])
    assert list(imported.evaluations) == [
        *(f"split-{fold}-best-loss-{group}" for fold in (0, 1) for group in ("validation", "test")),
        "all-splits-best-loss-validation",
    ]
    folds = [
        pd.read_csv(maps / f"version-1/split-{n}/best-loss/validation/validation_image_level_prediction.tsv", sep="\t")
        for n in (0, 1)
    ]
    table = pd.concat(folds)
    scores = imported.evaluations["all-splits-best-loss-validation"].scores["subject"]
    expected = balanced_accuracy_score(table["true_label"], table["predicted_label"])
    assert scores.metrics["balanced_accuracy"].value == pytest.approx(expected)
    auc = roc_auc_score(table["true_label"], table["proba1"])
    assert scores.metrics["macro_roc_auc"].value == pytest.approx(auc)
    assert "selected on these subjects (best-loss), so these scores are optimistic" in imported.text()

    saved = tmp_path / "out" / "predictions" / "split-0-best-loss-test.csv"
    again = Predictions.from_file(saved, split_unit="subject")
    assert again.classes == ("AD", "CN")
    original = pd.read_csv(maps / "version-1/split-0/best-loss/test/test_image_level_prediction.tsv", sep="\t")
    np.testing.assert_allclose(again.probabilities[:, 0], original["proba0"])
    assert list(again.table["target"]) == [["AD", "CN"][number] for number in original["true_label"]]
    metrics = tmp_path / "out" / "metrics" / "split-0-best-loss-test.json"
    assert Evaluation.load(metrics) == imported.evaluations["split-0-best-loss-test"]


@pytest.mark.parametrize("version", ["version-1", "version-2"])
def test_splits_of_both_versions_become_tables(version, maps, tmp_path):
    imported = import_maps(maps / version, out=tmp_path / "out")
    parts = []
    for name in ("split-0", "split-1"):
        table = pd.read_csv(tmp_path / "out" / f"{name}.tsv", sep="\t")
        assert imported.splits[name] == {"train": 8, "val": 8, "test": 4}
        assert set(table["diagnosis"]) == {"AD", "CN"}
        assert table.groupby("participant_id")["subset"].nunique().max() == 1
        parts.append(set(table.loc[table["subset"] == "val", "participant_id"]))
    assert not parts[0] & parts[1]


def test_version_2_has_no_predictions_and_this_is_said(maps, tmp_path):
    imported = import_maps(maps / "version-2", out=tmp_path / "out")
    assert imported.evaluations == {}
    assert "ClinicaDL 2 saves no predictions of images" in imported.text()


def test_labels_of_a_table_are_added(maps, tmp_path):
    names = sorted({*pd.read_csv(maps / "version-2" / "training/data/data.tsv", sep="\t")["participant_id"]})
    labels = pd.DataFrame({"participant_id": names, "session_id": "ses-M000", "group": "x"})
    labels.to_csv(tmp_path / "labels.tsv", sep="\t", index=False)
    import_maps(maps / "version-2", out=tmp_path / "out", labels=tmp_path / "labels.tsv")
    table = pd.read_csv(tmp_path / "out" / "split-0.tsv", sep="\t")
    assert list(table.columns) == ["participant_id", "session_id", "subset", "group"]
    assert set(table["session_id"]) == {"ses-M000"}


def test_a_participant_in_two_sets_stops_the_import(maps, tmp_path):
    train = pd.read_csv(maps / "version-1/groups/train/split-0/data.tsv", sep="\t")
    train.to_csv(maps / "version-1/groups/test/data.tsv", sep="\t", index=False)
    with pytest.raises(LeakageError, match="8 participants are in two sets of split-0"):
        import_maps(maps / "version-1", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_that_change_between_visits_are_scored_by_visit(maps, tmp_path):
    file = maps / "version-1/split-0/best-loss/test/test_image_level_prediction.tsv"
    table = pd.read_csv(file, sep="\t")
    later = table.assign(session_id="ses-M012", true_label=1 - table["true_label"])
    pd.concat([table, later]).to_csv(file, sep="\t", index=False)
    scores = import_maps(maps / "version-1", out=tmp_path / "out").evaluations["split-0-best-loss-test"].scores
    assert scores["subject"].metrics["accuracy"].value == pytest.approx(0.5)


def test_what_cannot_be_imported(maps, tmp_path):
    with pytest.raises(DataError, match="is no MAPS of ClinicaDL"):
        import_maps(tmp_path, out=tmp_path / "out")
    settings = json.loads((maps / "version-1/maps.json").read_text())
    (maps / "version-1/maps.json").write_text(json.dumps({**settings, "network_task": "regression"}))
    with pytest.raises(ConfigError, match="the MAPS of a regression"):
        import_maps(maps / "version-1", out=tmp_path / "out")
    (maps / "version-1/maps.json").write_text("{")
    with pytest.raises(GyrusError, match=r"maps\.json is not a JSON file"):
        import_maps(maps / "version-1", out=tmp_path / "out")
    shutil.rmtree(maps / "version-2/training/data/validation")
    with pytest.raises(DataError, match="is missing, so the split of the MAPS is unknown"):
        import_maps(maps / "version-2", out=tmp_path / "out")


def test_the_command_prints_the_scores(maps, tmp_path):
    text = succeeded("import-maps", maps / "version-1", "--out", tmp_path / "out")
    assert "split-0: 8 subjects (training set), 8 subjects (validation set), 4 subjects (test set)" in text
    assert "split-1-best-loss-test: Accuracy 0.500" in text
