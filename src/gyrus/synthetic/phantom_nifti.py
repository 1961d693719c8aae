"""Write phantom volumes as NIfTI files in BIDS."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gyrus.synthetic.phantom import Phantom
from gyrus.synthetic.phantom_anatomy import SLAB


def write_nifti(phantom: Phantom, folder: Path) -> None:
    """BIDS: ``sub-P001/anat/sub-P001_T1w.nii.gz`` in RAS+ and ``participants.tsv`` with age, sex and diagnosis."""
    for name, volume in zip(phantom.subjects, phantom.volumes, strict=True):
        save_volume(voxels_of(volume), affine_of(phantom), folder / f"sub-{name}" / "anat" / f"sub-{name}_T1w.nii.gz")
    write_tables(
        folder,
        {
            "participant_id": [f"sub-{name}" for name in phantom.subjects],
            "age": phantom.age,
            "sex": phantom.sex,
            "diagnosis": [phantom.class_names[label] for label in phantom.labels],
        },
    )


def write_tables(folder: Path, participants: Mapping[str, Sequence[object] | np.ndarray]) -> None:
    """Write ``participants.tsv`` with some columns, and the description of the data set."""
    import pandas as pd

    pd.DataFrame(dict(participants)).to_csv(folder / "participants.tsv", sep="\t", index=False, lineterminator="\n")
    about = {"Name": "Gyrus phantom", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (folder / "dataset_description.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def save_volume(voxels: NDArray[np.uint8], affine: NDArray[np.float64], path: Path) -> None:
    """Save voxels (right, front, up) with their position in mm."""
    import nibabel as nib

    image = nib.Nifti1Image(voxels, affine)
    for set_affine in (image.set_qform, image.set_sform):
        set_affine(affine, code="scanner")
    image.header.set_xyzt_units("mm")
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(image, path)


def voxels_of(volume: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """From (slices, rows to the back, columns to the left) to (right, front, up)."""
    return np.ascontiguousarray(volume[:, ::-1, ::-1].transpose(2, 1, 0))


def affine_of(phantom: Phantom) -> NDArray[np.float64]:
    """From voxel numbers (right, front, up) to mm in the frame of the scanner."""
    between, rows, columns = phantom.spacing
    size = phantom.volumes.shape[-1]
    affine = np.diag([columns, rows, between, 1.0])
    affine[:3, 3] = (-columns * (size - 1) / 2, -rows * (size - 1) / 2, SLAB[0] + between / 2)
    return affine
