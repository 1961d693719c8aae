"""Pretraining without labels, and trainings that start from its weights."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import gyrus
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.errors import ConfigError, DataError, GyrusError, LeakageError, RunError, WeightsError
from gyrus.runs.run_folder import Run
from gyrus.tuning.tune import tune
from gyrus.workflows.pretrain import PretrainedWeights, _HeldOut, _without, pretrain
from gyrus.workflows.train import train
from gyrus.workflows.weights_origin import WeightsOrigin
from tests.conftest import SMALL
from tests.support.command_line import refused, succeeded
from tests.support.tiny_study import tiny_study

PREPARED = {"preprocessing.steps.1.size": [32, 32], "training.device": "cpu"}
QUICK = {**PREPARED, "training.epochs": 3}
BARE = {**SMALL, "training.epochs": 1, "evaluation.report": False, "evaluation.baselines": False}
BARE |= {"evaluation.unlike_training": False}


@pytest.fixture(scope="module")
def pretrained(phantom_folder: Path, finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> PretrainedWeights:
    """Without the validation and test subjects of the finished run; not to be written into."""
    out = tmp_path_factory.mktemp("pretrained") / "weights"
    return pretrain("dementia-baseline", data=phantom_folder, out=out, exclude=[finished_run], overrides=QUICK)


def test_held_out_subjects_are_left_out(pretrained, finished_run):
    split, table = Split.load(Run(finished_run).split), Manifest.load(Run(finished_run).manifest).table
    origin = WeightsOrigin.of(pretrained.weights)
    held_out = {*split.subjects["val"], *split.subjects["test"]}
    assert not origin.subjects.seen_subjects(held_out)
    assert {*origin.subjects.seen_subjects(table["subject"])} == {*split.subjects["train"]}
    record = pretrained.pretraining
    assert (record.subjects, record.images) == (len(split.subjects["train"]), len(split.samples["train"]))
    assert record.excluded == len(table) - record.images
    assert 0 < record.error < record.error_of_mean
    assert pretrained.picture.is_file()


def test_a_training_starts_from_the_weights_and_records_them(pretrained, phantom_folder, tmp_path):
    weights = {"model.pretrained": str(pretrained.weights), "model.freezing.all_but_last": 0}
    run = train("dementia-baseline", data=phantom_folder, out=tmp_path / "run", overrides={**BARE, **weights})
    described = json.loads(run.model.read_text())["pretrained"]
    assert described["source"] == str(pretrained.weights)
    before, after = load_file(pretrained.weights), load_file(run.weights)
    frozen = {name: value for name, value in before.items() if "running" not in name and "num_batches" not in name}
    assert frozen
    for name, value in frozen.items():
        assert torch.equal(after[f"backbone.{name}"], value), name


def test_weights_that_have_seen_test_subjects_are_refused(pretrained, phantom_folder, tmp_path):
    overrides = {**BARE, "model.pretrained": str(pretrained.weights), "seed": 4}
    with pytest.raises(LeakageError, match=r"were trained on images of \d of \d test subjects .* --exclude"):
        train("dementia-baseline", data=phantom_folder, out=tmp_path / "run", overrides=overrides)
    assert not (tmp_path / "run").exists()


def test_a_study_refuses_weights_that_have_seen_test_subjects(pretrained, phantom_folder, tmp_path):
    overrides = {**BARE, "model.pretrained": str(pretrained.weights), "seed": 4}
    with pytest.raises(LeakageError, match="test subjects"):
        tune("dementia-baseline", study=tiny_study(1), data=phantom_folder, out=tmp_path / "study", overrides=overrides)
    assert not any((tmp_path / "study").glob("*.json"))


def test_the_weights_of_a_run_are_not_tested_on_its_training_subjects(phantom_folder, finished_run, tmp_path):
    overrides = {**BARE, "model.pretrained": str(Run(finished_run).weights)}
    with pytest.raises(LeakageError, match="test subjects"):
        train("dementia-baseline", data=phantom_folder, out=tmp_path / "other", overrides={**overrides, "seed": 4})
    assert train("dementia-baseline", data=phantom_folder, out=tmp_path / "same", overrides=overrides).exists


def test_copies_of_seen_files_under_other_names_are_found(pretrained, phantom_folder, tmp_path):
    """All files are copied with other subject names: their digests tell."""
    for path in phantom_folder.rglob("*.png"):
        copy = tmp_path / "renamed" / path.relative_to(phantom_folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.with_name(copy.name.replace("sub-P", "sub-Q")).write_bytes(path.read_bytes())
    found = gyrus.scan(tmp_path / "renamed")
    split = gyrus.split(found)
    origin = WeightsOrigin.of(pretrained.weights)
    known = gyrus.scan(phantom_folder)
    assert not origin.subjects.seen_subjects(found.table["subject"])
    seen = {name.replace("Q", "P") for subset in split.samples for name in origin.seen(found, split, subset)}
    assert seen == {*origin.subjects.seen_subjects(known.table["subject"])} != set()


def test_images_of_unknown_subjects_are_not_taken_for_those_of_one(phantom_folder):
    manifest = gyrus.scan(phantom_folder)
    nobody = manifest.table["subject"].astype("string").where(manifest.table["sample"].isna())
    nameless = replace(manifest, table=manifest.table.assign(subject=nobody))
    held_out = _HeldOut(phantom_folder, frozenset(), frozenset(manifest.table["digest"].iloc[:3]))
    left = _without(nameless, [held_out], gyrus.SILENT)
    assert left.table["sample"].tolist() == manifest.table["sample"].iloc[3:].tolist()


def test_images_that_cannot_be_prepared_are_skipped_in_words(tmp_path):
    gyrus.phantom(tmp_path / "data", subjects=6, slices=2, classes=2, size=32)
    larger = next((tmp_path / "data").rglob("*.png"))
    with Image.open(larger) as image:
        image.resize((40, 40)).save(larger)
    said: list[str] = []

    class Heard(type(gyrus.SILENT)):
        def say(self, text: str) -> None:
            said.append(text)

    overrides = {"preprocessing.steps": [{"step": "grayscale"}], "data.on_bad_file": "skip", "training.device": "cpu"}
    overrides |= {"training.epochs": 1}
    pretrain("dementia-baseline", data=tmp_path / "data", out=tmp_path / "out", overrides=overrides, display=Heard())
    assert [text for text in said if "Skipped" in text and larger.name in text]


def test_a_split_by_image_is_warned_of(pretrained, phantom_folder, tmp_path):
    said: list[str] = []

    class Heard(type(gyrus.SILENT)):
        def say(self, text: str) -> None:
            said.append(text)

    overrides = {**BARE, "model.pretrained": str(pretrained.weights), "split.unit": "image"}
    overrides["preprocessing.intensity.method"] = "zscore"
    train("dementia-baseline", data=phantom_folder, out=tmp_path / "run", overrides=overrides, display=Heard())
    warnings = [text for text in said if "pretrained" in text or "weights" in text.split(" were")[0]]
    assert any("subjects of the test set, so its scores are too high" in text for text in warnings)
    assert any("were prepared differently: preprocessing.intensity" in text for text in warnings)


def test_a_split_file_names_whom_to_exclude(phantom_folder, finished_run, tmp_path):
    split = tmp_path / "split.json"
    gyrus.split(gyrus.scan(phantom_folder), seed=3).save(split)
    out = tmp_path / "weights"
    found = pretrain("dementia-baseline", data=phantom_folder, out=out, exclude=[split, finished_run], overrides=QUICK)
    held_out = {name for each in (split, Run(finished_run).split) for name in Split.load(each).subjects["test"]}
    assert not WeightsOrigin.of(found.weights).subjects.seen_subjects(held_out)


def test_an_interrupted_pretraining_continues_to_the_same_weights(
    pretrained, phantom_folder, finished_run, tmp_path, monkeypatch
):
    from gyrus.training.lightning_module import TrainingModule

    arguments = {"data": phantom_folder, "out": tmp_path / "out", "exclude": [finished_run], "overrides": QUICK}
    with monkeypatch.context() as patched:
        start = TrainingModule.on_train_epoch_start

        def interrupted(self: TrainingModule) -> None:
            if len(self.history) == 1:
                signal.raise_signal(signal.SIGINT)
            start(self)

        patched.setattr(TrainingModule, "on_train_epoch_start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrain("dementia-baseline", **arguments)
    assert not (tmp_path / "out" / "weights.safetensors").exists()
    with pytest.raises(RunError, match=r"training.epochs was 3, is 4"):
        pretrain("dementia-baseline", **{**arguments, "overrides": {**QUICK, "training.epochs": 4}})
    again = pretrain("dementia-baseline", **arguments)
    one, other = load_file(again.weights), load_file(pretrained.weights)
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert pretrain("dementia-baseline", **arguments) == again


def test_mistakes_are_refused_before_anything_is_written(phantom_folder, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match="has no network to pretrain"):
        pretrain("linear-voxels", data=phantom_folder, out=out)
    with pytest.raises(ConfigError, match="No data"):
        pretrain("dementia-baseline", out=out)
    with pytest.raises(ConfigError, match="hidden"):
        pretrain("dementia-baseline", data=phantom_folder, out=out, masking={"hidden": 1.5})
    with pytest.raises(GyrusError, match="no-such-split"):
        pretrain("dementia-baseline", data=phantom_folder, out=out, exclude=[tmp_path / "no-such-split.json"])
    split = gyrus.split(gyrus.scan(phantom_folder))
    everyone = {**split.subjects, "test": (*split.subjects["test"], *split.subjects["train"])}
    Split(split.samples, everyone, "subject", "holdout", 0, split.manifest_digest).save(tmp_path / "all.json")
    with pytest.raises(DataError, match="All images belong to validation and test subjects"):
        pretrain("dementia-baseline", data=phantom_folder, out=out, exclude=[tmp_path / "all.json"])
    assert not out.exists()
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(RunError, match="Give a new folder"):
        pretrain("dementia-baseline", data=phantom_folder, out=out, overrides=QUICK)


def test_the_command(phantom_folder, finished_run, tmp_path):
    settings = [part for name, value in QUICK.items() for part in ("--set", f"{name}={json.dumps(value)}")]
    command = ["pretrain", "--recipe", "dementia-baseline", "--data", phantom_folder, "--out", tmp_path / "out"]
    text = succeeded(*command, *settings, "--exclude", finished_run, "--hidden", "0.5", "--block", "8,8", "-q")
    assert "left out by --exclude" in text
    assert "weights.safetensors" in text
    assert "of the error of the mean intensity" in text
    assert json.loads((tmp_path / "out" / "pretraining.json").read_text())["masking"] == {
        "hidden": 0.5,
        "block": [8, 8],
    }
    assert "--block must be whole numbers" in refused(*command, "--block", "8,x")


def test_weights_of_other_software_are_read_by_a_mapping(pretrained, phantom_folder, tmp_path):
    """A checkpoint as published ones are: wrapped, with a prefix, other names, and a decoder."""
    known = load_file(pretrained.weights)
    published = {f"module.encoder.{name.replace('units.', 'stage_')}": value for name, value in known.items()}
    published["module.decoder.weight"] = torch.zeros(3)
    torch.save({"state_dict": published, "epoch": 7}, tmp_path / "published.pth")
    mapping = tmp_path / "mapping.yaml"
    mapping.write_text(
        r"""
rename: {'^module\.encoder\.': '', 'stage_': 'units.'}
drop: ['decoder']
preprocessing: {intensity: {method: zscore}}
licence: CC-BY-4.0
"""
    )
    overrides = {**BARE, "model.pretrained": str(tmp_path / "published.pth"), "model.freezing.all_but_last": 0}
    with pytest.raises(WeightsError, match="another architecture"):
        train("dementia-baseline", data=phantom_folder, out=tmp_path / "without", overrides=overrides)
    overrides["model.pretrained_mapping"] = str(mapping)
    run = train("dementia-baseline", data=phantom_folder, out=tmp_path / "run", overrides=overrides)
    assert json.loads(run.model.read_text())["pretrained"]["licence"] == "CC-BY-4.0"
    name = next(name for name in known if name.endswith("weight"))
    assert torch.equal(load_file(run.weights)[f"backbone.{name}"], known[name])
    mapping.write_text("rename: {'(': ''}")
    with pytest.raises(ConfigError, match="not a regular expression"):
        train("dementia-baseline", data=phantom_folder, out=tmp_path / "wrong", overrides=overrides)
    mapping.write_text("drop: ['.']")
    with pytest.raises(WeightsError, match="drops all tensors"):
        train("dementia-baseline", data=phantom_folder, out=tmp_path / "empty", overrides=overrides)
