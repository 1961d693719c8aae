"""Logged trainings: the loggers hold the values of the run folder."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from gyrus.datasets.manifest import Manifest
from gyrus.errors import MissingDependencyError
from gyrus.evaluation.result import Evaluation
from gyrus.runs.run_folder import Run
from gyrus.training import loggers
from gyrus.training.config import Tracking
from gyrus.training.loggers import LOGGERS, flatten, open_log
from gyrus.workflows.train import train
from tests.conftest import SMALL
from tests.support.toy import ActingDataset
from tests.support.toy_training import changed, interrupt, rows, subsets
from tests.support.toy_training import train as train_toy

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")
"""MLflow and W&B use deprecated parts of their own libraries."""

QUICK = {**SMALL, "evaluation.baselines": False}


def mlflow_client(folder: Path):
    tracking = pytest.importorskip("mlflow.tracking")
    return tracking.MlflowClient(f"sqlite:///{folder.resolve() / 'mlflow.db'}")


def only_run(folder: Path):
    client = mlflow_client(folder)
    experiment = client.get_experiment_by_name("gyrus")
    (run,) = client.search_runs([experiment.experiment_id])
    return client, run


@pytest.fixture(scope="module")
def followed(phantom_folder, tmp_path_factory):
    """A run with all loggers at once."""
    for place in LOGGERS.values():
        pytest.importorskip(place.library)
    out = tmp_path_factory.mktemp("followed") / "run"
    words = {"training.loggers": ["tensorboard", "mlflow", "wandb"], "training.tracking.every": 2}
    return train("dementia-baseline", data=phantom_folder, out=out, overrides={**QUICK, **words})


def test_mlflow_has_parameters_tags_and_every_number(followed):
    client, run = only_run(followed.folder.parent)
    assert run.info.status == "FINISHED"
    assert run.data.params["training.epochs"] == "2"
    assert run.data.params["model.name"] == "baseline-cnn"
    assert run.data.tags["data"] == Manifest.load(followed.manifest).digest
    assert run.data.tags["split"] == "subject"
    history = pd.read_csv(followed.history)
    logged = client.get_metric_history(run.info.run_id, "val_loss")
    assert [metric.step for metric in logged] == [1, 2]
    assert [metric.value for metric in logged] == pytest.approx(history["val_loss"].tolist())
    steps = [metric.step for metric in client.get_metric_history(run.info.run_id, "step_loss")]
    assert steps == list(range(2, steps[-1] + 1, 2))
    scores = Evaluation.load(followed.metrics).scores["subject"].metrics
    assert run.data.metrics["test_accuracy_by_subject"] == pytest.approx(scores["accuracy"].value)


def test_mlflow_keeps_figures_report_and_weights_but_no_list_of_subjects(followed):
    client, run = only_run(followed.folder.parent)
    kept = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"report.html", "model.safetensors", "config.yaml", "metrics.json", "figures"} <= kept
    assert not {"split.json", "manifest.parquet"} & kept
    figures = {Path(file.path).name for file in client.list_artifacts(run.info.run_id, "figures")}
    assert figures == {path.name for path in followed.figures.glob("*.png")}


def test_tensorboard_has_numbers_and_figures(followed):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulators.EventAccumulator(str(followed.folder / "tensorboard")).Reload()
    assert [scalar.step for scalar in events.Scalars("val_loss")] == [1, 2]
    assert set(events.Tags()["images"]) == {path.stem for path in followed.figures.glob("*.png")}
    assert events.Tags()["tensors"]


def records(path: Path) -> Iterator[bytes]:
    """What W&B's offline file holds: LevelDB's log format behind a header of 7 bytes."""
    data, place, whole = path.read_bytes(), 7, b""
    assert data[:4] == b":W&B"
    while place < len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
        _, length, kind = struct.unpack_from("<IHB", data, place)
        whole += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a record of one piece, or the last piece
            yield whole
            whole = b""


def test_the_offline_file_of_wandb_holds_the_history(followed):
    protocol = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    (path,) = (followed.folder / "wandb").glob("offline-run-*/run-*.wandb")
    losses, config = [], {}
    for data in records(path):
        record = protocol.Record.FromString(data)
        row = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        losses += [json.loads(row["val_loss"])] if "val_loss" in row else []
        for subset in (record.run.config, record.config):
            config |= {item.key or "/".join(item.nested_key): item.value_json for item in subset.update}
    assert losses == pytest.approx(pd.read_csv(followed.history)["val_loss"].tolist())
    assert config["training.epochs"] == "2"
    assert json.loads(config["tag.data"]) == Manifest.load(followed.manifest).digest


def test_a_resumed_training_continues_the_same_mlflow_run(tmp_path):
    pytest.importorskip("mlflow")
    folder = tmp_path / "run"
    folder.mkdir()
    subset, _ = subsets()
    config = changed(loggers=["mlflow"])
    train_toy(folder, config, train=ActingDataset(subset, epoch=2, batch=3, action=interrupt))
    train_toy(folder, config, resume=True)
    client, run = only_run(tmp_path)
    logged = client.get_metric_history(run.info.run_id, "val_loss")
    assert [metric.step for metric in logged] == [1, 2, 3, 4]
    assert [metric.value for metric in logged] == pytest.approx([float(row["val_loss"]) for row in rows(folder)])


@pytest.mark.parametrize("name", LOGGERS)
def test_missing_libraries_are_reported_before_a_folder_is_made(name, phantom_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match=rf"The logger {name} .*pip install"):
        train(
            "dementia-baseline",
            data=phantom_folder,
            out=tmp_path / "run",
            overrides={**QUICK, "training.loggers": [name]},
        )
    assert not (tmp_path / "run").exists()


def test_without_loggers_nothing_is_written(tmp_path):
    with open_log((), Tracking(), tmp_path) as log:
        log.epoch({"epoch": 1, "val_loss": math.nan})
        log.describe({}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_config_by_dotted_names():
    assert flatten({"a": {"b": 1, "c": [1, 2]}, "d": None}) == {"a.b": 1, "a.c": "[1, 2]", "d": None}


def test_the_run_is_finished_for_runs_too(followed):
    assert Run.open(followed.folder).status == "finished"
    assert set(json.loads((followed.folder / "tracking.json").read_text())) == set(LOGGERS)


def test_tensorboard_has_every_epoch_once(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    subset, _ = subsets()
    config = changed(loggers=["tensorboard"])
    train_toy(tmp_path, config, train=ActingDataset(subset, epoch=2, batch=3, action=interrupt))
    train_toy(tmp_path, config, resume=True)
    events = accumulators.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars = events.Scalars("val_loss")
    assert [scalar.step for scalar in scalars] == [1, 2, 3, 4]
    assert [scalar.value for scalar in scalars] == pytest.approx([float(row["val_loss"]) for row in rows(tmp_path)])
    assert not (tmp_path / "lightning_logs").exists()


def test_a_missing_library_is_reported_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda _: None)
    with pytest.raises(MissingDependencyError, match="tensorboard"):
        train_toy(tmp_path, changed(loggers=["tensorboard"]))
    assert list(tmp_path.iterdir()) == []
