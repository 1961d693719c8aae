"""``gyrus audit`` on data that define subsets, with a split file, and of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gyrus.datasets.scan import scan
from gyrus.datasets.splits import SplitConfig, split
from gyrus.runs.run_folder import Run
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from tests.support.command_line import gyrus, refused

LEAKAGE = ("--no-maps", "--check", "leakage")


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 phantom subjects with 16 slices each."""
    phantom = generate(subjects=12, slices=16, classes=2, size=64, seed=4)
    return write(phantom, tmp_path_factory.mktemp("subjects") / "data")


@pytest.fixture(scope="module")
def copied_before_the_split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Augmented copies made before a random split, as one published project did."""
    generator = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("leaking") / "data"
    phantom = generate(subjects=12, slices=6, classes=2, size=64, seed=7)
    for subject, volume in zip(phantom.subjects, phantom.volumes, strict=True):
        label = phantom.class_names[phantom.labels[phantom.subjects.index(subject)]]
        for number, pixels in enumerate(volume):
            original = Image.fromarray(pixels)
            flipped = original.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            turned = original.rotate(float(generator.uniform(-10, 10)))
            for name, image in {"": original, "_aug_0": flipped, "_aug_1": turned}.items():
                subset = "test" if generator.random() < 0.15 else "train"
                path = folder / subset / label / f"{subject}_{number}{name}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path)
    return folder


def findings(out: Path) -> dict[str, list[dict[str, object]]]:
    entries = json.loads((out / "findings.json").read_text())["entries"]
    checks = {entry["check"] for entry in entries}
    return {check: [entry for entry in entries if entry["check"] == check] for check in checks}


def test_augmented_copies_made_before_the_split_are_found(copied_before_the_split: Path, tmp_path: Path) -> None:
    pattern = r"(?P<subject>P\d+)_(?P<slice>\d+)"
    result = gyrus("audit", copied_before_the_split, "--out", tmp_path / "out", *LEAKAGE, "--subject-pattern", pattern)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("The split leaks: ")
    found = findings(tmp_path / "out")
    leak = found["leakage"][0]
    assert leak["severity"] == "error"
    assert leak["numbers"]["leakage score"] > 0.8
    assert leak["numbers"]["shuffled labels"] > leak["numbers"]["chance with shuffled labels"] + 0.25
    assert any("in different subsets of the split" in str(entry["verdict"]) for entry in found["leakage"])


def test_augmented_copies_are_found_without_subjects_too(copied_before_the_split: Path, tmp_path: Path) -> None:
    options = ("--out", tmp_path / "out", *LEAKAGE, "--subject-rule", "none")
    assert gyrus("audit", copied_before_the_split, *options).returncode == 0
    across = [
        entry
        for entry in findings(tmp_path / "out")["leakage"]
        if "in different subsets of the split" in str(entry["verdict"])
    ]
    assert [entry["severity"] for entry in across] == ["error"]


def test_a_split_file_is_audited(phantoms: Path, tmp_path: Path) -> None:
    manifest = scan(phantoms)
    verdicts = {}
    for unit in ("subject", "image"):
        file = tmp_path / f"{unit}.json"
        split(manifest, SplitConfig(unit=unit), seed=1).save(file)
        result = gyrus("audit", phantoms, "--split", file, "--out", tmp_path / unit, *LEAKAGE)
        assert result.returncode == 0, result.stderr
        verdicts[unit] = findings(tmp_path / unit)["leakage"][0]
    assert verdicts["subject"]["severity"] == "ok"
    assert verdicts["image"]["severity"] == "error"
    assert verdicts["image"]["numbers"]["subjects in train and test"] == 12


def test_a_run_is_audited_with_its_own_data_and_split(phantoms: Path, tmp_path: Path) -> None:
    run, manifest = Run.create(tmp_path / "run"), scan(phantoms)
    manifest.save(run.manifest)
    split(manifest, SplitConfig(unit="image"), seed=1).save(run.split)
    result = gyrus("audit", "--run", run.folder, "--out", tmp_path / "out", *LEAKAGE)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("The split leaks: 12 of the 12 subjects in the test set")
    assert set(findings(tmp_path / "out")) == {"leakage"}


def test_json_and_csv_agree(phantoms: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert gyrus("audit", phantoms, "--out", out, "--no-maps", "--subject-rule", "none").returncode == 0
    entries = json.loads((out / "findings.json").read_text())["entries"]
    table = pd.read_csv(out / "findings.csv", keep_default_na=False)
    assert list(table.columns) == ["check", "severity", "sample", "reason"]
    told = [(entry["check"], flag["sample"]) for entry in entries for flag in entry["samples"] or [{"sample": ""}]]
    assert list(zip(table["check"], table["sample"], strict=True)) == told
    subjects = pd.read_csv(out / "subjects.csv")
    assert subjects["subject"].nunique() == 12
    known = scan(phantoms).table["subject"]
    assert subjects.groupby("subject")["sample"].size().eq(16).all()
    assert known.groupby(subjects["subject"].to_numpy()).nunique().eq(1).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "nothing to audit"),
        (["DATA", "--split", "x.json", "--run", "RUN"], "not both"),
        (["DATA", "--split", "/nowhere.json"], "/nowhere.json"),
        (["DATA", "--check", "leakige"], "'leakage'"),
        (["--run", "/nowhere"], "no run"),
        (["/nowhere"], "/nowhere"),
    ],
)
def test_mistakes_are_reported_and_leave_nothing_behind(
    arguments: list[str], words: str, phantoms: Path, tmp_path: Path
) -> None:
    places = {"DATA": phantoms}
    assert words in refused(
        "audit", *[places.get(argument, argument) for argument in arguments], "--out", tmp_path / "out"
    )
    assert not (tmp_path / "out").exists()


def test_the_split_of_other_data_is_refused(phantoms: Path, phantom_folder: Path, tmp_path: Path) -> None:
    split(scan(phantom_folder), SplitConfig(), seed=1).save(tmp_path / "split.json")
    message = refused("audit", phantoms, "--split", tmp_path / "split.json", "--out", tmp_path / "out")
    assert "images that are not in the data" in message
