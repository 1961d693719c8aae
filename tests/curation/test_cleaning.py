from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from gyrus.audit.duplicates import DuplicatePair
from gyrus.curation import cleaning
from gyrus.curation.cleaning import (
    CleaningPlan,
    Rules,
    decide,
    parse_rules,
    parse_steps,
    plan_cleaning,
    reading_options,
    write_copy,
    write_manifest,
)
from gyrus.datasets.manifest import Manifest
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
    Image.fromarray(np.zeros((128, 128), np.uint8)).save(control / "sub-P003_slice-09.png")
    (control / "sub-P904_slice-00.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def plan(dirty: Path) -> CleaningPlan:
    return plan_cleaning(scan(dirty))


def decided(plan: CleaningPlan) -> dict[str, tuple[str, str]]:
    return {each.sample: (each.decision, each.rule) for each in plan.decisions}


def test_each_fault_is_removed_by_its_rule(plan: CleaningPlan) -> None:
    found = decided(plan)
    assert found["Control/sub-P901_slice-00.png"] == ("remove", "duplicates")
    assert found["Control/sub-P003_slice-08.png"] == ("remove", "duplicates")
    assert found["Dementia/sub-P902_slice-00.png"] == ("remove", "conflicting_labels")
    assert found["Control/sub-P001_slice-01.png"] == ("remove", "conflicting_labels")
    assert found["Control/sub-P003_slice-09.png"] == ("remove", "empty")
    assert found["Control/sub-P904_slice-00.png"] == ("remove", "unusable")
    assert found["Control/sub-P001_slice-00.png"] == ("keep", "")


def test_every_image_has_one_decision_and_every_removal_a_reason(plan: CleaningPlan) -> None:
    table = plan.table
    assert sorted(table["sample"]) == sorted([*plan.manifest.table["sample"], "Control/sub-P904_slice-00.png"])
    removed = table[table["decision"] == "remove"]
    assert removed["reason"].ne("").all()
    measured = removed[removed["rule"].isin(["duplicates", "empty", "outliers"])]
    assert measured[["value", "threshold"]].notna().all(axis=None)
    assert sum(plan.removed.values()) == len(removed)
    assert len(plan.cleaned) + len(removed) == len(table)


def test_conflicting_labels_and_duplicates_of_other_subjects_are_noted(plan: CleaningPlan) -> None:
    assert any("have other labels" in note for note in plan.notes)
    assert any("name of another subject" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("off", "sample"),
    [
        ("duplicates", "Control/sub-P901_slice-00.png"),
        ("empty", "Control/sub-P003_slice-09.png"),
        ("conflicting_labels", "Control/sub-P001_slice-01.png"),
    ],
)
def test_a_disabled_rule_removes_nothing(off: str, sample: str, dirty: Path) -> None:
    rules = Rules.model_validate({"outliers": False, off: False})
    decisions = decided(plan_cleaning(scan(dirty), rules))
    assert off not in {rule for _, rule in decisions.values()}
    assert decisions[sample][0] == "keep"


def table_of(rows: list[dict[str, object]]) -> Manifest:
    for number, row in enumerate(rows):
        row |= {"path": row["sample"], "shape": row.get("shape", (8, 8)), "digest": str(number)}
    return Manifest.from_rows(pd.DataFrame(rows), root=Path(), subject_kind="subject", subject_rule="test")


def quality_of(count: int, **changed: list[float]) -> pd.DataFrame:
    names = ("intensity", "contrast", "SNR", "entropy", "foreground", "foreground SNR", "sharpness", "ghosting")
    values = dict.fromkeys((*names, "clipping", "bias field", "cropped"), [0.5] * count)
    return pd.DataFrame({**values, **changed})


def rows_of(*samples: str, **columns: list[object]) -> list[dict[str, object]]:
    labels = columns.pop("label", ["A"] * len(samples))
    rows = [{"sample": sample, "label": label} for sample, label in zip(samples, labels, strict=True)]
    for name, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[name] = value
    return rows


def test_of_duplicates_the_test_image_is_kept_then_the_larger_then_the_first_name() -> None:
    pairs = [
        DuplicatePair(0, 1, "near-duplicate", 0.999),
        DuplicatePair(1, 2, "near-duplicate", 0.998),
        DuplicatePair(3, 4, "identical file", 1.0),
    ]
    rows = rows_of("a", "b", "c", "d", "e", "f", label=[*"AAAAA", "B"], subset=["train", "train", "test", *[None] * 3])
    plan = decide(table_of(rows), quality_of(6), pairs, Rules())
    assert [each.sample for each in plan.decisions if each.decision == "remove"] == ["a", "b", "e"]
    sized = rows_of("a", "b", shape=[(8, 8), (9, 9)])
    plan = decide(table_of(sized), quality_of(2), pairs[:1], Rules())
    assert [each.sample for each in plan.cleaned.table.itertuples()] == ["b"]


def test_a_good_duplicate_of_a_bad_image_is_kept() -> None:
    plan = decide(
        table_of(rows_of("a", "b", "c")),
        quality_of(3, foreground=[0.001, 0.5, 0.5]),
        [DuplicatePair(0, 1, "near-duplicate", 0.998)],
        Rules(),
    )
    assert decided(plan) == {"a": ("remove", "empty"), "b": ("keep", ""), "c": ("keep", "")}


def test_quality_thresholds_are_the_ones_given() -> None:
    manifest = table_of(rows_of(*"abcdefgh"))
    quality = quality_of(8, cropped=[0.1] * 7 + [0.6], intensity=[50.0, 51, 49, 50, 52, 48, 50, 58])
    assert decide(manifest, quality, [], Rules(outliers=None)).removed == {}
    assert decide(manifest, quality, [], Rules(outliers=None, cropped=0.5)).removed == {"cropped": 1}
    assert decide(manifest, quality, [], Rules(outliers=4)).removed == {"outliers": 1}
    kept = decide(manifest, quality, [], Rules())
    assert kept.removed == {}
    assert any(
        note.startswith("1 kept image has unusual quality") and "--rule outliers=5" in note for note in kept.notes
    )
    plain = decide(manifest, quality, [], Rules(outliers=None, plain_z=2))
    assert plain.removed == {"plain_z": 1}
    z_score = (58 - quality["intensity"].mean()) / quality["intensity"].std(ddof=0)
    assert plain.decisions[-1].value == pytest.approx(z_score)
    assert plain.decisions[-1].threshold == 2


def test_removing_test_images_for_their_quality_is_noted() -> None:
    manifest = table_of(rows_of("a", "b", subset=["test", "test"]))
    assert "good images only" in decide(manifest, quality_of(2, foreground=[0.001, 0.5]), [], Rules()).notes[0]


def test_a_class_must_not_vanish() -> None:
    manifest = table_of(rows_of("a", "b", label=["A", "B"]))
    with pytest.raises(DataError, match="No image would remain of A, B"):
        decide(manifest, quality_of(2), [DuplicatePair(0, 1, "identical file", 1.0)], Rules())


def test_invalid_thresholds_are_refused() -> None:
    for bad in ({"outliers": -1}, {"duplicates": 0.5}, {"empty": 2}, {"cropped": True}, {"unknown": 1}):
        with pytest.raises(ValidationError):
            Rules.model_validate(bad)


def test_rules_are_parsed_and_former_names_are_understood() -> None:
    said: list[str] = []
    assert parse_rules(["outliers=7", "duplicates=off"], said.append) == Rules(outliers=7, duplicates=None)
    assert said == []
    assert parse_rules(["copies=0.99", "contrary=off", "classic=2"], said.append) == Rules(
        duplicates=0.99, conflicting_labels=False, plain_z=2
    )
    assert "Note: the rule copies is now called duplicates." in said
    with pytest.raises(ConfigError, match="'outliers'"):
        parse_rules(["outlier=3"])


def test_volumes_are_refused() -> None:
    rows = rows_of("a", "b", shape=[(8, 8, 8)] * 2)
    with pytest.raises(DataError, match="Only slices can be prepared"):
        plan_cleaning(table_of(rows))


LAYOUTS = ("folder", "train-test", "id-slice", "csv", "parquet")


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


def test_unknown_subjects_stay_unknown_whatever_the_new_names_look_like(tmp_path: Path) -> None:
    data = write(generate(subjects=8, slices=3, classes=2, size=32, seed=1), tmp_path / "data", "id-slice")
    unknown = scan(data, subject_rule="none")
    plan = plan_cleaning(unknown)
    assert scan(data).subject_kind == "scan"
    for out in (write_copy(plan, tmp_path / "copy"), write_manifest(plan, tmp_path / "table")):
        again = scan(out)
        assert (again.subject_kind, again.subject_rule) == ("unknown", "none")
        assert any("'subject' is empty" in note for note in again.notes)


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
    monkeypatch.setattr(cleaning, "write_json", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
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
