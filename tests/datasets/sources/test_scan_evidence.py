"""Names are believed to name scans only if counts and pixels agree."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gyrus.datasets.scan import scan
from gyrus.datasets.sources.scan_evidence import PAIRS, reason_to_doubt
from gyrus.datasets.sources.subject_rules import subjects_from_names
from gyrus.synthetic.phantom import Phantom, generate
from gyrus.synthetic.phantom_layouts import write
from tests.support.images import encode


@pytest.fixture(scope="module")
def heads() -> Phantom:
    return generate(subjects=12, slices=8, classes=2, size=48, seed=3)


def renamed(phantom: Phantom, folder: Path, *, seed: int = 0) -> Path:
    """The slices of a phantom in random order under names such as Tr-co_0014.png, below train and test."""
    draw = random.Random(seed)
    for label in range(2):
        people = [number for number in range(len(phantom.subjects)) if phantom.labels[number] == label]
        slices = [(person, place) for person in people for place in range(phantom.volumes.shape[1])]
        draw.shuffle(slices)
        for number, (person, place) in enumerate(slices):
            subset, prefix = ("Testing", "Te") if number % 4 == 0 else ("Training", "Tr")
            name = phantom.class_names[label]
            path = folder / subset / name / f"{prefix}-{name[:2].lower()}_{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encode(Image.fromarray(phantom.volumes[person, place])))
    return folder


def test_names_of_true_scans_are_believed(heads, tmp_path):
    manifest = scan(write(heads, tmp_path / "data", "id-slice"))
    assert (manifest.subject_kind, manifest.subject_rule) == ("scan", "id-slice")
    assert manifest.table["subject"].nunique() == 12


def test_names_of_a_subset_and_a_class_are_not_believed_and_the_words_say_why(heads, tmp_path):
    folder = renamed(heads, tmp_path)
    manifest = scan(folder)
    assert (manifest.subject_kind, manifest.subject_rule) == ("unknown", "none")
    assert manifest.table[["subject", "session", "slice"]].isna().all(axis=None)
    assert any(
        "Te-" in note and "the pixels disagree" in note and "subjects are unknown" in note for note in manifest.notes
    )
    asked = scan(folder, subject_rule="id-slice")
    assert asked.subject_kind == "scan"
    assert any("was asked for, but" in note for note in asked.notes)


def evidence(names: list[str], pixels: list[np.ndarray]) -> tuple[str, list[int]]:
    """The reason to doubt these names, and the images that were read."""
    read: list[int] = []

    def bytes_of(position: int) -> bytes:
        read.append(position)
        return encode(Image.fromarray(pixels[position]))

    return reason_to_doubt(subjects_from_names(names, [None] * len(names), rule="id-slice"), names, bytes_of), read


@pytest.mark.parametrize("every", [1, 4])
def test_neighbours_and_slices_far_apart_are_both_evidence(heads, every):
    slices = [(person, place) for person in range(12) for place in range(0, 8, every)]
    names, pixels = [f"{7000 + a}_{b}.png" for a, b in slices], [heads.volumes[a, b] for a, b in slices]
    assert evidence(names, pixels)[0] == ""
    for seed in range(5):
        mixed = random.Random(seed).sample(pixels, len(pixels))
        assert "the pixels disagree" in evidence(names, mixed)[0]


def test_a_bounded_number_of_images_is_read_and_always_the_same():
    noise = np.random.default_rng(0).integers(0, 255, (40, 8, 8), dtype=np.uint8)
    names = [f"{scan_}_{number}.png" for scan_ in range(50) for number in range(40)]
    pixels = [noise[number] for _ in range(50) for number in range(40)]
    first, read = evidence(names, pixels)
    assert len(read) <= 2 * PAIRS
    assert evidence(names, pixels) == (first, read)


def test_scans_of_one_image_each_cannot_be_compared(heads):
    words, read = evidence([f"{person}_1.png" for person in range(12)], list(heads.volumes[:, 3]))
    assert words == "fewer than two of them have several images, so that their pixels cannot be compared"
    assert read == []


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([f"{name}_{number}.png" for name in "ab" for number in range(601)], "'a' would be a scan of 601 slices"),
        (
            [f"{place}/{name}_1.png" for name in "ab" for place in (1, 2)],
            "2 of 2 scans, such as 'a', would have a slice",
        ),
    ],
)
def test_impossible_counts_are_doubted_without_reading(names, words):
    reason, read = evidence(names, [])
    assert words in reason
    assert not read


def test_volumes_with_a_number_are_no_slices(tmp_path):
    import nibabel as nib

    for label in "ab":
        (tmp_path / label).mkdir()
        for name in ("x_1", "x_2", "y_1", "y_2"):
            image = nib.Nifti1Image(np.random.default_rng(len(name)).random((6, 6, 6), np.float32), np.eye(4))
            nib.save(image, tmp_path / label / f"{label}{name}.nii")
    manifest = scan(tmp_path)
    assert manifest.subject_kind == "unknown"
    assert any("a volume is a whole scan" in note for note in manifest.notes)


@pytest.mark.parametrize("every", [1, 4, 16])
def test_slices_of_real_heads_are_believed(shared_data, every):
    folder = shared_data / "oasis-slices" / "images"
    names = sorted(path.name for path in folder.iterdir() if int(path.stem.split("_")[1]) % every == 0)
    found = subjects_from_names(names, [None] * len(names), rule="id-slice")
    assert reason_to_doubt(found, names, lambda position: (folder / names[position]).read_bytes()) == ""


def test_slices_of_many_people_with_tumours_are_doubted(shared_data):
    folder = shared_data / "brain-tumours"
    files = [path for label in ("glioma", "pituitary") for path in sorted((folder / label).iterdir())[:300]]
    names = [
        f"{'Te' if number % 5 == 0 else 'Tr'}-{path.parent.name[:2]}_{number}.jpg" for number, path in enumerate(files)
    ]
    found = subjects_from_names(names, [None] * len(names), rule="id-slice")
    assert "the pixels disagree" in reason_to_doubt(found, names, lambda position: files[position].read_bytes())
