from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gyrus.errors import DataError
from gyrus.explanation.heat_map_coordinates import Placement
from gyrus.explanation.regions import Atlas, estimate_brain, fraction_inside, region_table
from gyrus.imaging.volume_formats import read_volume
from gyrus.synthetic.phantom import generate


def test_the_brain_of_a_stripped_slice_is_the_whole_head() -> None:
    phantom = generate(subjects=4, slices=3, classes=2, size=64, seed=0)
    for number, volume in enumerate(phantom.volumes):
        for image, structures in zip(volume, phantom.structures[number], strict=True):
            brain = estimate_brain(image)
            assert brain[structures > 0].mean() > 0.8
            assert 0.2 < brain.mean() < 0.6
            assert not brain[:4].any()


def head_with_skull(size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """Scalp, skull and brain as three ellipses; the brain itself."""
    rows, columns = np.mgrid[:size, :size] / size - 0.5
    radius = np.hypot(rows / 0.47, columns / 0.4)
    image = np.zeros((size, size), np.uint8)
    for edge, value in ((1.0, 210), (0.93, 20), (0.84, 150)):
        image[radius < edge] = value
    return image, radius < 0.84


def test_the_brain_of_a_head_lies_inside_its_skull() -> None:
    image, truth = head_with_skull()
    brain = estimate_brain(image)
    assert (brain & truth).sum() / (brain | truth).sum() > 0.9


def test_a_stack_is_processed_slice_by_slice() -> None:
    image, _ = head_with_skull()
    np.testing.assert_array_equal(estimate_brain(np.stack([image, image[::-1]]))[0], estimate_brain(image))


@pytest.mark.parametrize("shape", [(8, 8), (3, 8, 8)])
def test_an_empty_image_is_brain_everywhere(shape: tuple[int, ...]) -> None:
    assert estimate_brain(np.zeros(shape, np.uint8)).all()


def test_an_image_that_is_constant_but_for_a_few_pixels_is_brain() -> None:
    """Its 99th percentile is its minimum, so that nothing is left to separate."""
    image = np.full((32, 32), 50, np.uint8)
    image[0, 0], image[1, 1] = 200, 90
    assert estimate_brain(image).any()


def test_fraction_inside_uses_absolute_values() -> None:
    maps = np.array([[[3.0, -1.0], [0.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    masks = np.array([[[True, True], [False, False]]] * 2)
    fractions = fraction_inside(maps, masks)
    assert fractions[0] == pytest.approx(0.5)
    assert np.isnan(fractions[1])


def test_regions_add_up() -> None:
    maps = np.array([[[2.0, -2.0], [4.0, 0.0]]])
    table = region_table(maps, np.array([[1, 1], [2, 0]]), {1: "ventricle", 2: "sulcus"})
    assert table["name"].tolist() == ["ventricle", "sulcus", "outside"]
    assert table["map_fraction"].tolist() == [0.5, 0.5, 0.0]
    assert table["image_fraction"].tolist() == [0.5, 0.25, 0.25]
    assert table["concentration"].tolist() == [1.0, 2.0, 0.0]
    assert table["positive"].tolist() == [0.25, 0.5, 0.0]
    assert table["negative"].tolist() == [0.25, 0.0, 0.0]


def test_regions_on_another_grid_are_refused() -> None:
    with pytest.raises(DataError, match=r"the shape \(3, 3\), but the maps have \(4, 4\)"):
        region_table(np.zeros((2, 4, 4)), np.zeros((3, 3), int))


def test_an_array_of_regions_is_on_the_grid_of_the_images(tmp_path: Path) -> None:
    labels = np.arange(24).reshape(2, 3, 4)
    np.save(tmp_path / "s1.npy", labels)
    placement = Placement(np.eye(4), labels.shape)
    read = Atlas(str(tmp_path / "{sample}.npy")).labels("s1.png", None, placement, labels.shape, None)
    np.testing.assert_array_equal(read, labels)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("number;name\n1;Hippocampe\n2;Région é\n", "utf-16"),
        ("number,name\n1,Hippocampe\n2,Région é\n", "cp1252"),
        ("number name\n1   Hippocampe\n2   Région é\n", "utf-8"),
    ],
)
def test_names_of_regions_are_read_from_any_table(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "names.csv").write_bytes(text.encode(encoding))
    assert Atlas("atlas.png", tmp_path / "names.csv").read_names() == {1: "Hippocampe", 2: "Région é"}


def test_the_brain_of_a_real_head_is_found_in_its_volume_and_in_its_slices(shared_data: Path) -> None:
    import nibabel

    folder = shared_data / "ixi-bids"
    subject = sorted(path.name for path in folder.glob("sub-*"))[0]
    volume = read_volume(folder / subject / "anat" / f"{subject}_T1w.nii.gz")
    truth = nibabel.as_closest_canonical(
        nibabel.load(folder / "derivatives" / "dlmuse" / subject / "anat" / f"{subject}_dseg.nii.gz")
    )
    labels = np.asarray(truth.dataobj).transpose(2, 1, 0)[:, ::-1, ::-1] > 0
    image = volume.slices()
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    flip[1:3, 3] = [image.shape[1] - 1, image.shape[2] - 1]
    affine = volume.affine[:, [2, 1, 0, 3]] @ flip
    middle = image.shape[0] * 6 // 10
    gray = (np.clip(image / np.percentile(image, 99.5), 0, 1) * 255).astype(np.uint8)
    for brain in (estimate_brain(gray, affine)[middle], estimate_brain(gray[middle])):
        overlap = 2 * (brain & labels[middle]).sum() / (brain.sum() + labels[middle].sum())
        assert overlap > 0.85
