from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from gyrus.datasets.scan import scan
from gyrus.errors import ConfigError
from gyrus.synthetic.phantom_layouts import phantom
from gyrus.synthetic.phantom_lesions import generate_lesions


def test_the_second_class_has_more_lesions_and_they_are_bright():
    made = generate_lesions(8, 8, 64, seed=2)
    assert made.class_names == ("Control", "Lesions")
    assert made.labels.tolist() == [0, 1] * 4
    amounts = made.structures.astype(bool).mean(axis=(1, 2, 3))
    assert amounts[0::2].max() < amounts[1::2].min()
    for volume, structures in zip(made.volumes[1::2], made.structures[1::2], strict=True):
        lesions = structures == 1
        around = ndimage.binary_dilation(lesions, iterations=2) & ~ndimage.binary_dilation(lesions) & (volume > 0)
        assert volume[lesions].mean() > volume[around].mean() + 40


def test_the_anatomy_is_independent_of_the_class():
    made = generate_lesions(40, 4, 32, seed=0)
    around = [ndimage.binary_dilation(each == 1, np.ones((3, 3, 3))) for each in made.structures]
    means = np.array([each[(each > 0) & ~lesions].mean() for each, lesions in zip(made.volumes, around, strict=True)])
    between = abs(means[0::2].mean() - means[1::2].mean())
    assert between < 2 * means.std() * np.sqrt(1 / 20 + 1 / 20)


def test_a_subject_does_not_depend_on_the_number_of_subjects():
    assert np.array_equal(generate_lesions(4, 3, 32, seed=3).volumes[:2], generate_lesions(2, 3, 32, seed=3).volumes)


def test_number_size_and_contrast_of_the_lesions_can_be_chosen():
    chosen = {"counts": ((0, 0), (1, 1)), "radius": (10.0, 10.0), "brighter": 30.0}
    made, healthy = (generate_lesions(6, 1, 64, seed=1, **{**chosen, "counts": ((0, 0), (n, n))}) for n in (1, 0))
    for number, (image, lesion) in enumerate(zip(made.volumes[:, 0], made.structures[:, 0] == 1, strict=True)):
        assert ndimage.label(lesion)[1] == number % 2
        if lesion.any():
            added = image.astype(int) - healthy.volumes[number, 0]
            assert np.median(added[lesion]) == pytest.approx(30, abs=1)
            assert 250 < lesion.sum() * made.spacing[1] ** 2 < 350  # pi (10 mm)^2, less what lies in the ventricles


def test_the_files_are_class_folders(tmp_path):
    phantom(tmp_path / "data", subjects=4, slices=3, size=32, layout="lesions")
    manifest = scan(tmp_path / "data")
    assert manifest.classes == ("Control", "Lesions")
    assert manifest.table["subject"].nunique() == 4


def test_bad_arguments_are_refused():
    with pytest.raises(ConfigError, match="size"):
        generate_lesions(2, 2, 8)
