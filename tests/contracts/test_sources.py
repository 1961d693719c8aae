"""One small data set, written in every layout by the libraries that people use, is always the same data set."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.reader import Reader
from gyrus.datasets.scan import SOURCES, scan
from gyrus.imaging.decoding import decode, inspect
from tests.datasets.sources.test_class_folders import AXIAL
from tests.datasets.sources.test_class_folders import LAYOUTS as VOLUME_LAYOUTS
from tests.support import images
from tests.support.hub import Hub, scan_in_new_process

CLASSES = ("NC", "MCI", "AD")


@dataclass(frozen=True)
class Slice:
    """One image of the data set."""

    label: str
    subject: str
    number: int
    subset: str
    content: bytes

    @property
    def name(self) -> str:
        return f"{self.subject}_slice-{self.number}.png"

    @property
    def digest(self) -> str:
        return inspect(self.content).digest


SLICES = [
    Slice(label, f"sub-{label}{person}", number, ("train", "train", "test")[person], images.gray(seed))
    for seed, (label, person, number) in enumerate(
        (label, person, number) for label in CLASSES for person in range(3) for number in range(2)
    )
]
BY_DIGEST = {one.digest: one for one in SLICES}


def _write_files(root: Path, place: Callable[[Slice], str]) -> None:
    for one in SLICES:
        file = root / place(one)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(one.content)


def _table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "path": [f"images/{one.name}" for one in SLICES],
            "label": [one.label for one in SLICES],
            "subject": [one.subject for one in SLICES],
            "slice": [one.number for one in SLICES],
            "subset": [one.subset for one in SLICES],
        }
    )


def folder_per_class(root: Path) -> Manifest:
    _write_files(root, lambda one: f"{one.label}/{one.name}")
    return scan(root)


def folder_per_subset_and_class(root: Path) -> Manifest:
    _write_files(root, lambda one: f"{one.subset}/{one.label}/{one.name}")
    return scan(root)


def folder_per_subject(root: Path) -> Manifest:
    _write_files(root, lambda one: f"{one.label}/{one.subject}/{one.name}")
    return scan(root)


def csv_table(root: Path) -> Manifest:
    _write_files(root, lambda one: f"images/{one.name}")
    _table().to_csv(root / "labels.csv", index=False)
    return scan(root / "labels.csv")


def tsv_table(root: Path) -> Manifest:
    _write_files(root, lambda one: f"images/{one.name}")
    _table().to_csv(root / "labels.tsv", index=False, sep="\t")
    return scan(root)


def parquet_table(root: Path) -> Manifest:
    _write_files(root, lambda one: f"images/{one.name}")
    _table().to_parquet(root / "labels.parquet")
    return scan(root / "labels.parquet")


def json_lines(root: Path) -> Manifest:
    _write_files(root, lambda one: f"images/{one.name}")
    table = _table().rename(columns={"path": "file_name"})
    table.to_json(root / "metadata.jsonl", orient="records", lines=True)
    return scan(root)


def utf16_table(root: Path) -> Manifest:
    _write_files(root, lambda one: f"images/{one.name}")
    _table().to_csv(root / "labels.csv", index=False, sep=";", encoding="utf-16")
    return scan(root)


def table_per_subset(root: Path) -> Manifest:
    _write_files(root, lambda one: f"images/{one.name}")
    for subset, rows in _table().groupby("subset"):
        rows.drop(columns="subset").to_csv(root / f"{subset}.csv", index=False)
    return scan(root)


def table_of_ids(root: Path) -> Manifest:
    _write_files(root, lambda one: f"images/{one.name}")
    ids = _table().drop(columns=["path", "slice"]).drop_duplicates()
    ids.rename(columns={"subject": "participant_id"}).to_csv(root / "clinical.csv", index=False)
    return scan(root)


def parquet_by_pandas(root: Path) -> Manifest:
    table = _table().drop(columns=["path", "subset"]).assign(image=[one.content for one in SLICES])
    table.to_parquet(root / "brains.parquet")
    return scan(root / "brains.parquet")


def parquet_by_pyarrow(root: Path) -> Manifest:
    for subset in ("train", "test"):
        chosen = [one for one in SLICES if one.subset == subset]
        table = pa.table(
            {
                "image": [{"bytes": one.content, "path": one.name} for one in chosen],
                "label": pa.array([one.label for one in chosen]).dictionary_encode(),
            }
        )
        pq.write_table(table, root / f"{subset}-00000-of-00001.parquet", row_group_size=5)
    return scan(root)


def _write_by_datasets(root: Path) -> None:
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    for subset in ("train", "test"):
        chosen = [one for one in SLICES if one.subset == subset]
        columns = {
            "image": [{"bytes": one.content, "path": one.name} for one in chosen],
            "label": [CLASSES.index(one.label) for one in chosen],
        }
        file = root / "data" / f"{subset}-00000-of-00001-0123456789abcdef.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        datasets.Dataset.from_dict(columns, features=features).to_parquet(file)


def parquet_by_datasets(root: Path) -> Manifest:
    _write_by_datasets(root)
    return scan(root)


def hub(root: Path) -> Manifest:
    _write_by_datasets(root / "served")
    with Hub("owner/brains", root / "served").serve() as address:
        results = scan_in_new_process(address, root, "hf:owner/brains")
    return Manifest.load(Path(results["hf:owner/brains"]))


LAYOUTS = {
    "folder": [folder_per_class, folder_per_subset_and_class, folder_per_subject],
    "table": [csv_table, tsv_table, parquet_table, json_lines, utf16_table, table_per_subset],
    "ids": [table_of_ids],
    "parquet": [parquet_by_pandas, parquet_by_pyarrow, parquet_by_datasets],
    "huggingface": [hub],
}
WITHOUT_SUBSETS = ("folder_per_class", "folder_per_subject", "parquet_by_pandas")


@pytest.fixture(scope="module", params=[write for writers in LAYOUTS.values() for write in writers])
def layout(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Manifest]:
    """The name of a layout, and the manifest of the data set written in it."""
    write = request.param
    return write.__name__, write(tmp_path_factory.mktemp(write.__name__))


def test_every_source_is_met() -> None:
    # Without images, and with classes and subjects that are numbers: both have tests of their own.
    assert {*LAYOUTS, *VOLUME_LAYOUTS} == set(SOURCES) - {"people", "medmnist", "caps", "datalist"}


def test_all_images_are_found_and_good(layout: tuple[str, Manifest]) -> None:
    _, manifest = layout

    assert manifest.problems == ()
    assert sorted(manifest.table["digest"]) == sorted(BY_DIGEST)
    assert manifest.table["sample"].is_monotonic_increasing


ALL_WRITERS = [write for layouts in (LAYOUTS, VOLUME_LAYOUTS) for writers in layouts.values() for write in writers]


@pytest.mark.parametrize("write", [write for write in ALL_WRITERS if write is not hub])
def test_every_file_is_used_or_a_problem_or_left_aside(write: Callable[[Path], Manifest], tmp_path: Path) -> None:
    written = write(tmp_path)
    assert written.files is not None
    assert written.files.total == _files_on_disk(tmp_path)
    assert not written.files.left_aside

    clutter = ["notes.TXT", "deep/er/a.mat", "LICENSE", ".DS_Store", "AD/._x.png", ".git/objects/12", "x.mpeg"]
    for name in clutter:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"something else")
    (tmp_path / "loop").symlink_to(tmp_path)
    paths = (
        [name for names in written.table["files"] for name in names]
        if "files" in written.table
        else written.table["path"]
    )
    used = written.root / paths[0]
    if used.suffix != ".parquet":
        used.write_bytes(used.read_bytes()[:-30])  # of a DICOM series all files are those of the problem

    for labelled in (True, False):
        source = "dicom" if write.__name__.startswith("dicom") else None
        manifest = scan(tmp_path, labelled=labelled, source=source, orientation=AXIAL)

        assert manifest.files is not None
        assert manifest.files.total == _files_on_disk(tmp_path)
        assert manifest.files.left_aside == {"hidden": 3, ".txt": 1, ".mat": 1, ".mpeg": 1, "without extension": 1}
        assert (manifest.files.unusable > 0) == (len(manifest.problems) > 0) == (used.suffix != ".parquet")
        assert manifest.files.tables == written.files.tables


def _files_on_disk(root: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(root))


def test_labels_subjects_and_slices_are_the_same(layout: tuple[str, Manifest]) -> None:
    name, manifest = layout

    assert manifest.classes == CLASSES
    assert manifest.subject_kind == "subject"
    for row in manifest.table.itertuples():
        one = BY_DIGEST[row.digest]
        assert (row.label, row.subject, row.slice) == (one.label, one.subject, one.number)
        assert pd.isna(row.subset) if name in WITHOUT_SUBSETS else row.subset == one.subset


def test_pixels_are_the_same(layout: tuple[str, Manifest]) -> None:
    _, manifest = layout
    reader = Reader(manifest)

    for position, (digest, shape) in enumerate(zip(manifest.table["digest"], manifest.table["shape"], strict=True)):
        pixels = reader.read(position)
        assert pixels.shape == (1, *shape)
        np.testing.assert_array_equal(pixels, decode(BY_DIGEST[digest].content))


def test_a_saved_manifest_is_the_same(layout: tuple[str, Manifest], tmp_path: Path) -> None:
    _, manifest = layout

    manifest.save(tmp_path / "manifest.parquet")
    loaded = Manifest.load(tmp_path / "manifest.parquet")

    pd.testing.assert_frame_equal(loaded.table, manifest.table)
    assert (loaded.classes, loaded.root, loaded.digest) == (manifest.classes, manifest.root, manifest.digest)
    assert (loaded.subject_kind, loaded.subject_rule) == (manifest.subject_kind, manifest.subject_rule)
    np.testing.assert_array_equal(Reader(loaded).read(0), Reader(manifest).read(0))


def test_a_moved_data_set_is_recognised_and_the_same(layout: tuple[str, Manifest], tmp_path: Path) -> None:
    _, manifest = layout
    shutil.copytree(manifest.root, tmp_path / "moved")

    moved = scan(tmp_path / "moved")

    assert moved.digest == manifest.digest
    assert moved.root != manifest.root


def test_without_labels_only_the_labels_are_missing(layout: tuple[str, Manifest]) -> None:
    _, manifest = layout

    unlabelled = scan(manifest.root, labelled=False)

    assert unlabelled.table["label"].isna().all()
    assert unlabelled.table["digest"].to_list() == manifest.table["digest"].to_list()
    assert unlabelled.table["subject"].to_list() == manifest.table["subject"].to_list()
