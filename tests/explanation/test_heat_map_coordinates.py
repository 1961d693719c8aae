"""Maps lie where the image's own pixels lie, whatever the steps did to them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gyrus.errors import DataError
from gyrus.explanation.heat_map_coordinates import (
    affine_from_spacing,
    in_plane,
    placement_of_slices,
    placement_of_volume,
    slices_affine,
    to_volume,
)
from gyrus.imaging.volume import Volume
from gyrus.transforms.image_steps import Crop, Grayscale, Pad, Resize
from gyrus.transforms.preprocessing import AnyImageStep, PreprocessingConfig
from gyrus.transforms.volume_steps import Percentiles, Resample, Shape, apply_steps, to_pixels

lengths = st.integers(24, 60)
sizes = st.tuples(lengths, lengths)


@st.composite
def roads(draw: st.DrawFn) -> list[AnyImageStep]:
    aspect = draw(st.sampled_from(["pad", "crop", "stretch"]))
    steps: list[AnyImageStep] = [Grayscale(), Resize(size=draw(sizes), aspect=aspect)]
    if draw(st.booleans()):
        steps.append(Pad(size=(draw(st.integers(60, 80)), draw(st.integers(60, 80)))))
    if draw(st.booleans()):
        steps.append(Crop(size=(draw(st.integers(8, 24)), draw(st.integers(8, 24)))))
    return steps


@settings(deadline=None, max_examples=40)
@given(shape=sizes, steps=roads())
def test_a_pixel_comes_from_where_the_steps_took_it(shape: tuple[int, int], steps: list[AnyImageStep]) -> None:
    """Images of the pixels' own rows and columns go through the steps, and tell where each pixel came from."""
    matrix, size = in_plane(steps, shape)
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    road = PreprocessingConfig(steps=tuple(steps))
    seen = [road.apply((each * 4 + 8).astype(np.uint8)[None])[0] for each in (rows, columns)]
    assert seen[0].shape == size
    found = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
    expected = found @ matrix[:2, :2].T + matrix[:2, 2]
    margin = 2 * np.maximum(1, np.diag(matrix)[:2])
    inside = ((expected > margin) & (expected < np.array(shape) - 1 - margin)).all(axis=-1)
    inside &= seen[0] >= 8  # cut off before it was padded again
    for axis, image in enumerate(seen):
        decoded = (image[inside].astype(float) - 8) / 4
        np.testing.assert_allclose(decoded, expected[inside][:, axis], atol=0.3)


@pytest.mark.parametrize("aspect", ["pad", "crop", "stretch"])
def test_a_spot_comes_back_to_its_place(aspect: str) -> None:
    image = np.zeros((50, 80), np.uint8)
    image[20:28, 36:44] = 255
    steps: tuple[AnyImageStep, ...] = (Grayscale(), Resize(size=(40, 40), aspect=aspect))  # type: ignore[arg-type]
    seen = PreprocessingConfig(steps=steps).apply(image[None])[0]
    resampled = placement_of_slices(steps, image.shape, seen.shape).to_original(seen)
    assert resampled.shape == image.shape
    assert np.corrcoef(resampled.ravel(), image.ravel())[0, 1] > 0.85
    centre = np.array(np.nonzero(resampled > 128)).mean(axis=1)
    np.testing.assert_allclose(centre, [23.5, 39.5], atol=0.3)


def test_what_the_network_did_not_see_has_no_heat() -> None:
    steps = (Crop(size=(20, 20)),)
    resampled = placement_of_slices(steps, (40, 30), (20, 20)).to_original(np.ones((20, 20)))
    assert resampled.sum() == 400
    assert resampled[10:30, 5:25].all()


def test_a_stack_keeps_its_slices() -> None:
    steps = (Grayscale(), Resize(size=(8, 8)))
    values = np.zeros((3, 8, 8), np.float32)
    values[1, 4, 4] = 1
    resampled = placement_of_slices(steps, (3, 16, 16), (3, 8, 8)).to_original(values)
    assert resampled.shape == (3, 16, 16)
    assert resampled[[0, 2]].max() == 0
    assert np.unravel_index(resampled.argmax(), resampled.shape)[1:] in {(8, 8), (8, 9), (9, 8), (9, 9)}


def test_steps_that_lead_elsewhere_are_refused() -> None:
    with pytest.raises(DataError, match="the network's input has"):
        placement_of_slices((Resize(size=(8, 8)),), (16, 16), (9, 9))


def oblique_scan() -> Volume:
    turn = np.deg2rad(12)
    axes = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = axes * [1.1, 1.3, 2.0]
    affine[:3, 3] = -30, 12, 5
    array = np.zeros((44, 50, 30), np.float32)
    array[12:18, 30:37, 8:12] = 1
    array[0, 0, 0] = 0.01
    return Volume(array, affine)


def test_a_map_of_a_volume_lies_over_the_scan() -> None:
    """A bright box goes through resampling, padding and a resize of its slices, and comes back to its voxels."""
    scan = oblique_scan()
    prepared = apply_steps(
        scan, [Resample(spacing=(1.5, 1.5, 1.5)), Percentiles(low=0, high=100), Shape(size=(44, 48, 40))]
    )
    steps = (Grayscale(), Resize(size=(30, 30)))
    seen = PreprocessingConfig(steps=steps).apply(to_pixels(prepared))[0]
    placement = placement_of_volume(steps, prepared, scan, seen.shape)
    resampled = placement.to_original(seen / 255)
    assert resampled.shape == scan.shape[::-1]
    assert np.corrcoef(resampled.ravel(), scan.slices().ravel())[0, 1] > 0.85
    volume = to_volume(resampled, slices_affine(scan))
    np.testing.assert_allclose(volume.affine, scan.affine, atol=1e-9)
    centre = np.array(np.nonzero(volume.array > 0.5)).mean(axis=1)
    np.testing.assert_allclose(centre, [14.5, 33.0, 9.5], atol=0.35)


def test_labels_of_the_scan_are_fetched_to_the_network_grid() -> None:
    scan = oblique_scan()
    prepared = apply_steps(scan, [Resample(spacing=(1.5, 1.5, 1.5)), Percentiles(low=0, high=100)])
    network = prepared.shape[::-1]
    labels = (scan.slices() > 0.5).astype(np.int32) * 7
    fetched = placement_of_volume((), prepared, scan, network).to_network(labels, network)
    assert set(np.unique(fetched)) == {0, 7}
    overlap = (fetched > 0) & (to_pixels(prepared)[0] > 127)
    assert overlap.sum() / (fetched > 0).sum() > 0.8


def test_slices_lie_where_their_affine_says() -> None:
    scan = oblique_scan()
    slices, affine = scan.slices(), slices_affine(scan)
    for place_in_slices in [(0, 0, 0), (9, 14, 30), (29, 49, 43)]:
        mm = affine @ [*place_in_slices, 1]
        voxel = np.linalg.inv(scan.affine) @ mm
        x, y, z = np.round(voxel[:3]).astype(int)
        assert slices[place_in_slices] == scan.array[x, y, z]


def test_a_made_up_affine_has_the_spacing_and_the_usual_directions() -> None:
    affine = affine_from_spacing((4, 10, 20), (3.0, 1.0, 2.0))
    np.testing.assert_allclose(np.abs(affine[:3, :3]), [[0, 0, 2], [0, 1, 0], [3, 0, 0]])
    np.testing.assert_allclose(affine @ [1.5, 4.5, 9.5, 1], [0, 0, 0, 1])
    assert (affine @ [1, 0, 0, 0])[2] > 0
