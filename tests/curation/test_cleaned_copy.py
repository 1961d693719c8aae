from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gyrus.curation import cleaned_copy
from gyrus.curation.cleaned_copy import parse_steps, reading_options, write_copy, write_manifest
from gyrus.curation.cleaning import CleaningPlan, Rules, plan_cleaning
from gyrus.datasets.reader import Reader
from gyrus.datasets.scan import scan
from gyrus.errors import ConfigError, DataError, GyrusError
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.transforms.contrast_enhancement import Clahe

LAYOUTS = ("folder", "train-test", "id-slice", "csv", "parquet")


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 phantom subjects, with duplicates, conflicting labels, a black image and a file that is not an image."""
    phantom = generate(subjects=30, slices=2, classes=2, size=128, seed=6)
    folder = write(phantom, tmp_path_factory.mktemp("dirty") / "data")
    control, dementia = folder / "Control", folder / "Dementia"
    source = sorted(control.glob("*.png"))
    (control / "sub-P901_slice-00.png").write_bytes(source[0].read_bytes())
    (dementia / "sub-P902_slice-00.png").write_bytes(source[1].read_bytes())
    Image.fromarray(np.asarray(Image.open(source[2]))[:, ::-1]).save(control / "sub-P003_slice-08.png")
    Image.fromarray(np.zeros((128, 128), np.uint8)).save(control / "sub-P903_slice-00.png")
    (control / "sub-P904_slice-00.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def plan(dirty: Path) -> CleaningPlan:
    return plan_cleaning(scan(dirty))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("steps", [(), (Clahe(tiles=4),)], ids=["copied", "enhanced"])
def test_a_copy_is_read_with_the_same_subjects_labels_and_pixels(
    layout: str, steps: tuple[Clahe, ...], tmp_path: Path
) -> None:
    phantom = generate(subjects=8, slices=3, classes=2, size=32, seed=1)
    manifest = scan(write(phantom, tmp_path / "data", layout))
    plan = plan_cleaning(manifest, Rules(outliers=8))
    options = reading_options(plan.cleaned)
    written = scan(
        write_copy(plan, tmp_path / "out", steps=steps),
        subject_rule="id-slice" if "id-slice" in options else None,
    )
    assert written.problems == ()
    assert written.subject_kind == manifest.subject_kind
    assert written.classes == manifest.classes
    original = plan.cleaned.table
    keys = ["subject", "slice"]
    together = original.merge(written.table, on=keys, suffixes=("", "_new"), validate="one_to_one")
    assert len(together) == len(original) == len(written)
    assert (together["label"] == together["label_new"]).all()
    assert (together["subset"].fillna("") == together["subset_new"].fillna("")).all()
    if "age" in original:
        assert (together["age"] == together["age_new"]).all()
    row = written.table.index[written.table["sample"] == together["sample_new"].iloc[5]][0]
    before = Reader(plan.cleaned).read(5)
    expected = steps[0](before) if steps else before
    np.testing.assert_array_equal(Reader(written).read(int(row)), expected)
    if not steps:
        assert set(together["digest"]) == set(together["digest_new"])


def test_the_class_folders_alone_can_be_read_too(plan: CleaningPlan, tmp_path: Path) -> None:
    out = write_copy(plan, tmp_path / "out")
    alone = scan(out, source="folder")
    assert alone.subject_rule == "bids"
    columns = ["sample", "label", "subject"]
    assert alone.table[columns].equals(plan.cleaned.table[columns])


def test_a_manifest_alone_refers_to_the_original_images(plan: CleaningPlan, tmp_path: Path) -> None:
    out = write_manifest(plan, tmp_path / "deep" / "out")
    assert sorted(path.name for path in out.iterdir()) == ["decisions.csv", "manifest.csv", "preparation.json"]
    columns = ["sample", "label", "subject", "digest"]
    assert scan(out).table[columns].equals(plan.cleaned.table[columns])
    about = json.loads((out / "preparation.json").read_text())
    assert about["kept"] == len(plan.cleaned)
    assert about["rules"]["duplicates"] == plan.rules.duplicates
    log = pd.read_csv(out / "decisions.csv", keep_default_na=False)
    assert list(log.columns) == ["sample", "decision", "rule", "value", "threshold", "reason"]
    assert (log["decision"] == "keep").sum() == len(plan.cleaned)


def test_rows_of_parquet_need_a_copy(tmp_path: Path) -> None:
    manifest = scan(write(generate(subjects=4, slices=2, classes=2, size=32), tmp_path / "data", "parquet"))
    with pytest.raises(DataError, match="Write a copy"):
        write_manifest(plan_cleaning(manifest), tmp_path / "out")


def test_nothing_is_overwritten_and_nothing_half_written(
    plan: CleaningPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(GyrusError, match="not an empty folder"):
        write_copy(plan, tmp_path / "full")

    def interrupted(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_copy(plan, tmp_path / "out", progress=interrupted)
    monkeypatch.setattr(cleaned_copy, "write_json", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(GyrusError, match="disk full"):
        write_copy(plan, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_an_image_that_has_changed_is_refused(tmp_path: Path) -> None:
    data = write(generate(subjects=4, slices=2, classes=2, size=32), tmp_path / "data")
    plan = plan_cleaning(scan(data))
    image = data / plan.cleaned.table["path"].iloc[0]
    image.write_bytes((data / plan.cleaned.table["path"].iloc[1]).read_bytes())
    with pytest.raises(DataError, match="changed since the scan"):
        write_copy(plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    data = write(generate(subjects=4, slices=1, classes=2, size=32), tmp_path / "data", "csv")
    table = pd.read_csv(data / "labels.csv")
    table["label"] = table["label"].replace({"Control": "..", "Dementia": "a/b"})
    table.to_csv(data / "labels.csv", index=False)
    out = write_copy(plan_cleaning(scan(data), Rules(outliers=None)), tmp_path / "deep" / "out")
    assert scan(out).classes == ("..", "a/b")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_steps_are_parsed() -> None:
    assert parse_steps(["clahe", "{step: clahe, clip_limit: 3}"]) == (Clahe(), Clahe(clip_limit=3))
    with pytest.raises(ConfigError, match="Did you mean 'clahe'"):
        parse_steps(["clae"])
    with pytest.raises(ConfigError, match="clip_limit"):
        parse_steps(["{step: clahe, cliplimit: 3}"])
