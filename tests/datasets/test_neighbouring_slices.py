"""Slices from files with their neighbours: found by number, repeated at the ends of a scan, reported where missing."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.neighbouring_slices import with_neighbours
from gyrus.datasets.reader import Reader
from gyrus.datasets.scan import scan
from gyrus.datasets.slice_stacks import StackConfig, stack_slices
from gyrus.datasets.store import open_store
from gyrus.datasets.volume_slices import SliceConfig
from gyrus.errors import DataError
from gyrus.imaging.decoding import decode
from gyrus.inference.predictions import Predictions
from gyrus.transforms.image_steps import Resize
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.workflows.predict import predict
from gyrus.workflows.train import train
from tests.conftest import SMALL

BOTH = SliceConfig(neighbours=1)


def folder_of(path, scans: dict[int, tuple[str, list[int]]], mode: str = "L"):
    """Slices whose every pixel is ten times the scan plus the number of the slice."""
    for scan_id, (label, numbers) in scans.items():
        (path / label).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            pixels = np.full((8, 6), 10 * scan_id + number, np.uint8)
            Image.fromarray(pixels).convert(mode).save(path / label / f"{scan_id}_{number}.png")
    return scan(path, subject_rule="id-slice")


@pytest.fixture
def slices(tmp_path) -> Manifest:
    return folder_of(tmp_path, {1: ("AD", [0, 1, 2, 3]), 2: ("NC", [3, 4, 5]), 12: ("NC", [0, 1])})


def shown(manifest: Manifest) -> dict[str, list[int]]:
    reader = Reader(manifest)
    return {
        name.rpartition("/")[2].removesuffix(".png"): reader.read(row)[:, 0, 0].tolist()
        for row, name in enumerate(manifest.table["sample"])
    }


def test_neighbours_are_of_the_same_scan_and_the_ends_are_repeated(slices):
    found = with_neighbours(slices, BOTH)
    assert shown(found) == {
        "1_0": [10, 10, 11],
        "1_1": [10, 11, 12],
        "1_2": [11, 12, 13],
        "1_3": [12, 13, 13],
        "2_3": [23, 23, 24],
        "2_4": [23, 24, 25],
        "2_5": [24, 25, 25],
        "12_0": [120, 120, 121],
        "12_1": [120, 121, 121],
    }
    assert found.notes == slices.notes


def test_label_subject_session_and_number_travel_along(slices):
    found = with_neighbours(slices, BOTH)
    columns = ["sample", "path", "label", "subject", "session", "slice", "subset", "shape"]
    assert found.table[columns].equals(slices.table[columns])
    assert (found.classes, found.subject_kind, found.root) == (slices.classes, slices.subject_kind, slices.root)


def test_two_neighbours_on_each_side_give_five_channels(slices):
    assert shown(with_neighbours(slices, SliceConfig(neighbours=2)))["1_1"] == [10, 10, 11, 12, 13]


def test_missing_neighbours_are_reported_and_the_nearest_stands_in(tmp_path):
    manifest = folder_of(tmp_path, {1: ("AD", [0, 1, 3, 4, 5]), 2: ("NC", [0, 1, 2])})
    found = with_neighbours(manifest, BOTH)
    assert shown(found)["1_1"] == [10, 11, 11]
    assert shown(found)["1_3"] == [13, 13, 14]
    assert [note for note in found.notes if "1 neighbouring slices are missing in 1 of 2 scans" in note]


def test_numbers_that_rise_by_more_than_one_are_no_gaps(tmp_path):
    found = with_neighbours(folder_of(tmp_path, {1: ("AD", [0, 2, 4]), 2: ("NC", [1, 3, 5])}), BOTH)
    assert shown(found)["1_2"] == [10, 12, 14]
    assert not [note for note in found.notes if "neighbour" in note]


def test_a_slice_by_itself_is_its_own_neighbour_and_reported(tmp_path):
    found = with_neighbours(folder_of(tmp_path, {1: ("AD", [3]), 2: ("NC", [0, 1, 2])}), BOTH)
    assert shown(found)["1_3"] == [13, 13, 13]
    assert [note for note in found.notes if "1 of 2 scans have a single slice" in note]


def test_a_range_and_every_choose_the_slices_but_not_their_neighbours(slices):
    found = with_neighbours(slices, SliceConfig(neighbours=1, range=(0.3, 0.7)))
    assert shown(found) == {"1_1": [10, 11, 12], "1_2": [11, 12, 13], "2_4": [23, 24, 25]}
    assert "1_1" not in shown(with_neighbours(slices, SliceConfig(neighbours=1, every=2)))
    with pytest.raises(DataError, match="No slice lies from"):
        with_neighbours(slices, SliceConfig(range=(0.45, 0.49)))


def test_colours_become_gray_before_they_become_channels(tmp_path):
    found = with_neighbours(folder_of(tmp_path, {1: ("AD", [0, 1, 2]), 2: ("NC", [0])}, mode="RGB"), BOTH)
    assert shown(found)["1_1"] == [10, 11, 12]


def test_without_neighbours_the_slices_stay_as_they_are(slices):
    found = with_neighbours(slices, SliceConfig())
    assert found.digest == slices.digest
    assert list(found.table.columns) == list(slices.table.columns)


def test_the_digest_tells_neighbours_and_stacks_apart_and_survives_saving(slices, tmp_path):
    found, others = with_neighbours(slices, BOTH), with_neighbours(slices, SliceConfig(neighbours=2))
    digests = {
        slices.digest,
        found.digest,
        others.digest,
        stack_slices(slices, StackConfig(slices=3, short="pad")).digest,
    }
    assert len(digests) == 4
    found.save(tmp_path / "manifest.parquet")
    loaded = Manifest.load(tmp_path / "manifest.parquet")
    assert loaded.digest == found.digest
    assert shown(loaded) == shown(found)


def test_the_store_refuses_steps_that_take_neighbours_for_colours(slices, tmp_path):
    found = with_neighbours(slices, BOTH)
    with pytest.raises(DataError, match="would treat neighbouring slices"):
        open_store(found, PreprocessingConfig(), cache=tmp_path / "cache")
    store = open_store(found, PreprocessingConfig(steps=(Resize(size=(4, 4)),)), cache=tmp_path / "cache")
    assert (store.channels, store.image_size) == (3, (4, 4))


@pytest.mark.parametrize(
    ("config", "words"),
    [({"plane": "coronal"}, "needs volumes"), ({"unit": "mm", "range": (0, 9)}, "no known distance in mm")],
)
def test_what_slice_files_do_not_tell_is_refused_in_words(slices, config, words):
    with pytest.raises(DataError, match=words):
        with_neighbours(slices, SliceConfig(neighbours=1, **config))


def test_unknown_scans_and_repeated_numbers_are_refused_in_words(slices):
    unknown = Manifest.from_rows(slices.table.assign(subject=None, session=None), root=slices.root)
    with pytest.raises(DataError, match="Neighbouring slices need to know which slices belong to the same scan"):
        with_neighbours(unknown, BOTH)
    unnumbered = Manifest.from_rows(slices.table.assign(slice=None), root=slices.root)
    with pytest.raises(DataError, match="Neighbouring slices need slice numbers, but 9 slices have none"):
        with_neighbours(unnumbered, BOTH)
    twice = Manifest.from_rows(slices.table.assign(slice=[1] * 9), root=slices.root)
    with pytest.raises(DataError, match="are the same slice of the same scan"):
        with_neighbours(twice, BOTH)


def test_neighbours_of_real_slices(shared_data):
    folder = shared_data / "oasis-slices"
    manifest = scan(folder)
    people = sorted(manifest.table["subject"].unique())[:2]
    manifest = manifest.select(manifest.table["sample"][manifest.table["subject"].isin(people)].tolist())
    found = with_neighbours(manifest, BOTH)
    assert len(found) == len(manifest) == 64
    assert not [note for note in found.notes if "neighbour" in note]
    table = manifest.table[manifest.table["subject"] == people[0]].sort_values("slice")
    own = [decode((folder / path).read_bytes())[0] for path in table["path"]]
    reader, rows = Reader(found), found.table.reset_index().set_index("sample")["index"]
    for number in (0, 15, 31):
        pixels = reader.read(int(rows[table["sample"].iloc[number]]))
        expected = [own[max(number - 1, 0)], own[number], own[min(number + 1, 31)]]
        np.testing.assert_array_equal(pixels, expected)


def test_a_run_on_slices_with_neighbours_answers_again_from_the_folder(phantom_folder, tmp_path):
    overrides = {
        **{name: value for name, value in SMALL.items() if "steps" not in name},
        "training.epochs": 1,
        "preprocessing.steps": [{"step": "resize", "size": [32, 32]}],
        "data.slices.neighbours": 1,
        "evaluation.baselines": False,
    }
    run = train("dementia-baseline", data=phantom_folder, out=tmp_path / "run", overrides=overrides)
    test = Predictions.load(run.predictions("test"))
    again = predict(run, [phantom_folder], device="cpu").table
    again = again.set_index(again["sample"].str.removeprefix(f"{phantom_folder}/")).loc[test.table["sample"]]
    columns = [column for column in again if column.startswith("logit:")]
    np.testing.assert_allclose(again[columns], test.table[columns], atol=1e-5)
