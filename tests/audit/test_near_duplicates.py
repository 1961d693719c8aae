from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from gyrus.audit.checks import audit, gather
from gyrus.audit.image_measurements import make_thumbnail
from gyrus.audit.near_duplicates import TURNS, AlignedPair, align, averaged_spectra, find_overlays
from gyrus.datasets.scan import scan
from gyrus.synthetic.phantom import generate, write

GENERATOR = np.random.default_rng(0)


@pytest.fixture(scope="module")
def people() -> np.ndarray:
    """Slices of 24 phantom people, (288, 128, 128)."""
    return generate(subjects=24, slices=12, classes=2, size=128, seed=3).volumes.reshape(-1, 128, 128)


def overlays_with(people: np.ndarray, altered: np.ndarray) -> AlignedPair:
    both = np.concatenate([people, np.clip(np.rint(altered), 0, 255).astype(np.uint8)])
    return find_overlays(np.stack([make_thumbnail(picture) for picture in both]))


def found(overlays: AlignedPair, first: int, second: int) -> int:
    hit = np.nonzero((overlays.first == first) & (overlays.second == second))[0]
    assert len(hit) == 1
    return int(hit[0])


ALTERATIONS = {
    "as it is": lambda image: image,
    "mirrored": lambda image: image[:, ::-1],
    "upside down": lambda image: image[::-1],
    "turned by 180 degrees": lambda image: np.rot90(image, 2),
    "turned by 90 degrees": lambda image: np.rot90(image, 3),
    "turned by 270 degrees": lambda image: np.rot90(image, 1),
    "mirrored and turned by 90 degrees": lambda image: image.T,
    "mirrored and turned by 270 degrees": lambda image: np.rot90(image, 2).T,
}


@pytest.mark.parametrize("turn", TURNS)
def test_turned_copies_are_found_with_their_turn(turn: str, people: np.ndarray) -> None:
    """Turning the copy by what is told gives the original back."""
    copy = ALTERATIONS[turn](people[77])
    overlays = overlays_with(people, copy[None])
    row = found(overlays, 77, len(people))
    assert list(TURNS)[overlays.turn[row]] == turn
    np.testing.assert_array_equal(TURNS[turn](copy[None])[0], people[77])
    assert overlays.correlation[row] == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(overlays.shift[row], 0, atol=0.01)


@pytest.mark.parametrize(
    ("name", "least"), [("brighter", 0.998), ("noisier", 0.99), ("shifted", 0.985), ("all of it, turned", 0.985)]
)
def test_lightly_altered_copies_are_found_and_stand_apart(name: str, least: float, people: np.ndarray) -> None:
    image = people[100].astype(float)
    altered = {
        "brighter": image * 0.85 + 9,
        "noisier": image + GENERATOR.normal(0, 8, image.shape),
        "shifted": ndimage.shift(image, (3, -4)),
        "all of it, turned": ndimage.shift(np.rot90(image), (-2, 3)) * 0.9 + GENERATOR.normal(0, 4, image.shape),
    }[name]
    overlays = overlays_with(people, altered[None])
    row = found(overlays, 100, len(people))
    assert overlays.correlation[row] > least
    subject = np.append(np.arange(len(people)) // 12, -1)
    strangers = (subject[overlays.first] != subject[overlays.second]) & (overlays.second < len(people))
    assert overlays.correlation[strangers].max() < overlays.correlation[row] - 0.005


def test_a_shift_is_measured_below_a_pixel() -> None:
    picture = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(64, 64)), 3, mode="wrap")
    moved = ndimage.shift(picture, (2.3, -4.6), mode="grid-wrap")
    shift, correlation = align(moved[None], picture[None])
    np.testing.assert_allclose(shift[0], (2.3, -4.6), atol=0.1)
    assert correlation[0] > 0.998


def test_averaged_spectra_do_not_change_by_turns_and_shifts(people: np.ndarray) -> None:
    thumbnails = np.stack([make_thumbnail(picture) for picture in people[::6]])
    turned = np.stack([list(TURNS.values())[number % 8](picture[None])[0] for number, picture in enumerate(thumbnails)])
    both = averaged_spectra(np.concatenate([thumbnails, np.roll(turned, (2, 5), axis=(1, 2))]))
    np.testing.assert_allclose(both[: len(thumbnails)], both[len(thumbnails) :], atol=1e-4)


def test_copies_under_another_name_and_in_another_part_are_told(tmp_path: Path) -> None:
    folder = write(generate(subjects=12, slices=4, classes=2, size=64, seed=5), tmp_path / "data", "train-test")
    source = sorted((folder / "train" / "Control").glob("*.png"))[1]
    turned = Image.open(source).transpose(Image.Transpose.ROTATE_90)
    turned.save(folder / "test" / "Control" / "sub-P900_slice-00.png")
    findings = audit(gather(scan(folder)), title="phantom", checks=["duplicates", "leakage"])
    assert any("under the names of different people" in entry.verdict for entry in findings.of("duplicates"))
    across = [entry for entry in findings.of("leakage") if "copies of images are in another part" in entry.verdict]
    assert len(across) == 1
    assert any("turned by" in flag.reason for flag in across[0].samples)
    assert across[0].numbers["copies across parts"] == 1


def test_real_neighbouring_slices_are_no_copies(shared_data: Path) -> None:
    folder = shared_data / "oasis-slices"
    if not folder.is_dir():
        pytest.skip(f"no real slices at {folder}")
    paths = sorted((folder / "images").glob("S00[1-9]_*.jpg"))
    overlays = find_overlays(np.stack([make_thumbnail(np.asarray(Image.open(path))) for path in paths]))
    subject = np.array([path.name[:4] for path in paths])
    strangers = subject[overlays.first] != subject[overlays.second]
    assert overlays.correlation.max() < 0.997
    assert overlays.correlation[strangers].max(initial=0) < 0.97
