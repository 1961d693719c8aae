"""Folders written by version 0.1 are read, evaluated, used and continued.

``version-0.1.tar.xz`` holds what commit a21218e wrote from 24 phantom subjects with two slices of 32 x 32 each, without
figures and pages: ``run`` (explained and audited), ``run1`` (another seed), ``folds`` (cross-validation), ``together``
(ensemble), ``study`` (two trials), ``interrupted`` (killed in the second of three epochs; ``expected.safetensors`` are
the weights of the unbroken run), a split, a manifest and predictions.
"""

from __future__ import annotations

import json
import math
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file

import gyrus
from gyrus.audit.findings import Findings
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.evaluation.assessment import Assessment
from gyrus.evaluation.result import Baselines, Evaluation
from gyrus.evaluation.subgroups import Subgroups
from gyrus.explanation.checks import ExplanationChecks
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.workflows.ensemble import Ensemble

ARCHIVE = Path(__file__).with_name("version-0.1.tar.xz")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of version 0.1, with the paths of the data set to where they are now; not to be written into."""
    folder = tmp_path_factory.mktemp("version-0.1")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    for path in folder.rglob("manifest.parquet"):
        table = pq.read_table(path)
        about = json.loads(table.schema.metadata[b"gyrus"]) | {"root": str(folder / "data")}
        pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"gyrus": json.dumps(about)}), path)
    return folder


@pytest.fixture
def old(unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folders to write into, as the working directory."""
    monkeypatch.chdir(shutil.copytree(unpacked, tmp_path / "old"))
    return tmp_path / "old"


def numbers(document: object) -> list[float]:
    """All numbers of a JSON document, in order."""
    if isinstance(document, dict):
        return [number for value in document.values() for number in numbers(value)]
    if isinstance(document, list):
        return [number for value in document for number in numbers(value)]
    return [float(document)] if isinstance(document, int | float) and not isinstance(document, bool) else []


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (Evaluation, "run/metrics.json"),
        (Evaluation, "folds/metrics.json"),
        (Assessment, "run/assessment.json"),
        (Baselines, "run/baselines.json"),
        (Subgroups, "run/subgroups.json"),
        (Split, "run/split.json"),
        (Split, "split.json"),
        (Findings, "run/audit/findings.json"),
        (ExplanationChecks, "run/explanation/checks.json"),
    ],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_json_files_hold_the_same_numbers_after_they_are_read_and_written(kind, path, unpacked, tmp_path):
    kind.load(unpacked / path).save(tmp_path / "again.json")
    before, after = (json.loads(file.read_text()) for file in (unpacked / path, tmp_path / "again.json"))
    before.pop("format", None)  # the version of the file's form, which is part of the schema now
    new = {"copies"}  # fields of later versions
    assert sorted(numbers({name: value for name, value in after.items() if name not in new})) == sorted(numbers(before))
    assert kind.load(tmp_path / "again.json") == kind.load(unpacked / path)


def test_manifests_and_predictions_are_read(unpacked):
    manifest = Manifest.load(unpacked / "run" / "manifest.parquet")
    predictions = Predictions.load(unpacked / "run" / "predictions" / "test.parquet")
    assert (len(manifest), manifest.table["subject"].nunique(), predictions.subset) == (48, 24, "test")
    assert manifest.digest == json.loads((unpacked / "run" / "run.json").read_text())["manifest"]
    assert "part" not in manifest.table


@pytest.mark.parametrize("name", ["run", "folds", "study"])
def test_configs_are_read(name, unpacked):
    config = gyrus.load_config(unpacked / name / "config.yaml")
    assert config.model.name == "baseline-cnn"
    assert config.about is not None
    assert config.about.project == "D"


def test_runs_are_listed(unpacked):
    found = {summary.folder.name: summary.status for summary in gyrus.list_runs(unpacked)}
    assert found["run"] == "finished"
    assert found["interrupted"] == "started"


def by_name(document: object, name: str = "") -> dict[str, float]:
    """The numbers of a document by their dotted names."""
    if isinstance(document, dict):
        return {
            key: value for part, inner in document.items() for key, value in by_name(inner, f"{name}.{part}").items()
        }
    number = isinstance(document, int | float) and not isinstance(document, bool)
    return {name.replace("majority_share", "majority_fraction"): float(document)} if number else {}


def rare_or_equal(document: object, name: str = "") -> Iterator[str]:
    """The dotted names of scores whose interval is of a kind that version 0.1 did not have."""
    if isinstance(document, dict):
        if document.get("method", "bootstrap") != "bootstrap":
            yield name
        for part, inner in document.items():
            yield from rare_or_equal(inner, f"{name}.{part}")


def test_a_run_is_evaluated_to_the_same_scores(old):
    """Scores are the same, and so are intervals of the same kind."""
    before = json.loads((old / "run" / "metrics.json").read_text())["scores"]
    gyrus.evaluate("run")
    after = json.loads((old / "run" / "metrics.json").read_text())["scores"]
    found, of_another_kind = by_name(after), set(rare_or_equal(after))
    expected = {
        name: value
        for name, value in by_name(before).items()
        if not (name.endswith((".low", ".high")) and name.rpartition(".")[0] in of_another_kind)
    }
    assert {name: found.get(name) for name in expected} == expected
    assert any(name.endswith(".low") for name in expected)
    assert {name.rpartition(".")[2] for name in found.keys() - by_name(before).keys()} == {"low", "high"}
    assert (old / "run" / "report.html").exists()


@pytest.mark.usefixtures("old")
def test_a_run_predicts_as_before():
    known = pd.read_csv("predictions.csv").set_index("sample")
    new = gyrus.predict("run", ["data"])
    column = new.probabilities[:, 0]
    assert math.isclose(float(known.filter(like="probability:").iloc[:, 0].sum()), float(column.sum()), abs_tol=1e-4)


def test_an_interrupted_run_is_resumed_to_the_weights_of_an_unbroken_one(old):
    run = gyrus.resume("interrupted")
    assert run.status == "finished"
    expected, found = load_file(old / "interrupted" / "expected.safetensors"), load_file(run.weights)
    assert set(found) == set(expected)
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-3, atol=1e-5)


@pytest.mark.usefixtures("old")
def test_a_run_is_explained_again():
    assert gyrus.explain("run1", config=gyrus.ExplainConfig(images=4, shown=2)).checks.exists()


@pytest.mark.usefixtures("old")
def test_cross_validations_and_ensembles_are_opened_and_compared():
    compared = gyrus.compare(["run", "folds", "together"], out="comparison", resamples=20)
    assert compared.report.exists()
    assert len(Ensemble.load(Path("together")).members) == 2


def test_a_cross_validation_is_continued_without_training_again(old):
    weights = {path: path.stat().st_mtime_ns for path in old.glob("folds/repeat-*/fold-*/model.safetensors")}
    gyrus.crossval(old / "folds" / "config.yaml", out="folds", folds=2)
    assert weights == {path: path.stat().st_mtime_ns for path in weights}


@pytest.mark.usefixtures("old")
def test_ensembles_are_made_of_old_runs():
    together = gyrus.ensemble(["run", "run1"], out="again")
    before = Evaluation.load(Path("together/metrics.json"))
    assert together.evaluation.headline.metrics["accuracy"].value == before.headline.metrics["accuracy"].value


def test_a_study_is_continued(old):
    pytest.importorskip("optuna")
    from gyrus.tuning.search_space import read_space
    from gyrus.tuning.study import StudyConfig

    study = StudyConfig(space=read_space(None, ["training.batch_size=8|16"]), trials=3, storage="journal.log")
    found = gyrus.tune(old / "study" / "config.yaml", study=study, out="study")
    assert len([trial for trial in found.trials if trial.state.is_finished()]) == 3


@pytest.mark.usefixtures("old")
def test_an_old_report_names_its_run():
    assert Run.open(Path("run")).title == "run"
