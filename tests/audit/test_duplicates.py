from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from gyrus.audit.checks import run_checks
from gyrus.audit.context import AuditContext, gather
from gyrus.audit.duplicates import ORIENTATIONS, AlignedPairs, align, align_candidates, averaged_spectra
from gyrus.audit.image_quality import make_thumbnail
from gyrus.datasets.scan import scan
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write

GENERATOR = np.random.default_rng(0)


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> AuditContext:
    """30 phantom subjects with two slices each, and duplicates of some under other names."""
    phantom = generate(subjects=30, slices=2, classes=2, size=128, seed=6)
    folder = write(phantom, tmp_path_factory.mktemp("copies") / "data")
    control = folder / "Control"
    source = sorted(control.glob("*.png"))
    (control / "same.png").write_bytes(source[0].read_bytes())
    (folder / "Dementia" / "conflicting.png").write_bytes(source[1].read_bytes())
    pixels = np.asarray(Image.open(source[2]))
    Image.fromarray(pixels[:, ::-1]).save(control / "mirrored.png")
    brighter = np.clip(pixels.astype(int) * 0.9 + 8, 0, 255).astype(np.uint8)
    Image.fromarray(brighter).resize((120, 120)).save(control / "altered.jpg", quality=70)
    return gather(scan(folder, subject_rule="none"))


@pytest.mark.parametrize(
    ("name", "kind"), [("same", "identical file"), ("mirrored", "mirrored duplicate"), ("altered", "near-duplicate")]
)
def test_duplicates_are_found(context: AuditContext, name: str, kind: str) -> None:
    samples = context.manifest.table["sample"]
    kinds = {pair.kind for pair in context.duplicates if any(name in samples[row] for row in (pair.first, pair.second))}
    assert kind in kinds


def test_nothing_else_is_a_duplicate(context: AuditContext) -> None:
    samples = context.manifest.table["sample"]
    made = ("same", "conflicting", "mirrored", "altered")
    for pair in context.duplicates:
        assert any(name in samples[row] for name in made for row in (pair.first, pair.second))


def test_duplicates_with_conflicting_labels_are_an_error(context: AuditContext) -> None:
    found = run_checks(context, title="phantom", checks=["duplicates"])
    assert [entry.severity for entry in found.entries] == ["error", "warning"]
    assert any("conflicting" in flag.sample + flag.reason for flag in found.entries[0].samples)


@pytest.fixture(scope="module")
def slices() -> np.ndarray:
    """Slices of 24 phantom subjects, (288, 128, 128)."""
    return generate(subjects=24, slices=12, classes=2, size=128, seed=3).volumes.reshape(-1, 128, 128)


def aligned_with(slices: np.ndarray, altered: np.ndarray) -> AlignedPairs:
    both = np.concatenate([slices, np.clip(np.rint(altered), 0, 255).astype(np.uint8)])
    return align_candidates(np.stack([make_thumbnail(picture) for picture in both]))


def found(aligned: AlignedPairs, first: int, second: int) -> int:
    hit = np.nonzero((aligned.first == first) & (aligned.second == second))[0]
    assert len(hit) == 1
    return int(hit[0])


ALTERATIONS = {
    "unchanged": lambda image: image,
    "mirrored": lambda image: image[:, ::-1],
    "flipped vertically": lambda image: image[::-1],
    "rotated by 180 degrees": lambda image: np.rot90(image, 2),
    "rotated by 90 degrees": lambda image: np.rot90(image, 3),
    "rotated by 270 degrees": lambda image: np.rot90(image, 1),
    "mirrored and rotated by 90 degrees": lambda image: image.T,
    "mirrored and rotated by 270 degrees": lambda image: np.rot90(image, 2).T,
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_rotated_duplicates_are_found_with_their_orientation(orientation: str, slices: np.ndarray) -> None:
    """The reported orientation turns the copy into the original."""
    copy = ALTERATIONS[orientation](slices[77])
    aligned = aligned_with(slices, copy[None])
    row = found(aligned, 77, len(slices))
    assert list(ORIENTATIONS)[aligned.orientation[row]] == orientation
    np.testing.assert_array_equal(ORIENTATIONS[orientation](copy[None])[0], slices[77])
    assert aligned.correlation[row] == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(aligned.shift[row], 0, atol=0.01)


@pytest.mark.parametrize(
    ("name", "least"), [("brighter", 0.998), ("noisier", 0.99), ("shifted", 0.985), ("all of these, rotated", 0.985)]
)
def test_altered_duplicates_are_found_and_separated_from_other_subjects(
    name: str, least: float, slices: np.ndarray
) -> None:
    image = slices[100].astype(float)
    altered = {
        "brighter": image * 0.85 + 9,
        "noisier": image + GENERATOR.normal(0, 8, image.shape),
        "shifted": ndimage.shift(image, (3, -4)),
        "all of these, rotated": ndimage.shift(np.rot90(image), (-2, 3)) * 0.9 + GENERATOR.normal(0, 4, image.shape),
    }[name]
    aligned = aligned_with(slices, altered[None])
    row = found(aligned, 100, len(slices))
    assert aligned.correlation[row] > least
    subject = np.append(np.arange(len(slices)) // 12, -1)
    others = (subject[aligned.first] != subject[aligned.second]) & (aligned.second < len(slices))
    assert aligned.correlation[others].max() < aligned.correlation[row] - 0.005


def test_a_shift_is_measured_below_a_pixel() -> None:
    picture = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(64, 64)), 3, mode="wrap")
    moved = ndimage.shift(picture, (2.3, -4.6), mode="grid-wrap")
    shift, correlation = align(moved[None], picture[None])
    np.testing.assert_allclose(shift[0], (2.3, -4.6), atol=0.1)
    assert correlation[0] > 0.998


def test_averaged_spectra_are_invariant_to_orientation_and_shift(slices: np.ndarray) -> None:
    thumbnails = np.stack([make_thumbnail(picture) for picture in slices[::6]])
    turned = np.stack(
        [list(ORIENTATIONS.values())[number % 8](picture[None])[0] for number, picture in enumerate(thumbnails)]
    )
    both = averaged_spectra(np.concatenate([thumbnails, np.roll(turned, (2, 5), axis=(1, 2))]))
    np.testing.assert_allclose(both[: len(thumbnails)], both[len(thumbnails) :], atol=1e-4)


def test_copies_under_another_name_and_in_another_part_are_told(tmp_path: Path) -> None:
    folder = write(generate(subjects=12, slices=4, classes=2, size=64, seed=5), tmp_path / "data", "train-test")
    source = sorted((folder / "train" / "Control").glob("*.png"))[1]
    turned = Image.open(source).transpose(Image.Transpose.ROTATE_90)
    turned.save(folder / "test" / "Control" / "sub-P900_slice-00.png")
    findings = run_checks(gather(scan(folder)), title="phantom", checks=["duplicates", "leakage"])
    assert any("different subject names" in entry.verdict for entry in findings.select("duplicates"))
    across = [entry for entry in findings.select("leakage") if "in different subsets of the split" in entry.verdict]
    assert len(across) == 1
    assert any("rotated by" in flag.reason for flag in across[0].samples)
    assert across[0].numbers["duplicate pairs across subsets"] == 1


def test_real_neighbouring_slices_are_not_duplicates(shared_data: Path) -> None:
    folder = shared_data / "oasis-slices"
    if not folder.is_dir():
        pytest.skip(f"no real slices at {folder}")
    paths = sorted((folder / "images").glob("S00[1-9]_*.jpg"))
    aligned = align_candidates(np.stack([make_thumbnail(np.asarray(Image.open(path))) for path in paths]))
    subject = np.array([path.name[:4] for path in paths])
    others = subject[aligned.first] != subject[aligned.second]
    assert aligned.correlation.max() < 0.997
    assert aligned.correlation[others].max(initial=0) < 0.97
