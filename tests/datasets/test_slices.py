"""Slices of volumes, and of slice images with their neighbours: found by number, repeated at the ends of a scan."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.reader import Reader
from gyrus.datasets.scan import scan
from gyrus.datasets.slice_stacks import StackConfig, stack_slices
from gyrus.datasets.slices import SliceConfig, slice_volumes, with_neighbours
from gyrus.datasets.store import open_store
from gyrus.errors import DataError
from gyrus.imaging.decoding import decode
from gyrus.imaging.orientation import affine_from_slices, array_from_slices, slices_along
from gyrus.inference.predictions import Predictions
from gyrus.transforms.image_steps import Grayscale, Resize
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.transforms.volume_steps import Percentiles, Resample, Shape, Window
from gyrus.workflows.predict import predict
from gyrus.workflows.train import train
from tests.conftest import SMALL
from tests.support.heads import nifti

EXACT = (Window(),)
SPACING = (4.0, 2.0, 1.0)


@pytest.fixture
def heads(tmp_path):
    """Four subjects of two classes as NIfTI, and their slices (slices, rows, columns) by subject."""
    pixels = {}
    for number, (subject, label) in enumerate([("a", "AD"), ("b", "AD"), ("c", "NC"), ("d", "NC")]):
        slices = np.random.default_rng(number).integers(0, 256, (11, 6, 5)).astype(np.uint8)
        affine = affine_from_slices(SPACING, slices.shape)
        nifti(array_from_slices(slices), tmp_path / label / f"sub-{subject}_ses-1_T1w.nii.gz", affine)
        pixels[f"sub-{subject}"] = slices
    return scan(tmp_path), pixels


def _read_all(manifest: Manifest, steps=EXACT) -> list[np.ndarray]:
    reader = Reader(manifest, steps)
    return [reader.read(position) for position in range(len(manifest))]


def test_a_folder_of_volumes_is_read_like_a_folder_of_images(heads):
    manifest, pixels = heads
    assert manifest.classes == ("AD", "NC")
    assert manifest.subject_kind == "subject"
    assert manifest.table["session"].tolist() == ["ses-1"] * 4
    assert manifest.table["shape"].tolist() == [(11, 6, 5)] * 4
    assert manifest.table["spacing"].tolist() == [pytest.approx(SPACING)] * 4
    for image, subject in zip(_read_all(manifest), manifest.table["subject"], strict=True):
        np.testing.assert_array_equal(image, pixels[subject][None])


@pytest.mark.parametrize("choose", ["centre", "even"])
def test_a_stack_of_a_volume_is_the_stack_of_its_slices(heads, choose):
    manifest, pixels = heads
    stacked = stack_slices(manifest, StackConfig(slices=5, choose=choose))
    numbers = {"centre": [3, 4, 5, 6, 7], "even": [0, 2, 5, 8, 10]}[choose]
    assert stacked.digest != manifest.digest
    for image, subject in zip(_read_all(stacked), stacked.table["subject"], strict=True):
        np.testing.assert_array_equal(image[0], pixels[subject][numbers])


def test_a_volume_with_too_few_slices_is_refused_or_padded(heads):
    manifest, pixels = heads
    with pytest.raises(DataError, match="has 11 slices after the steps"):
        _read_all(stack_slices(manifest, StackConfig(slices=13)))
    padded = _read_all(stack_slices(manifest, StackConfig(slices=13, short="pad")))[0][0]
    np.testing.assert_array_equal(padded[1:-1], pixels["sub-a"])
    assert not padded[[0, -1]].any()


def test_slices_keep_their_subject_and_lie_in_the_range(heads):
    manifest, pixels = heads
    slices = slice_volumes(manifest, SliceConfig(range=(0.2, 0.8), every=2))
    assert slices.table["slice"].unique().tolist() == [2, 4, 6, 8]
    assert slices.subject_kind == "subject"
    labels = dict(zip(manifest.table["subject"], manifest.table["label"], strict=True))
    for row, image in zip(slices.table.itertuples(), _read_all(slices), strict=True):
        assert row.label == labels[row.subject]
        assert row.session == "ses-1"
        np.testing.assert_array_equal(image[0], pixels[row.subject][row.slice])
    assert slices.table["digest"].is_unique


def test_ranges_in_mm_count_from_the_bottom(heads):
    slices = slice_volumes(heads[0], SliceConfig(range=(8, 16), unit="mm"))
    assert slices.table["slice"].unique().tolist() == [2, 3, 4]


def test_neighbours_are_channels_and_the_edge_is_its_own_neighbour(heads):
    manifest, pixels = heads
    slices = slice_volumes(manifest, SliceConfig(range=(0, 1), neighbours=1))
    images = _read_all(slices)
    first = pixels["sub-a"]
    np.testing.assert_array_equal(images[0], first[[0, 0, 1]])
    np.testing.assert_array_equal(images[5], first[[4, 5, 6]])
    np.testing.assert_array_equal(images[10], first[[9, 10, 10]])


def test_planes_are_oriented_as_radiologists_view_them(heads):
    manifest, pixels = heads
    first = pixels["sub-a"]
    coronal = _read_all(slice_volumes(manifest, SliceConfig(plane="coronal", range=(0, 1))))
    assert coronal[0].shape == (1, 11, 5)
    # From the back; the top of the head above, the subject's right on the left.
    np.testing.assert_array_equal(coronal[0][0], first[::-1, -1, :])
    sagittal = _read_all(slice_volumes(manifest, SliceConfig(plane="sagittal", range=(0, 1))))
    # From the left; the top above, the front on the left.
    np.testing.assert_array_equal(sagittal[0][0], first[::-1, :, -1])
    assert slices_along(first, "axial") is first


def test_a_position_in_fractions_is_independent_of_the_grid(heads):
    manifest, pixels = heads
    steps = (Window(), Resample(spacing=(2.0, 2.0, 1.0), interpolation="nearest"))
    middle = slice_volumes(manifest, SliceConfig(range=(0.5, 0.5)))
    np.testing.assert_array_equal(_read_all(middle, steps)[0][0], pixels["sub-a"][5])


def test_a_position_in_mm_outside_the_prepared_volume_is_refused(heads):
    slices = slice_volumes(heads[0], SliceConfig(range=(36, 40), unit="mm"))
    with pytest.raises(DataError, match=r"outside of the volume, which is 16 mm long.*Narrow data\.slices\.range"):
        _read_all(slices, (Window(), Shape(size=(5, 6, 5))))


def test_steps_of_colour_are_refused_for_neighbouring_slices(heads, tmp_path):
    slices = slice_volumes(heads[0], SliceConfig(range=(0.5, 0.5), neighbours=1))
    with pytest.raises(DataError, match="'grayscale' would treat neighbouring slices"):
        open_store(slices, PreprocessingConfig(steps=(Grayscale(),)), cache=tmp_path / "cache")
    store = open_store(slices, PreprocessingConfig(volume=EXACT, steps=()), cache=tmp_path / "cache")
    assert store.pixels.shape == (4, 3, 6, 5)


def test_a_saved_manifest_of_slices_loads_unchanged(heads, tmp_path):
    for shown in (slice_volumes(heads[0], SliceConfig()), stack_slices(heads[0], StackConfig(slices=4))):
        shown.save(tmp_path / "manifest.parquet")
        loaded = Manifest.load(tmp_path / "manifest.parquet")
        assert loaded.digest == shown.digest
        np.testing.assert_array_equal(_read_all(loaded)[2], _read_all(shown)[2])


def test_images_cannot_be_sliced_and_a_volume_that_changed_is_refused(heads, phantom_folder):
    with pytest.raises(DataError, match="need volumes"):
        slice_volumes(scan(phantom_folder), SliceConfig())
    manifest, _ = heads
    nifti(np.zeros((5, 6, 11), np.uint8), manifest.root / manifest.table["path"][0])
    with pytest.raises(DataError, match="changed since the scan"):
        _read_all(manifest)


@pytest.mark.parametrize("fields", [{"range": (0.6, 0.4)}, {"range": (0.5, 1.5)}, {"every": 0}, {"plane": "top"}])
def test_invalid_slice_configs_are_refused(fields):
    with pytest.raises(ValidationError):
        SliceConfig(**fields)


@given(count=st.integers(1, 12), low=st.floats(0, 1), high=st.floats(0, 1), neighbours=st.integers(0, 3))
@settings(deadline=None, max_examples=60)
def test_any_slice_of_any_volume_has_its_channels(count, low, high, neighbours):
    from gyrus.datasets.slices import show_sample

    pixels = np.random.default_rng(0).integers(0, 256, (1, count, 4, 3)).astype(np.uint8)
    at = (low + high) / 2
    view = f'{{"plane": "axial", "at": {at}, "unit": "fraction", "neighbours": {neighbours}, "volume": ""}}'
    shown = show_sample(pixels, (1.0, 1.0, 1.0), view, "it")
    assert shown.shape == (2 * neighbours + 1, 4, 3)
    np.testing.assert_array_equal(shown[neighbours], pixels[0, int(np.rint(at * (count - 1)))])


def test_default_percentiles_scale_any_gray_values_to_pixels(heads):
    image = Reader(heads[0]).read(0)
    assert image.min() == 0
    assert image.max() == 255
    np.testing.assert_array_equal(image, Reader(heads[0], (Percentiles(),)).read(0))


BOTH = SliceConfig(neighbours=1)


def folder_of(path, scans: dict[int, tuple[str, list[int]]], mode: str = "L"):
    """Slices whose every pixel but the last is ten times the scan plus the number of the slice."""
    for scan_id, (label, numbers) in scans.items():
        (path / label).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            pixels = np.full((8, 6), 10 * scan_id + number, np.uint8)
            pixels[-1, -1] = 255
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


def test_slices_keep_label_subject_session_and_number(slices):
    found = with_neighbours(slices, BOTH)
    columns = ["sample", "path", "label", "subject", "session", "slice", "subset", "shape"]
    assert found.table[columns].equals(slices.table[columns])
    assert (found.classes, found.subject_kind, found.root) == (slices.classes, slices.subject_kind, slices.root)


def test_two_neighbours_on_each_side_give_five_channels(slices):
    assert shown(with_neighbours(slices, SliceConfig(neighbours=2)))["1_1"] == [10, 10, 11, 12, 13]


def test_missing_neighbours_are_reported_and_replaced_by_the_nearest(tmp_path):
    manifest = folder_of(tmp_path, {1: ("AD", [0, 1, 3, 4, 5]), 2: ("NC", [0, 1, 2])})
    found = with_neighbours(manifest, BOTH)
    assert shown(found)["1_1"] == [10, 11, 11]
    assert shown(found)["1_3"] == [13, 13, 14]
    assert [note for note in found.notes if "1 neighbouring slice is missing in 1 of 2 scans" in note]


def test_regular_steps_above_one_are_not_gaps(tmp_path):
    found = with_neighbours(folder_of(tmp_path, {1: ("AD", [0, 2, 4]), 2: ("NC", [1, 3, 5])}), BOTH)
    assert shown(found)["1_2"] == [10, 12, 14]
    assert not [note for note in found.notes if "neighbouring slice" in note and "missing" in note]


def test_a_single_slice_is_its_own_neighbour_and_reported(tmp_path):
    found = with_neighbours(folder_of(tmp_path, {1: ("AD", [3]), 2: ("NC", [0, 1, 2])}), BOTH)
    assert shown(found)["1_3"] == [13, 13, 13]
    assert [note for note in found.notes if "1 of 2 scans have a single slice" in note]


def test_range_and_every_select_slices_but_not_their_neighbours(slices):
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


def test_digests_of_neighbours_and_stacks_differ_and_load_unchanged(slices, tmp_path):
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


def test_the_store_refuses_steps_that_treat_neighbours_as_colours(slices, tmp_path):
    found = with_neighbours(slices, BOTH)
    with pytest.raises(DataError, match="would treat neighbouring slices"):
        open_store(found, PreprocessingConfig(), cache=tmp_path / "cache")
    store = open_store(found, PreprocessingConfig(steps=(Resize(size=(4, 4)),)), cache=tmp_path / "cache")
    assert (store.channels, store.image_size) == (3, (4, 4))


@pytest.mark.parametrize(
    ("config", "words"),
    [({"plane": "coronal"}, "needs volumes"), ({"unit": "mm", "range": (0, 9)}, "no known distance in mm")],
)
def test_options_that_need_volumes_are_refused_for_slice_images(slices, config, words):
    with pytest.raises(DataError, match=words):
        with_neighbours(slices, SliceConfig(neighbours=1, **config))


def test_unknown_scans_and_repeated_numbers_are_refused(slices):
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
    subjects = sorted(manifest.table["subject"].unique())[:2]
    manifest = manifest.select(manifest.table["sample"][manifest.table["subject"].isin(subjects)].tolist())
    found = with_neighbours(manifest, BOTH)
    assert len(found) == len(manifest) == 64
    assert not [note for note in found.notes if "neighbouring slice" in note and "missing" in note]
    table = manifest.table[manifest.table["subject"] == subjects[0]].sort_values("slice")
    own = [decode((folder / path).read_bytes())[0] for path in table["path"]]
    reader, rows = Reader(found), found.table.reset_index().set_index("sample")["index"]
    for number in (0, 15, 31):
        pixels = reader.read(int(rows[table["sample"].iloc[number]]))
        expected = [own[max(number - 1, 0)], own[number], own[min(number + 1, 31)]]
        np.testing.assert_array_equal(pixels, expected)


def test_a_saved_run_on_slices_with_neighbours_gives_the_same_predictions(phantom_folder, tmp_path):
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
