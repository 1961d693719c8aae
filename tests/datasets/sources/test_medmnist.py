from __future__ import annotations

import numpy as np
import pytest

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.reader import Reader
from gyrus.datasets.scan import scan
from gyrus.datasets.splits import split
from gyrus.datasets.store import open_store
from gyrus.errors import DataError
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.transforms.volume_steps import Window

SHAPES = {"gray": (9, 7), "colour": (9, 7, 3), "volume": (5, 9, 7)}
COUNTS = {"train": 12, "val": 3, "test": 4}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GYRUS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def arrays(kind, subsets=COUNTS, seed=0):
    random = np.random.default_rng(seed)
    found = {}
    for subset in subsets:
        count = COUNTS[subset]
        found[f"{subset}_images"] = random.integers(0, 256, (count, *SHAPES[kind])).astype(np.uint8)
        found[f"{subset}_labels"] = (np.arange(count) % 11).astype(np.uint8)[:, None]
    return found


def write(path, content):
    np.savez_compressed(path, **content)
    return path


@pytest.mark.parametrize("kind", SHAPES)
def test_pixels_labels_and_subsets_are_those_of_the_file(kind, tmp_path):
    content = arrays(kind)
    path = write(tmp_path / "pathmnist.npz", content)
    manifest = scan(path)
    assert len(manifest) == 19
    assert manifest.classes == tuple(map(str, range(11)))
    assert manifest.spatial_dims == (3 if kind == "volume" else 2)
    reader = Reader(manifest, (Window(low=0, high=255),))
    for position, row in enumerate(manifest.table.itertuples()):
        number = int(row.subject.partition("/")[2])
        original = content[f"{row.subset}_images"][number]
        expected = np.moveaxis(original, -1, 0) if kind == "colour" else original[None]
        np.testing.assert_array_equal(reader.read(position), expected)
        assert row.label == str(content[f"{row.subset}_labels"][number, 0])
    assert manifest.table["subject"].is_unique
    assert any("each image counts as a subject of its own" in note for note in manifest.notes)
    found = split(manifest)
    assert found.method == "given"
    assert {subset: len(samples) for subset, samples in found.samples.items()} == COUNTS


def test_a_missing_test_part_is_made_and_the_file_may_move(tmp_path, cache):
    content = arrays("gray", ("train", "val"))
    path = write(tmp_path / "a.npz", content)
    manifest = scan(path)
    assert set(manifest.table["subset"]) == {"train", "val"}
    moved = path.rename(tmp_path / "b.npz")
    again = scan(moved)
    assert again.digest == manifest.digest
    manifest.save(tmp_path / "manifest.parquet")
    store = open_store(Manifest.load(tmp_path / "manifest.parquet"), PreprocessingConfig(steps=()), cache=cache)
    assert store.pixels.shape == (15, 1, 9, 7)


def test_new_images_need_no_labels(tmp_path):
    content = {"test_images": arrays("volume")["test_images"]}
    path = write(tmp_path / "new.npz", content)
    manifest = scan(path, labelled=False)
    assert len(manifest) == 4
    assert manifest.table["label"].isna().all()
    with pytest.raises(DataError, match="has no labels"):
        scan(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"train_labels": np.zeros((12, 14), np.uint8)}, "14 labels for each image"),
        ({"train_labels": np.zeros(5, np.uint8)}, r"train_labels has the shape \(5,\) for 12 images"),
        ({"train_images": np.zeros((12, 9, 7), np.float32)}, "the type float32"),
        ({"train_images": np.zeros((12, 9), np.uint8)}, r"the shape \(12, 9\)"),
        ({"train_labels": np.array([None] * 12)}, "cannot be read as a file of MedMNIST"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_and_nothing_is_left(change, words, tmp_path, cache):
    path = write(tmp_path / "bad.npz", {**arrays("gray"), **change})
    with pytest.raises(DataError, match=words):
        scan(path)
    assert not list((cache / "medmnist").glob("*")) if (cache / "medmnist").is_dir() else True


def test_a_damaged_file_and_other_arrays_are_refused(tmp_path):
    path = write(tmp_path / "short.npz", arrays("gray"))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError):
        scan(path)
    with pytest.raises(DataError, match="cannot be read as a file of MedMNIST"):
        scan(path, source="medmnist")
    other = write(tmp_path / "other.npz", {"array": np.zeros((4, 5, 6))})
    with pytest.raises(DataError, match="no array is named train_images"):
        scan(other, source="medmnist")
