from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gyrus.datasets.scan import scan
from gyrus.errors import GyrusError, UnknownNameError
from gyrus.synthetic import phantom_layouts
from gyrus.synthetic.phantom import Phantom
from gyrus.synthetic.phantom_anatomy import SLAB
from gyrus.synthetic.phantom_layouts import LAYOUTS, write


def files(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return dict(sorted(found.items()))


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "L"
        return np.asarray(image)


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "nifti"])
def test_scan_recognises_subjects_and_slices(few: Phantom, tmp_path: Path, layout: str) -> None:
    manifest = scan(write(few, tmp_path / "out", layout))
    assert not manifest.problems
    assert set(manifest.classes) == set(few.class_names)
    assert manifest.subject_kind == ("scan" if layout == "id-slice" else "subject")
    for _, rows in manifest.table.groupby("subject"):
        assert sorted(rows["slice"]) == [0, 1, 2]
        assert rows["label"].nunique() == 1
    assert manifest.table["subject"].nunique() == 8


def expected(phantom: Phantom, name: Callable[[str, int], str]) -> dict[str, np.ndarray]:
    return {
        f"{phantom.class_names[label]}/{name(subject, number)}": image
        for subject, label, volume in zip(phantom.subjects, phantom.labels, phantom.volumes, strict=True)
        for number, image in enumerate(volume)
    }


def test_folder(few: Phantom, tmp_path: Path) -> None:
    found = files(write(few, tmp_path / "out"))
    wanted = expected(few, lambda subject, number: f"sub-{subject}_slice-{number:02d}.png")
    assert set(found) == set(wanted)
    assert all(np.array_equal(pixels(found[path]), wanted[path]) for path in wanted)


def test_id_slice_is_jpeg_with_numbers_for_names(few: Phantom, tmp_path: Path) -> None:
    found = files(write(few, tmp_path / "out", "id-slice"))
    wanted = expected(few, lambda subject, number: f"{20000 + int(subject[1:])}_{number}.jpeg")
    assert set(found) == set(wanted)
    assert max(np.abs(pixels(found[path]).astype(int) - wanted[path]).mean() for path in wanted) < 3


def test_train_test_splits_by_subject_and_holds_out_every_fourth(population: Phantom, tmp_path: Path) -> None:
    paths = [Path(path).parts for path in files(write(population, tmp_path / "out", "train-test"))]
    assert len(paths) == 40 * 6
    subjects = {subset: {path[2].split("_")[0] for path in paths if path[0] == subset} for subset in ("train", "test")}
    assert not subjects["train"] & subjects["test"]
    assert (len(subjects["train"]), len(subjects["test"])) == (28, 12)
    assert {path[1] for path in paths if path[0] == "test"} == set(population.class_names)


def test_csv(few: Phantom, tmp_path: Path) -> None:
    folder = write(few, tmp_path / "out", "csv")
    table = pd.read_csv(folder / "labels.csv")
    assert list(table.columns) == ["path", "label", "subject", "slice", "age", "sex"]
    assert len(table) == 24
    for row in table.itertuples():
        subject = few.subjects.index(row.subject)
        assert np.array_equal(pixels((folder / row.path).read_bytes()), few.volumes[subject, row.slice])
        assert row.label == few.class_names[few.labels[subject]]
        assert (row.age, row.sex) == (few.age[subject], few.sex[subject])


def test_parquet(few: Phantom, tmp_path: Path) -> None:
    folder = write(few, tmp_path / "out", "parquet") / "data"
    assert sorted(path.name for path in folder.iterdir()) == [
        "test-00000-of-00001.parquet",
        "train-00000-of-00001.parquet",
    ]
    subjects = []
    for path in folder.iterdir():
        table = pq.read_table(path)
        features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
        assert features["label"] == {"names": list(few.class_names), "_type": "ClassLabel"}
        subjects.append(set(table["subject"].to_pylist()))
        for row in table.to_pylist():
            subject = few.subjects.index(row["subject"])
            assert row["label"] == few.labels[subject]
            assert np.array_equal(pixels(row["image"]["bytes"]), few.volumes[subject, row["slice"]])
    assert subjects[0].isdisjoint(subjects[1])
    assert subjects[0] | subjects[1] == set(few.subjects)


def test_parquet_is_read_by_hugging_face_datasets(
    few: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    datasets = pytest.importorskip("datasets")
    folder = write(few, tmp_path / "out", "parquet")
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    subset = datasets.Dataset.from_parquet(
        str(folder / "data" / "train-00000-of-00001.parquet"), cache_dir=str(tmp_path / "cache")
    )
    assert subset.features["label"].names == list(few.class_names)
    subject = few.subjects.index(subset[0]["subject"])
    assert np.array_equal(np.asarray(subset[0]["image"]), few.volumes[subject, 0])


def test_nifti(few: Phantom, tmp_path: Path) -> None:
    folder = write(few, tmp_path / "out", "nifti")
    assert json.loads((folder / "dataset_description.json").read_text())["BIDSVersion"]
    table = pd.read_csv(folder / "participants.tsv", sep="\t")
    assert list(table.columns) == ["participant_id", "age", "sex", "diagnosis"]
    assert list(table["participant_id"]) == [f"sub-{name}" for name in few.subjects]
    assert list(table["diagnosis"]) == [few.class_names[label] for label in few.labels]
    image = nib.load(folder / "sub-P003" / "anat" / "sub-P003_T1w.nii.gz")
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert image.header.get_zooms() == pytest.approx(few.spacing[::-1])
    assert image.header.get_xyzt_units()[0] == "mm"
    # The front is row 0 of a slice, and the right side of the subject column 0.
    voxels = np.asarray(image.dataobj)
    assert np.array_equal(voxels[::-1, ::-1].transpose(2, 1, 0), few.volumes[2])
    bottom, top = (nib.affines.apply_affine(image.affine, (0, 0, edge))[2] for edge in (-0.5, 2.5))
    assert (bottom, top) == pytest.approx(SLAB)


def test_unknown_layout_is_refused_with_a_hint(few: Phantom, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'nifti'"):
        write(few, tmp_path / "out", "nifty")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_after_a_failure(
    few: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    save, written = phantom_layouts._save, []

    def fail_late(*arguments: object) -> None:
        if len(written) == 5:
            raise error
        written.append(arguments)
        save(*arguments)

    monkeypatch.setattr(phantom_layouts, "_save", fail_late)
    with pytest.raises(GyrusError if isinstance(error, OSError) else KeyboardInterrupt, match=r"No space|^$"):
        write(few, tmp_path / "out")
    assert len(written) == 5
    assert not any(tmp_path.iterdir())


def test_a_file_in_the_way_is_refused(few: Phantom, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(GyrusError, match="not an empty folder"):
        write(few, tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"


def test_a_parent_that_is_a_file_is_refused(few: Phantom, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(GyrusError, match="Cannot write"):
        write(few, tmp_path / "file" / "out")


def test_names_stay_unique_beyond_a_thousand_subjects_and_a_hundred_slices(few: Phantom, tmp_path: Path) -> None:
    many = replace(
        few,
        volumes=np.zeros((1, 101, 8, 8), dtype=np.uint8),
        labels=few.labels[:1],
        subjects=("P1001",),
    )
    assert len(files(write(many, tmp_path / "out"))) == 101
