"""``gyrus data`` on real files."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from tests.support.command_line import SETTINGS, gyrus, refused, succeeded
from tests.support.heads import nifti, noise
from tests.support.sources import write_images


@pytest.fixture
def dirty(phantom_folder: Path, tmp_path: Path) -> Path:
    """The small phantom with one duplicate image."""
    folder = shutil.copytree(phantom_folder, tmp_path / "data")
    image = sorted((folder / "Control").glob("*.png"))[0]
    shutil.copy(image, image.with_name(image.name.replace("slice-00", "slice-09")))
    return folder


def test_prepared_data_can_be_trained_on(dirty: Path, tmp_path: Path) -> None:
    out = tmp_path / "clean"
    options = (
        "--rule",
        "outliers=off",
        "--rule",
        "duplicates=1.0",
        "--step",
        "min-max",
        "--step",
        "{step: clahe, tiles: 4}",
    )
    result = gyrus("data", "prepare", dirty, "--out", out, *options)
    assert result.returncode == 0, result.stderr
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "all 97 96 24" in lines
    assert "Removed by the rule duplicates: 1" in lines
    log = pd.read_csv(out / "decisions.csv")
    assert (log["decision"] == "remove").sum() == 1
    run = tmp_path / "run"
    trained = gyrus("train", "--recipe", "dementia-baseline", "--data", out, "--out", run, *SETTINGS)
    assert trained.returncode == 0, trained.stderr
    assert "all 24 96" in [" ".join(line.split()) for line in gyrus("data", "scan", out).stdout.splitlines()]


def test_a_dry_run_writes_nothing(dirty: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = gyrus("data", "prepare", dirty, "--dry-run", "--out", tmp_path / "out", "--rule", "duplicates=1.0")
    assert result.returncode == 0, result.stderr
    assert "Removed by the rule duplicates: 1" in result.stdout
    assert "Dry run: nothing was written." in result.stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_former_names_of_rules_are_understood(dirty: Path) -> None:
    result = gyrus("data", "prepare", dirty, "--dry-run", "--rule", "copies=1.0", "--rule", "outliers=off")
    assert "Removed by the rule duplicates: 1" in result.stdout
    assert "the rule copies is now called duplicates" in result.stderr


def test_a_manifest_alone_is_read_like_the_images(dirty: Path, tmp_path: Path) -> None:
    result = gyrus("data", "prepare", dirty, "--out", tmp_path / "out", "--manifest-only", "--rule", "outliers=off")
    assert result.returncode == 0, result.stderr
    assert not list((tmp_path / "out").rglob("*.png"))
    assert "Subjects: by column subject" in gyrus("data", "scan", tmp_path / "out").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "OUT", "--balance"], "training.sampler=balanced"),
        (["--dry-run", "--balance"], "copies made before the split"),
        ([], "--out"),
        (["--out", "FULL"], "Nothing is overwritten"),
        (["--out", "OUT", "--manifest-only", "--step", "clahe"], "Give only one of them"),
        (["--out", "OUT", "--rule", "outlier=3"], "'outliers'"),
        (["--out", "OUT", "--rule", "duplicates=0.2"], "duplicates"),
        (["--out", "OUT", "--rule", "duplicates"], "NAME=VALUE"),
        (["--out", "OUT", "--step", "clahee"], "'clahe'"),
        (["--out", "OUT", "--rule", "empty=0.99"], "No image would remain"),
    ],
)
def test_mistakes_are_reported_and_leave_nothing_behind(
    dirty: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    places = {"OUT": tmp_path / "out", "FULL": dirty}
    before = sorted(tmp_path.rglob("*"))
    assert words in refused("data", "prepare", dirty, *[places.get(argument, argument) for argument in arguments])
    assert sorted(tmp_path.rglob("*")) == before


def test_scan_summarises_the_data(phantom_folder, tmp_path):
    result = gyrus("data", "scan", phantom_folder, "--out", tmp_path / "manifest.parquet")
    assert result.returncode == 0, result.stderr
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "Dementia 12 48" in lines
    assert "all 24 96" in lines
    assert "Subjects: by bids" in lines
    assert len(Manifest.load(tmp_path / "manifest.parquet")) == 96


def test_scan_names_every_bad_file(phantom_folder, tmp_path):
    bad = shutil.copytree(phantom_folder, tmp_path / "data")
    for path, content in zip(sorted(bad.rglob("*.png")), (b"", b"not an image"), strict=False):
        path.write_bytes(content)
    result = gyrus("data", "scan", bad)
    assert result.stdout.count("Problem: ") == 2
    message = refused("data", "split", bad, "--out", tmp_path / "split.json")
    assert message.count("slice-") == 2
    assert "--on-bad-file skip" in message
    skip = ("--on-bad-file", "skip")
    succeeded("data", "split", bad, "--out", tmp_path / "split.json", *skip)
    assert sum(map(len, Split.load(tmp_path / "split.json").samples.values())) == 24 * 4 - 2
    assert "94 samples" in succeeded("data", "convert", bad, "--to", "folder", "--out", tmp_path / "converted", *skip)


def test_split_knows_the_ways_out_that_its_errors_name(phantom_folder, tmp_path):
    unknown = ("data", "split", phantom_folder, "--out", tmp_path / "split.json", "--subject-rule", "none")
    assert "--subjects inferred" in refused(*unknown)
    assert "Subjects cannot be inferred from the pixels" in refused(*unknown, "--subjects", "inferred")


def test_split_writes_what_it_shows(phantom_folder, tmp_path):
    result = gyrus("data", "split", phantom_folder, "--out", tmp_path / "split.json", "--seed", 3)
    assert result.returncode == 0, result.stderr
    split = Split.load(tmp_path / "split.json")
    assert split.seed == 3
    assert str(len(split.samples["train"])) in result.stdout


def test_phantoms_of_every_layout_can_be_trained_on_or_scanned(tmp_path):
    for layout in ("folder", "train-test", "id-slice", "csv", "parquet"):
        options = ("--subjects", 8, "--slices", 3, "--size", 32, "--classes", 2, "--layout", layout)
        assert gyrus("data", "phantom", tmp_path / layout, *options).returncode == 0
        scanned = gyrus("data", "scan", tmp_path / layout)
        assert "all" in scanned.stdout, scanned.stderr
    assert "not an empty folder" in refused("data", "phantom", tmp_path / "csv")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["data", "split", "DATA", "--out", "OUT", "--val", "2"], "less than 1"),
        (["data", "phantom", "OUT", "--subjects", "0"], "subjects"),
        (["data", "phantom", "OUT", "--layout", "fodler"], "'folder'"),
        (["data", "scan", "DATA", "--subject-pattern", "("], "regular expression"),
    ],
)
def test_wrong_options_are_refused(phantom_folder, tmp_path, arguments, words):
    places = {"DATA": phantom_folder, "OUT": tmp_path / "out"}
    assert words in refused(*[places.get(argument, argument) for argument in arguments])
    assert not (tmp_path / "out").exists()


def test_a_scan_accounts_for_all_files_and_warns_about_few_subjects(tmp_path: Path) -> None:
    write_images(tmp_path, *(f"{label}/sub-{label}{n}_slice-{n}.png" for label in ("AD", "NC") for n in range(2)))
    (tmp_path / "AD" / "sub-x.heic").write_bytes(b"something else")
    result = gyrus("data", "scan", tmp_path, "--files", "*AD*", "--files", "*nc0*")
    assert "Files: 3 used, 2 left aside (1 .heic, 1 not asked for)" in result.stdout
    assert "Warning: The data have 3 subjects (2 AD, 1 NC). Each class needs at least 3" in result.stdout


def test_volumes_are_converted_and_previewed(tmp_path: Path) -> None:
    for name in ("AD/sub-1_T1w.nii", "NC/sub-2_T1w.nii"):
        nifti(noise(), tmp_path / "volumes" / name)
    result = gyrus("data", "convert", tmp_path / "volumes", "--to", "stack", "--out", tmp_path / "slices")
    assert result.returncode == 0, result.stderr
    assert "Note: The volumes have more than 8 bits" in result.stdout
    assert "2 samples as stack" in result.stdout
    out = tmp_path / "preview.png"
    result = gyrus("data", "preview", tmp_path / "volumes" / "AD" / "sub-1_T1w.nii", "--out", out)
    assert result.returncode == 0, result.stderr
    assert out.is_file()
