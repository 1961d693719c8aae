from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import spearmanr
from sklearn.metrics import adjusted_rand_score

from gyrus.audit.context import gather
from gyrus.audit.image_quality import make_thumbnail
from gyrus.audit.nearest_neighbours import find_neighbours
from gyrus.audit.subjects_from_pixels import SubjectGroups, find_groups, seriate, with_inferred_subjects
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.scan import scan
from gyrus.datasets.splits import split
from gyrus.errors import DataError
from gyrus.imaging.decoding import decode
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write


def grouped(pictures: np.ndarray) -> SubjectGroups:
    return find_groups(find_neighbours(pictures), pictures)


@pytest.fixture(scope="module")
def volumes() -> np.ndarray:
    """Slices of 12 phantom subjects, (12, 32, 64, 64)."""
    return generate(subjects=12, slices=32, classes=4, size=64, seed=1).volumes


def test_subjects_and_the_order_of_their_slices_are_found(volumes: np.ndarray) -> None:
    shuffle = np.random.default_rng(0).permutation(12 * 32)
    found = grouped(volumes.reshape(-1, 64, 64)[shuffle])
    assert found.strength == "clear"
    assert adjusted_rand_score(np.repeat(np.arange(12), 32)[shuffle], found.groups) == 1.0
    slices = np.tile(np.arange(32), 12)[shuffle]
    for number in range(12):
        inside = found.groups == number
        assert abs(spearmanr(slices[inside], found.order[inside])[0]) > 0.9
    assert found.overall_confidence > 0.7
    assert (found.confidence > 0.3).all()


@pytest.mark.parametrize("height", [4, 16, 28])
def test_one_slice_per_subject_gives_no_groups(height: int) -> None:
    pictures = generate(subjects=80, slices=32, classes=4, size=64, seed=2).volumes[:, height]
    found = grouped(pictures)
    assert found.strength == "none"
    assert (found.groups == -1).all()
    assert found.overall_confidence == 0.0


@pytest.mark.parametrize(("slices", "strength"), [(12, "weak"), (16, "clear"), (24, "clear")])
def test_fewer_slices_with_wider_gaps_give_less_confidence(slices: int, strength: str) -> None:
    volumes = generate(subjects=20, slices=slices, classes=2, size=64, seed=1).volumes
    found = grouped(volumes.reshape(-1, 64, 64))
    assert found.strength == strength
    assert adjusted_rand_score(np.repeat(np.arange(20), slices), found.groups) > 0.98


def test_many_subjects_at_a_few_heights_give_no_groups() -> None:
    """Two slices of each of 40 subjects, far apart: they form two groups, the heights."""
    volumes = generate(subjects=40, slices=2, classes=2, size=64, seed=2).volumes.copy()
    volumes[:, 1, 20:44, 20:44] //= 4
    found = grouped(volumes.reshape(-1, 64, 64))
    assert found.strength == "none"


def test_slices_too_far_apart_give_no_groups() -> None:
    volumes = generate(subjects=20, slices=6, classes=2, size=64, seed=1).volumes
    assert grouped(volumes.reshape(-1, 64, 64)).strength == "none"


@pytest.mark.parametrize("layout", ["folder", "train-test", "id-slice", "csv", "parquet"])
@pytest.mark.parametrize("size", [64, 128])
def test_the_groups_are_the_same_in_every_layout(layout: str, size: int, tmp_path: Path) -> None:
    phantom = generate(subjects=8, slices=16, classes=2, size=size, seed=4)
    manifest = scan(write(phantom, tmp_path / "data", layout))
    context = gather(manifest)
    assert context.grouping.found
    assert adjusted_rand_score(manifest.table["subject"], context.grouping.groups) == 1.0


def test_a_split_by_inferred_subjects_is_marked(tmp_path: Path) -> None:
    phantom = generate(subjects=12, slices=24, classes=2, size=64, seed=4)
    manifest = scan(write(phantom, tmp_path / "data"), subject_rule="none")
    assert manifest.subject_kind == "unknown"
    inferred = with_inferred_subjects(manifest)
    assert inferred.subject_kind == "inferred"
    assert inferred.table["subject"].nunique() == 12
    assert "pixels" in inferred.subject_rule
    result = split(inferred)
    assert result.unit == "inferred"
    assert "inferred from pixels" in result.warning
    inferred.save(tmp_path / "manifest.parquet")
    assert Manifest.load(tmp_path / "manifest.parquet").digest == inferred.digest


def test_without_groups_no_subjects_are_inferred(tmp_path: Path) -> None:
    phantom = generate(subjects=40, slices=1, classes=2, size=64)
    manifest = scan(write(phantom, tmp_path / "data"), subject_rule="none")
    with pytest.raises(DataError, match="cannot be inferred from the pixels"):
        with_inferred_subjects(manifest)


def test_seriation_follows_a_ramp() -> None:
    ramp = np.zeros((20, 16, 16), np.uint8)
    for number in range(20):
        ramp[number, :, : 4 + number // 2] = 200 - 3 * number
    shuffle = np.random.default_rng(1).permutation(20)
    order = shuffle[seriate(ramp[shuffle])]
    assert abs(spearmanr(order, np.arange(20))[0]) > 0.98


@pytest.fixture(scope="module")
def real_slices(shared_data: Path) -> tuple[pd.DataFrame, list[bytes]]:
    """Slices of 40 subjects of the real set, in random order."""
    folder = shared_data / "oasis-slices"
    if not folder.is_dir():
        pytest.skip(f"no real slices at {folder}")
    table = pd.read_csv(folder / "labels.csv")
    table = table[table["subject"].isin(table["subject"].unique()[:40])].sample(frac=1, random_state=0)
    return table, [(folder / path).read_bytes() for path in table["path"]]


def altered(data: list[bytes]) -> np.ndarray:
    """Thumbnails of images with another size, lower JPEG quality, and a tenth of them mirrored."""
    generator = np.random.default_rng(0)
    pictures = []
    for each in data:
        image = Image.open(io.BytesIO(each))
        side = int(generator.integers(96, 200))
        image = image.resize((side, side), Image.Resampling.BILINEAR)
        if generator.random() < 0.1:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(generator.integers(40, 90)))
        pictures.append(make_thumbnail(decode(buffer.getvalue())[0]))
    return np.stack(pictures)


def test_real_subjects_are_found(real_slices: tuple[pd.DataFrame, list[bytes]]) -> None:
    table, data = real_slices
    found = grouped(np.stack([make_thumbnail(decode(each)[0]) for each in data]))
    assert found.strength == "clear"
    assert sorted(found.sizes) == [32] * 40
    assert adjusted_rand_score(table["subject"], found.groups) == 1.0


def test_real_subjects_are_found_in_altered_images(real_slices: tuple[pd.DataFrame, list[bytes]]) -> None:
    table, data = real_slices
    found = grouped(altered(data))
    assert found.strength == "clear"
    assert adjusted_rand_score(table["subject"], found.groups) == 1.0


@pytest.mark.parametrize("heights", [(0, 10), (2, 28), (8, 16), (0, 15, 31), (0, 8, 16, 24)])
def test_a_few_real_slices_per_subject_far_apart_give_no_groups(
    heights: tuple[int, ...], real_slices: tuple[pd.DataFrame, list[bytes]]
) -> None:
    table, data = real_slices
    rows = np.nonzero(table["slice"].isin(heights).to_numpy())[0]
    found = grouped(np.stack([make_thumbnail(decode(data[row])[0]) for row in rows]))
    assert found.strength == "none"


def test_one_real_slice_per_subject_gives_no_groups(real_slices: tuple[pd.DataFrame, list[bytes]]) -> None:
    table, data = real_slices
    for height in (3, 16, 29):
        rows = np.nonzero((table["slice"] == height).to_numpy())[0]
        found = grouped(np.stack([make_thumbnail(decode(data[row])[0]) for row in rows]))
        assert found.strength == "none"
