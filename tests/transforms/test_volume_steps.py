from __future__ import annotations

import json
import stat
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from gyrus.datasets.volume_preview import preview
from gyrus.errors import DataError, MissingDependencyError
from gyrus.imaging.masks import brain_mask, head_mask, otsu
from gyrus.imaging.resampling import resample
from gyrus.imaging.volume import Volume, affine_from_slices, from_slices
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.transforms.volume_steps import (
    VOLUME_STEPS,
    AnyVolumeStep,
    BiasFieldCorrection,
    CropToMask,
    FindMask,
    Percentiles,
    Resample,
    Shape,
    Window,
    ZScore,
    to_pixels,
)
from tests.support.heads import OBLIQUE, head, noise

EXAMPLES = {
    "resample": Resample(spacing=(8.0, 8.0, 8.0)),
    "mask": FindMask(of="head"),
    "crop-to-mask": CropToMask(),
    "shape": Shape(size=(20, 30, 25)),
    "n4": BiasFieldCorrection(shrink=2, levels=1, iterations=2),
    "percentiles": Percentiles(),
    "zscore": ZScore(within="all"),
    "window": Window(low=0, high=1000),
}


@pytest.fixture(scope="module")
def person() -> tuple[Volume, np.ndarray]:
    return head((6.0, 6.0, 7.0))


def test_every_step_has_an_example():
    assert EXAMPLES.keys() == VOLUME_STEPS.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_step_saved_and_loaded_gives_the_same_volume(name, person):
    step, volume = EXAMPLES[name], person[0]
    volume = volume.replaced(volume.array, mask=person[1])
    before = volume.array.copy()
    loaded = TypeAdapter(AnyVolumeStep).validate_python(json.loads(step.model_dump_json()))
    first, second = step(volume), loaded(volume)
    np.testing.assert_array_equal(first.array, second.array)
    np.testing.assert_array_equal(first.affine, second.affine)
    np.testing.assert_array_equal(volume.array, before)
    assert first.array.dtype == np.float32
    assert first.mask.shape == first.array.shape


@given(seed=st.integers(0, 99), size=st.tuples(*[st.integers(1, 12)] * 3))
@settings(deadline=None, max_examples=40)
def test_every_voxel_keeps_its_place_in_mm_when_cut_and_padded(seed, size):
    volume = Volume.from_array(noise(seed=seed), OBLIQUE)
    shaped = Shape(size=size)(volume)
    assert shaped.shape == size[::-1]
    back = np.linalg.inv(volume.affine) @ shaped.affine
    np.testing.assert_allclose(back[:3, :3], np.eye(3), atol=1e-9)
    shift = np.rint(back[:3, 3]).astype(int)
    for place in np.ndindex(shaped.shape):
        there = np.array(place) + shift
        inside = (there >= 0).all() and (there < volume.shape).all()
        expected = volume.array[tuple(there)] if inside else volume.array.min()
        assert shaped.array[place] == expected


def test_resampling_keeps_a_ramp_in_mm_and_the_field_of_view():
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = (-10, 5, 7)
    shape = (40, 30, 20)
    places = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    world = places @ affine[:3, :3].T + affine[:3, 3]
    ramp = world @ [1.0, -2.0, 0.5]
    volume = Volume.from_array(ramp.astype(np.float32), affine)
    for spacing in ((2.0, 2.0, 2.0), (0.5, 1.0, 1.5)):
        result = resample(volume, spacing)
        np.testing.assert_allclose(np.array(result.shape) * result.spacing, (40, 60, 60), rtol=1e-6)
        there = np.stack(np.meshgrid(*[np.arange(n) for n in result.shape], indexing="ij"), axis=-1)
        expected = (there @ result.affine[:3, :3].T + result.affine[:3, 3]) @ [1.0, -2.0, 0.5]
        inner = (slice(8, -8),) * 3
        np.testing.assert_allclose(result.array[inner], expected[inner], atol=0.05)


def test_shrinking_smooths_before_so_that_fine_stripes_become_gray():
    stripes = np.zeros((40, 40, 40), np.float32)
    stripes[::2] = 1
    small = resample(Volume.from_array(stripes, np.eye(4)), (4.0, 4.0, 4.0))
    assert abs(small.array[2:-2] - 0.5).max() < 0.1


def test_the_brain_of_a_head_of_shells_is_found_and_cropped_to():
    volume, brain = head((3.0, 3.0, 3.5))
    found = brain_mask(volume)
    assert 2 * (found & brain).sum() / (found.sum() + brain.sum()) > 0.95
    assert (head_mask(volume) & brain).sum() > 0.999 * brain.sum()
    cropped = CropToMask(margin=0)(volume.replaced(volume.array, mask=brain))
    assert cropped.mask is not None
    for axis in range(3):
        edges = cropped.mask.any(axis=tuple({0, 1, 2} - {axis}))
        assert edges[[0, -1]].all()
    assert cropped.mask.sum() == brain.sum()


def test_a_volume_without_contrast_has_a_mask_all_the_same():
    flat = Volume.from_array(np.full((8, 8, 8), 5.0), np.eye(4))
    assert brain_mask(flat).all()
    assert not Percentiles()(flat).array.any()


def test_otsu_agrees_with_scikit_image():
    from skimage.filters import threshold_otsu

    values = head((6.0, 6.0, 6.0))[0].array.ravel()
    assert otsu(values) == pytest.approx(threshold_otsu(values, nbins=256), rel=0.02)


def test_intensity_steps_agree_with_numpy(person):
    volume, brain = person
    volume = volume.replaced(volume.array, mask=brain)
    scores = ZScore(low=-2, high=6)(volume).array * 8 - 2
    inside = volume.array[brain]
    expected = (volume.array - inside.mean()) / inside.std()
    np.testing.assert_allclose(scores, np.clip(expected, -2, 6), atol=1e-3)
    low, high = np.percentile(volume.array, [1, 90])
    expected = np.clip((volume.array - low) / (high - low), 0, 1)
    np.testing.assert_allclose(Percentiles(low=1, high=90)(volume).array, expected, atol=1e-5)


def test_whole_gray_values_survive_window_and_pixels_exactly():
    slices = np.random.default_rng(0).integers(0, 256, (5, 6, 7)).astype(np.uint8)
    volume = Volume.from_array(from_slices(slices), affine_from_slices((1, 1, 1), (5, 6, 7)))
    np.testing.assert_array_equal(to_pixels(Window()(volume))[0], slices)


def test_steps_that_need_a_mask_or_a_scale_say_so():
    volume = head((10.0, 10.0, 10.0))[0]
    for step in (CropToMask(), ZScore(), Shape(size=(3, 3, 3), centre="mask")):
        with pytest.raises(DataError, match=r"needs a mask. Put a step before it"):
            step(volume)
    with pytest.raises(ValidationError, match="percentiles, zscore or window"):
        PreprocessingConfig(volume=(Resample(),))
    with pytest.raises(ValidationError, match="put it before percentiles"):
        PreprocessingConfig(volume=(Percentiles(), BiasFieldCorrection()))
    with pytest.raises(ValidationError, match="finds brains, not heads"):
        FindMask(of="head", tool="hd-bet")


def _program(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!{sys.executable}\n" + textwrap.dedent(body))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


COPY = """
    import sys, numpy as np, nibabel as nib
    source, out = {source}, {out}
    image = nib.load(source)
    mask = (image.get_fdata() > 500).astype(np.uint8)
    nib.save(nib.Nifti1Image(mask, image.affine), out)
"""


@pytest.mark.parametrize(
    ("tool", "program", "source", "out"),
    [
        ("synthstrip", "mri_synthstrip", "sys.argv[2]", "sys.argv[4]"),
        ("hd-bet", "hd-bet", "sys.argv[2]", "sys.argv[4].replace('.nii.gz', '_bet.nii.gz')"),
    ],
)
def test_a_tool_of_the_user_gives_the_mask(tool, program, source, out, tmp_path, monkeypatch, person):
    _program(tmp_path, program, COPY.format(source=source, out=out))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = FindMask(tool=tool, outside="zero")(person[0])
    np.testing.assert_array_equal(found.mask, person[0].array > 500)
    assert not found.array[~found.mask].any()


def test_a_tool_that_is_missing_or_fails_says_so(tmp_path, monkeypatch, person):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"'mri_synthstrip' is not on the search path.*tool: classical"):
        FindMask(tool="synthstrip")(person[0])
    _program(tmp_path, "mri_synthstrip", "import sys; sys.exit('no licence')")
    with pytest.raises(DataError, match="exit code 1: no licence"):
        FindMask(tool="synthstrip")(person[0])
    _program(tmp_path, "mri_synthstrip", "pass")
    with pytest.raises(DataError, match="wrote no mask"):
        FindMask(tool="synthstrip")(person[0])


def test_a_contact_sheet_has_three_planes_before_and_after_each_step(person):
    steps = (FindMask(of="head"), CropToMask(), Percentiles())
    figure = preview(person[0], steps)
    assert len(figure.axes) == 3 * (len(steps) + 1)
    with pytest.raises(DataError, match="Step 1: The step 'crop-to-mask' needs a mask"):
        preview(person[0], (CropToMask(),))
