from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.reader import Reader
from gyrus.datasets.scan import scan
from gyrus.datasets.slice_stacks import StackConfig, choose_slices, stack_slices
from gyrus.datasets.store import open_store
from gyrus.errors import DataError
from gyrus.explanation.heat_map_coordinates import slices_affine
from gyrus.imaging.volume import Volume
from gyrus.transforms.image_steps import Resize
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.workflows.explain.images import affine_of_stack
from tests.support.heads import OBLIQUE, noise


@pytest.fixture
def slices(tmp_path):
    """Four scans of 5 slices and one of 3; every pixel of a slice but the last is its number."""
    for scan_id, label, count in ((11, "AD", 5), (12, "AD", 5), (21, "NC", 5), (22, "NC", 5), (23, "NC", 3)):
        folder = tmp_path / "slices" / label
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = np.full((8, 6), 10 * scan_id % 100 + number, np.uint8)
            pixels[-1, -1] = 255
            Image.fromarray(pixels).save(folder / f"{scan_id}_{number}.png")
    return scan(tmp_path / "slices", subject_rule="id-slice")


@pytest.mark.parametrize("choose", ["centre", "even"])
def test_a_stack_has_the_chosen_slices_bottom_to_top(slices, choose):
    volumes = stack_slices(slices, StackConfig(slices=3, choose=choose))
    assert volumes.table["subject"].tolist() == ["11", "12", "21", "22", "23"]
    assert volumes.table["label"].tolist() == ["AD", "AD", "NC", "NC", "NC"]
    assert volumes.table["shape"][0] == (3, 8, 6)
    pixels = Reader(volumes).read(0)
    assert pixels.shape == (1, 3, 8, 6)
    expected = {"centre": [11, 12, 13], "even": [10, 12, 14]}[choose]
    assert pixels[0, :, 0, 0].tolist() == expected


def test_a_scan_with_too_few_slices_is_reported_or_padded(slices):
    volumes = stack_slices(slices, StackConfig(slices=5))
    assert len(volumes) == 4
    assert [problem.kind for problem in volumes.problems] == ["too few slices"]
    assert "3 slices, but the stack needs 5" in str(volumes.problems[0])
    padded = stack_slices(slices, StackConfig(slices=5, short="pad"))
    assert Reader(padded).read(4)[0, :, 0, 0].tolist() == [0, 30, 31, 32, 0]
    with pytest.raises(DataError, match="the largest has 5"):
        stack_slices(slices, StackConfig(slices=6))


def test_stacks_load_unchanged_and_have_their_own_digest(slices, tmp_path):
    volumes = stack_slices(slices, StackConfig(slices=5, short="pad"))
    volumes.save(tmp_path / "manifest.parquet")
    loaded = Manifest.load(tmp_path / "manifest.parquet")
    assert loaded.digest == volumes.digest != slices.digest
    np.testing.assert_array_equal(Reader(loaded).read(4), Reader(volumes).read(4))


def test_steps_of_slices_apply_to_each_slice_of_a_stack(slices, tmp_path):
    volumes = stack_slices(slices, StackConfig(slices=3))
    store = open_store(volumes, PreprocessingConfig(steps=(Resize(size=(4, 4)),)), cache=tmp_path / "cache")
    assert store.pixels.shape == (5, 1, 3, 4, 4)
    assert store.pixels[0, 0, :, 2, 2].tolist() == [11, 12, 13]


def test_slices_of_unknown_scans_or_order_cannot_be_stacked(slices):
    nobody = slices.table.assign(subject=None, session=None)
    with pytest.raises(DataError, match="which slices belong to the same scan"):
        stack_slices(Manifest.from_rows(nobody, root=slices.root), StackConfig())
    with pytest.raises(DataError, match="slice numbers, but 23 slices have none"):
        stack_slices(Manifest.from_rows(slices.table.assign(slice=None), root=slices.root), StackConfig())


@pytest.mark.parametrize("present", range(1, 30))
@pytest.mark.parametrize("choose", ["centre", "even"])
def test_any_number_of_slices_gives_the_requested_number(present, choose):
    places = choose_slices(present, StackConfig(slices=7, choose=choose, short="pad"))
    kept = [place for place in places if place is not None]
    assert len(places) == 7
    assert kept == sorted(set(kept))
    assert len(kept) == min(present, 7)


def test_a_stack_of_slices_of_a_volume_keeps_its_grid(tmp_path):
    volume = Volume.from_array(noise((6, 7, 12)), OBLIQUE)
    folder = tmp_path / "a"
    folder.mkdir()
    rows = []
    for number in range(2, 12, 2):  # every second slice
        pixels = volume.slices()[number].astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        affine = json.dumps(volume.affine.tolist())
        rows.append({"path": f"a/{number}.png", "label": "AD", "subject": "s", "slice": number, "affine": affine})
    pd.DataFrame(rows).to_csv(tmp_path / "labels.csv", index=False)

    for config, first in ((StackConfig(slices=3), 4), (StackConfig(slices=7, short="pad"), 0)):
        stack = stack_slices(scan(tmp_path), config)
        found = affine_of_stack(stack, (config.slices, *volume.shape[1::-1]))
        expected = slices_affine(volume) @ np.array([[2, 0, 0, first], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        np.testing.assert_allclose(found, expected, atol=1e-9)
    uneven = stack_slices(scan(tmp_path), StackConfig(slices=4, choose="even"))
    assert affine_of_stack(uneven, (4, 7, 6)) is None
