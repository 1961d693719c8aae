"""Every file of a run folder that is missing or damaged is named, in one error of Gyrus, by whatever reads it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gyrus.errors import GyrusError
from gyrus.inference.predictions import Predictions
from gyrus.reporting.image_figures import draw_images
from gyrus.reporting.run_report import RunResults, read_history
from gyrus.runs.run_folder import Run
from gyrus.workflows import evaluate as evaluation
from gyrus.workflows.manage_runs import list_runs, show_run
from gyrus.workflows.predict import TrainedClassifier
from gyrus.workflows.saved_outputs import load_quality
from tests.support.damage import DAMAGES


def _pictures(run: Run) -> object:
    return draw_images(Predictions.load(run.predictions("test")), run.examples, run.embeddings)


def _evaluate(run: Run) -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "evaluate_run", lambda *_, **__: None)
        return evaluation.evaluate(run.folder)


READERS: dict[str, Callable[[Run], object]] = {
    "run.json": _evaluate,
    "config.yaml": TrainedClassifier.load,
    "model.json": TrainedClassifier.load,
    "preprocessing.json": TrainedClassifier.load,
    "model.safetensors": TrainedClassifier.load,
    "manifest.parquet": _evaluate,
    "split.json": _evaluate,
    "predictions/val.parquet": _evaluate,
    "predictions/test.parquet": _evaluate,
    "environment.json": lambda run: run.environment,
    "history.csv": read_history,
    "quality.csv": load_quality,
    "examples.npz": _pictures,
    "embeddings.npz": _pictures,
    "metrics.json": RunResults.load,
    "baselines.json": RunResults.load,
    "assessment.json": RunResults.load,
    "subgroups.json": RunResults.load,
}
OPTIONAL = {"quality.csv", "examples.npz", "embeddings.npz", "baselines.json", "assessment.json", "subgroups.json"}
"""Files that some runs lack."""


@pytest.fixture(scope="module")
def copy(finished_run, tmp_path_factory) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path_factory.mktemp("damaged") / "run"))


@pytest.mark.parametrize("name", READERS)
def test_a_damaged_file_is_named(copy, finished_run, name):
    READERS[name](Run(copy))
    for kind, damage in DAMAGES.items():
        damage(copy / name)
        try:
            if kind in ("missing", "folder") and name in OPTIONAL:
                continue
            with pytest.raises(GyrusError, match=Path(name).name):
                pytest.fail(f"{kind} is not noticed: {READERS[name](Run(copy))}")
        finally:
            if (copy / name).is_dir():
                (copy / name).rmdir()
            shutil.copy(finished_run / name, copy / name)


def test_one_damaged_run_does_not_hide_the_others(copy, finished_run):
    other = shutil.copytree(copy, copy.parent / "other")
    for name in ("run.json", "config.yaml", "split.json", "metrics.json"):
        (other / name).write_bytes(b"\0\0")
        found = {run.folder: run for run in list_runs(copy.parent)}
        assert found[copy].status == "finished"
        assert found[other].status == "damaged"
        assert name in found[other].problem
        with pytest.raises(GyrusError, match=name):
            show_run(other)
        shutil.copy(finished_run / name, other / name)
