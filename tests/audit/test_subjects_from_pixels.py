from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import spearmanr
from sklearn.metrics import adjusted_rand_score

from gyrus.audit.checks import run_checks
from gyrus.audit.context import gather
from gyrus.audit.image_quality import make_thumbnail
from gyrus.audit.nearest_neighbours import find_neighbours
from gyrus.audit.subjects_from_pixels import (
    MANY_PARTNERS,
    SubjectGroups,
    find_groups,
    resembling_names,
    seriate,
    with_inferred_subjects,
)
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


@pytest.mark.parametrize("kept", [np.r_[0:12, 20:32], np.r_[0:4, 8:12, 18:22, 28:32]], ids=["two parts", "four parts"])
def test_fragments_of_subjects_are_look_alike_groups_however_sharp(kept: np.ndarray, volumes: np.ndarray) -> None:
    found = grouped(volumes[:, kept].reshape(-1, 64, 64))
    assert found.strength == "look-alike"
    assert len(found.sizes) > 20
    assert found.doubt
    assert not found.found
    assert found.overall_confidence == 0.0


def test_look_alike_groups_are_not_offered_as_subjects(tmp_path: Path) -> None:
    phantom = generate(subjects=12, slices=24, classes=2, size=64, seed=4)
    folder = write(phantom, tmp_path / "data")
    for path in folder.rglob("*.png"):
        if 9 <= int(path.stem[-2:]) < 15:
            path.unlink()
    manifest = scan(folder, subject_rule="none")
    with pytest.raises(DataError, match=r"may be far smaller.*a table with the subject of each image"):
        with_inferred_subjects(manifest)
    context = gather(manifest)
    assert context.subjects is None
    (found,) = run_checks(context, title="phantom", checks=["subjects"]).entries
    assert found.severity == "warning"
    assert "24 look-alike groups" in found.verdict
    assert "number of people is unknown and may be far smaller" in found.verdict


def test_altered_copies_belong_to_the_group_of_their_original(tmp_path: Path) -> None:
    phantom = generate(subjects=12, slices=16, classes=2, size=64, seed=4)
    folder = write(phantom, tmp_path / "data")
    sources = sorted(folder.rglob("*.png"))[5::12]
    for number, path in enumerate(sources):
        pixels = np.asarray(Image.open(path))
        turned = (np.rot90(pixels, 1 + number % 3), pixels[:, ::-1], pixels[::-1], pixels)[number % 4]
        Image.fromarray(np.ascontiguousarray(turned)).save(path.with_name(f"copy-of-{path.name}"))
    inferred = with_inferred_subjects(scan(folder, subject_rule="none"))
    table = inferred.table.assign(name=inferred.table["path"].str.split("/").str[-1])
    subject_of = dict(zip(table["name"], table["subject"], strict=True))
    assert table["subject"].nunique() == 12
    assert all(subject_of[f"copy-of-{path.name}"] == subject_of[path.name] for path in sources)
    assert not table.duplicated(["subject", "slice"]).any()
    context = gather(inferred, split=split(inferred))
    findings = run_checks(context, title="phantom", checks=["leakage", "duplicates"])
    assert len(context.duplicates) >= len(sources)
    assert not [entry for entry in findings.entries if entry.severity == "error"]


def test_one_person_under_two_names_is_found_where_slices_are_close() -> None:
    volumes = generate(subjects=24, slices=8, size=64, seed=3).volumes.reshape(-1, 64, 64)
    neighbours = find_neighbours(volumes)
    people, slices = np.repeat(np.arange(24), 8), np.tile(np.arange(8), 24)
    pairs, partnered = resembling_names(neighbours, 2 * people + slices % 2)
    assert partnered > MANY_PARTNERS
    assert all(one // 2 == two // 2 for one, two, _, _ in pairs)
    pairs, partnered = resembling_names(neighbours, people)
    assert pairs == []
    assert partnered < MANY_PARTNERS
