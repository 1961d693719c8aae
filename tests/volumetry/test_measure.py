from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from gyrus.errors import DataError
from gyrus.imaging.volume import Volume
from gyrus.volumetry.measure import FEATURE_NAMES, MeasuredHead, measure_head
from gyrus.volumetry.template import Template
from tests.support.volumetry import head, measure_coarsely, template


@pytest.fixture(scope="module")
def average() -> Template:
    return template()


@pytest.fixture(scope="module", autouse=True)
def _coarsely() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        measure_coarsely(patch)
        yield


@pytest.fixture(scope="module")
def measured(average: Template) -> MeasuredHead:
    return measure_head(head()[0], average)


def test_volumes_of_a_phantom_are_known_in_ml(measured: MeasuredHead) -> None:
    truth = head()[1]
    found = measured.features
    whole = sum(truth.values())
    for name, volume in truth.items():
        assert found[name] == pytest.approx(volume, abs=0.04 * whole), name
    assert found["intracranial_ml"] == pytest.approx(whole, rel=0.03)
    assert found["brain_ml"] == pytest.approx(found["gray_matter_ml"] + found["white_matter_ml"])
    assert measured.overlap > 0.95


def test_fractions_are_volumes_over_that_within_the_skull(measured: MeasuredHead) -> None:
    found = measured.features
    assert set(found) == set(FEATURE_NAMES)
    for name in found:
        if name.endswith("_fraction"):
            stem = name.removesuffix("_fraction")
            assert found[name] == pytest.approx(found[f"{stem}_ml"] / found["intracranial_ml"])


def test_sides_of_a_symmetric_head_are_equal(measured: MeasuredHead) -> None:
    for region in ("hippocampal", "ventricle", "frontal"):
        left, right = (measured.features[f"{region}_{side}_ml"] for side in ("left", "right"))
        assert left == pytest.approx(right, rel=0.1)
        assert left > 1


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda: head(turn=12.0)[0], id="turned"),
        pytest.param(lambda: head(spacing=3.0)[0], id="resampled"),
        pytest.param(lambda: _stored_otherwise(head()[0]), id="axes stored otherwise"),
        pytest.param(lambda: _shaded(head()[0]), id="bias field"),
    ],
)
def test_volumes_do_not_depend_on_how_a_head_lies_or_is_stored(
    changed, measured: MeasuredHead, average: Template
) -> None:
    found = measure_head(changed(), average).features
    whole = measured.features["intracranial_ml"]
    for name in ("intracranial_ml", "brain_ml", "gray_matter_ml", "white_matter_ml", "csf_ml"):
        assert found[name] == pytest.approx(measured.features[name], abs=0.04 * whole), name
    for region in ("hippocampal", "ventricle"):
        sums = [sum(each[f"{region}_{side}_ml"] for side in ("left", "right")) for each in (found, measured.features)]
        assert sums[0] == pytest.approx(sums[1], rel=0.25), region


def _stored_otherwise(volume: Volume) -> Volume:
    order = volume.affine[:, [2, 0, 1, 3]].copy()
    array = volume.array.transpose(2, 0, 1)[::-1]
    order[:3, 3] += order[:3, 0] * (array.shape[0] - 1)
    order[:3, 0] *= -1
    return Volume.from_array(array, order)


def _shaded(volume: Volume) -> Volume:
    ramp = np.linspace(-0.15, 0.15, volume.shape[1], dtype=np.float32)[None, :, None]
    return volume.replaced(volume.array * np.exp(ramp))


def test_a_larger_head_has_larger_volumes_and_like_fractions(measured: MeasuredHead, average: Template) -> None:
    found = measure_head(head(scale=0.92)[0], average).features
    assert found["intracranial_ml"] == pytest.approx(0.92**3 * measured.features["intracranial_ml"], rel=0.04)
    assert found["gray_matter_fraction"] == pytest.approx(measured.features["gray_matter_fraction"], abs=0.03)


def test_wider_ventricles_are_measured(measured: MeasuredHead, average: Template) -> None:
    found = measure_head(head(ventricles=1.3)[0], average).features
    grown = sum(found[f"ventricle_{side}_ml"] for side in ("left", "right"))
    before = sum(measured.features[f"ventricle_{side}_ml"] for side in ("left", "right"))
    assert grown > 1.25 * before


def test_what_is_no_head_is_refused_with_a_reason(average: Template) -> None:
    volume = head()[0]
    corner = np.zeros_like(volume.array)
    corner[:, :, :6] = 100 + 20 * np.random.default_rng(0).random((*corner.shape[:2], 6))
    with pytest.raises(DataError, match="overlaps with the brain by"):
        measure_head(volume.replaced(corner), average)
    with pytest.raises(DataError, match="no brain"):
        measure_head(volume.replaced(np.full_like(volume.array, 7)), average)


def test_the_view_for_pictures_is_in_the_space_of_the_template(measured: MeasuredHead, average: Template) -> None:
    assert measured.view.gray_values.shape == average.brain.shape
    inside = measured.view.tissues.sum(axis=0) > 0.5
    overlap = 2 * (inside & average.brain).sum() / (inside.sum() + average.brain.sum())
    assert overlap > 0.9
    assert set(measured.view.regions) == {"hippocampal", "ventricle"}
