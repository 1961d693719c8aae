from __future__ import annotations

import stat
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from gyrus.errors import DataError, MissingDependencyError
from gyrus.imaging.brain_masks import brain_mask, head_mask
from gyrus.imaging.volume import Volume
from gyrus.transforms.volume_steps import (
    CropToMask,
    FindMask,
    Percentiles,
)
from tests.support.heads import head


def test_the_brain_of_nested_shells_is_found_and_cropped():
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


def test_a_volume_without_contrast_has_a_full_mask():
    flat = Volume.from_array(np.full((8, 8, 8), 5.0), np.eye(4))
    assert brain_mask(flat).all()
    assert not Percentiles()(flat).array.any()


@pytest.fixture(scope="module")
def head_and_brain() -> tuple[Volume, np.ndarray]:
    return head((6.0, 6.0, 7.0))


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
def test_an_installed_program_gives_the_mask(tool, program, source, out, tmp_path, monkeypatch, head_and_brain):
    _program(tmp_path, program, COPY.format(source=source, out=out))
    monkeypatch.setenv("PATH", str(tmp_path))
    found = FindMask(tool=tool, outside="zero")(head_and_brain[0])
    np.testing.assert_array_equal(found.mask, head_and_brain[0].array > 500)
    assert not found.array[~found.mask].any()


def test_a_missing_or_failing_tool_is_reported(tmp_path, monkeypatch, head_and_brain):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=r"'mri_synthstrip' was not found.*tool: classical"):
        FindMask(tool="synthstrip")(head_and_brain[0])
    _program(tmp_path, "mri_synthstrip", "import sys; sys.exit('no licence')")
    with pytest.raises(DataError, match="exit code 1: no licence"):
        FindMask(tool="synthstrip")(head_and_brain[0])
    _program(tmp_path, "mri_synthstrip", "pass")
    with pytest.raises(DataError, match="wrote no mask"):
        FindMask(tool="synthstrip")(head_and_brain[0])
