"""A classifier of sessions with two sequences: it finds what only one of them shows, and can do without it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

import gyrus
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.scan import scan
from gyrus.datasets.splits import Split
from gyrus.datasets.store import open_store
from gyrus.errors import ConfigError, DataError
from gyrus.export.manifest import write_checksums
from gyrus.runs.run_folder import Run
from gyrus.serving.app import create_app
from gyrus.synthetic.phantom_layouts import phantom
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.transforms.volume_steps import Window
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.explain.config import ExplainConfig
from tests.support.command_line import without_torch

CHANNELS = {"t1": "*_T1w", "flair": "*_FLAIR"}


def test_lesions_are_in_the_store_of_both_sequences_and_not_in_that_of_t1(tmp_path):
    """The brightest voxel of each channel tells the classes apart in the FLAIR, and in the T1 it does not."""
    data = phantom(tmp_path / "data", subjects=24, slices=4, size=32, layout="sequences")
    config = PreprocessingConfig(volume=(Window(),), steps=())
    auc = {}
    for name, options in {"t1": {"bids": {"suffix": "T1w"}}, "both": {"channels": CHANNELS}}.items():
        manifest = scan(data, **options)
        brightest = open_store(manifest, config, cache=tmp_path / name).pixels.max(axis=(2, 3, 4))
        auc[name] = [roc_auc_score(manifest.targets, channel) for channel in brightest.T]
    assert auc["t1"] == auc["both"][:1]
    assert auc["both"][0] < 0.75
    assert auc["both"][1] > 0.95


def _write(folder: Path, name: str, label: str, *, bright: bool) -> None:
    generator = np.random.default_rng(int(name[1:]))
    folder = folder / label
    folder.mkdir(parents=True, exist_ok=True)
    for sequence in ("T1w", "FLAIR"):
        pixels = generator.integers(60, 120, (16, 16))
        pixels[4:12, 4:12] += 100 if bright and sequence == "FLAIR" else 0
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"sub-{name}_{sequence}.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Run, Path]:
    """A network that has learned to do without a sequence; its data, in which the FLAIR alone shows the class."""
    folder = tmp_path_factory.mktemp("channels")
    for number in range(40):
        _write(folder / "data", f"P{number:03d}", "BA"[number % 2], bright=number % 2 == 0)
    for number in (1, 2, 7, 8, 12, 15):
        (folder / "data" / "BA"[number % 2] / f"sub-P{number:03d}_FLAIR.png").unlink()
    run = gyrus.train(
        data=folder / "data",
        out=folder / "run",
        overrides={
            "data.channels": CHANNELS,
            "data.missing_channel": "learn",
            "preprocessing.steps": [],
            "model.name": "baseline-cnn",
            "model.options": {"channels": [4, 8]},
            "training.epochs": 12,
            "training.batch_size": 8,
            "training.optimiser": {"name": "adam", "lr": 0.02},
            "evaluation.baselines": False,
            "evaluation.unlike_training": False,
            "evaluation.resamples": 50,
            "split.test": 0.4,
        },
    )
    return run, folder


def test_a_missing_sequence_costs_what_it_must(trained, tmp_path):
    run, _ = trained
    manifest = Manifest.load(run.manifest)
    assert run.description["in_channels"] == 2
    sets = [set(manifest.select(names).table["subject"]) for names in Split.load(run.split).samples.values()]
    assert not (sets[0] & sets[1] | sets[0] & sets[2] | sets[1] & sets[2])
    new = tmp_path / "new"
    for number in range(100, 112):
        _write(new, f"P{number}", "BA"[number % 2], bright=number % 2 == 0)
    both = gyrus.predict(run, [new]).table.sort_values("sample")
    for path in new.rglob("*_FLAIR.png"):
        path.unlink()
    alone = gyrus.predict(run, [new]).table.sort_values("sample")
    truth = both["sample"].str.contains("/B/").to_numpy()
    with_flair, without = ((table["logit:B"] - table["logit:A"]).to_numpy() for table in (both, alone))
    assert roc_auc_score(truth, with_flair) == 1.0
    # The T1 is noise: the answer without FLAIR hardly depends on the subject.
    assert without.std() < 0.2 * with_flair.std()


def test_the_files_of_a_session_are_one_input(trained, tmp_path):
    run, _ = trained
    _write(tmp_path, "P200", "x", bright=True)
    files = sorted((tmp_path / "x").iterdir())
    one, other = gyrus.predict(run, files), gyrus.predict(run, [tmp_path / "x"])
    assert len(one) == len(other) == 1
    assert np.allclose(one.logits, other.logits)
    for path in files:
        path.rename(path.with_name(path.name.replace("FLAIR", "dark").replace("T1w", "mprage")))
    renamed = gyrus.predict(run, [tmp_path / "x"], data=DataConfig(channels={"t1": "*_mprage", "flair": "*_dark"}))
    assert np.allclose(one.logits, renamed.logits)
    with pytest.raises(ConfigError, match="this classifier has the channels t1, flair"):
        gyrus.predict(run, [tmp_path / "x"], data=DataConfig(channels={"t2": "*"}))


def test_the_report_has_a_group_for_each_set_of_sequences(trained):
    run, _ = trained
    tables = json.loads(run.subgroups.read_text())["tables"]
    groups = next(table for table in tables if table["column"] == "sequences")["groups"]
    assert {group["name"] for group in groups} <= {"t1", "t1+flair"}


def test_the_explanation_names_the_sequence_that_decides(trained, tmp_path):
    run, _ = trained
    config = ExplainConfig(methods=("input-x-gradient",), images=10, checks=False)
    folder = gyrus.explain(run, config=config, out=tmp_path / "explanation")
    t1, flair = json.loads(folder.channels.read_text())["channels"]
    assert (t1["channel"], flair["channel"]) == ("t1", "flair")
    assert flair["decrease"]["value"] > 0.2 > abs(t1["decrease"]["value"])
    assert flair["share"]["value"] > 0.5
    page = folder.report.read_text()
    assert "<h2>Channels</h2>" in page
    assert (folder.figures / "channels.png").is_file()


def test_sessions_without_a_sequence_are_refused_unless_that_was_learned(trained, tmp_path):
    run, _ = trained
    _write(tmp_path / "new", "P300", "A", bright=False)
    (tmp_path / "new" / "A" / "sub-P300_FLAIR.png").unlink()
    changed = Run(tmp_path / "strict")

    shutil.copytree(run.folder, changed.folder)
    text = changed.config.read_text().replace("missing_channel: learn", "missing_channel: refuse")
    changed.config.write_text(text)
    facts = json.loads((changed.folder / "run.json").read_text())
    facts["settings"]["data"]["missing_channel"] = "refuse"
    (changed.folder / "run.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match=r"No file below .* is of the channel flair"):
        gyrus.predict(changed.folder, [tmp_path / "new"])
    with pytest.raises(ConfigError, match="was trained on sessions with all channels"):
        gyrus.predict(changed.folder, [tmp_path / "new"], data=DataConfig(missing_channel="learn"))


def test_a_bundle_reads_the_sequences_of_a_session_as_the_run(trained, tmp_path):
    run, folder = trained
    found = gyrus.export(run.folder, out=tmp_path / "bundle")
    manifest = found.manifest
    assert (dict(manifest.channels), manifest.missing_channel) == (CHANNELS, "learn")
    assert manifest.proof.compared
    assert manifest.proof.largest_difference < 1e-5
    assert len(manifest.references) == 3
    assert not gyrus.verify_bundle(tmp_path / "bundle").problems
    ours, theirs = (
        each.table.sort_values("sample", ignore_index=True)
        for each in (
            gyrus.predict_bundle(tmp_path / "bundle", [folder / "data"]).predictions(),
            gyrus.predict(run, [folder / "data"], engine="torch", device="cpu"),
        )
    )
    pd.testing.assert_frame_equal(ours, theirs, atol=1e-5, rtol=0)
    _write(tmp_path, "P200", "x", bright=True)
    files = sorted((tmp_path / "x").iterdir())
    one, other = (gyrus.predict_bundle(tmp_path / "bundle", each) for each in (files, [tmp_path / "x"]))
    assert len(one) == 1
    assert np.allclose(one.logits, other.logits)
    without_torch("predict", tmp_path / "bundle", *files, "--out", tmp_path / "p.csv", "-q")
    with pytest.raises(ConfigError, match="this classifier has the channels t1, flair"):
        gyrus.predict_bundle(tmp_path / "bundle", files, data=DataConfig(channels={"t2": "*"}))
    with pytest.raises(ConfigError, match=r"several files of a session as channels \(t1, flair\)"):
        create_app(tmp_path / "bundle")
    # Swapped sequences are another classifier, and are noticed.
    swapped = {"t1": CHANNELS["flair"], "flair": CHANNELS["t1"]}
    replace(manifest, channels=swapped).save(tmp_path / "bundle" / "bundle.json")
    write_checksums(tmp_path / "bundle")
    assert "are not those of the runs" in gyrus.verify_bundle(tmp_path / "bundle").problems[0]
