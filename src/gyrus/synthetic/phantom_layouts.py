"""Write phantom data in the layouts in which real data are found."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gyrus.files import new_folder
from gyrus.registry import look_up
from gyrus.synthetic.phantom import Phantom, generate
from gyrus.synthetic.phantom_anatomy import SLAB


def write_class_folders(phantom: Phantom, folder: Path) -> None:
    """``<class>/sub-P001_slice-07.png``."""
    for subject, slice_number, name in _slices(phantom):
        _save(phantom, subject, slice_number, folder / _class(phantom, subject) / f"{name}.png")


def write_train_test(phantom: Phantom, folder: Path) -> None:
    """``train|test/<class>/sub-P001_slice-07.png``; every fourth subject of a class is in ``test``."""
    test = _test_subjects(phantom)
    for subject, slice_number, name in _slices(phantom):
        subset = "test" if test[subject] else "train"
        _save(phantom, subject, slice_number, folder / subset / _class(phantom, subject) / f"{name}.png")


def write_id_slice(phantom: Phantom, folder: Path) -> None:
    """``<class>/<scan number>_<slice>.jpeg``, as copies of ADNI slices on the web are named."""
    for subject, slice_number, _ in _slices(phantom):
        name = f"{20001 + subject}_{slice_number}.jpeg"
        _save(phantom, subject, slice_number, folder / _class(phantom, subject) / name)


def write_csv(phantom: Phantom, folder: Path) -> None:
    """``images/P001_07.png`` and ``labels.csv`` with path, label, subject, slice, age and sex."""
    import pandas as pd

    rows = []
    for subject, slice_number, _ in _slices(phantom):
        path = f"images/{phantom.subjects[subject]}_{slice_number:02d}.png"
        _save(phantom, subject, slice_number, folder / path)
        about = (phantom.subjects[subject], slice_number, phantom.age[subject], phantom.sex[subject])
        rows.append((path, _class(phantom, subject), *about))
    table = pd.DataFrame(rows, columns=["path", "label", "subject", "slice", "age", "sex"])
    table.to_csv(folder / "labels.csv", index=False, lineterminator="\n")


def write_parquet(phantom: Phantom, folder: Path) -> None:
    """``data/train-00000-of-00001.parquet`` and ``test-...`` in the layout of the Hugging Face Hub."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = {
        "image": {"_type": "Image"},
        "label": {"names": list(phantom.class_names), "_type": "ClassLabel"},
        "subject": {"dtype": "string", "_type": "Value"},
        "slice": {"dtype": "int64", "_type": "Value"},
    }
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("label", pa.int64()),
            ("subject", pa.string()),
            ("slice", pa.int64()),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    test = _test_subjects(phantom)
    (folder / "data").mkdir()
    for subset, wanted in (("train", False), ("test", True)):
        rows = [
            {
                "image": {"bytes": _png(phantom.volumes[subject, slice_number]), "path": f"{name}.png"},
                "label": int(phantom.labels[subject]),
                "subject": phantom.subjects[subject],
                "slice": slice_number,
            }
            for subject, slice_number, name in _slices(phantom)
            if test[subject] == wanted
        ]
        table = pa.Table.from_pylist(rows, schema=schema)
        pq.write_table(table, folder / "data" / f"{subset}-00000-of-00001.parquet")


def write_nifti(phantom: Phantom, folder: Path) -> None:
    """BIDS: ``sub-P001/anat/sub-P001_T1w.nii.gz`` in RAS+ and ``participants.tsv`` with age, sex and diagnosis."""
    import nibabel as nib
    import pandas as pd

    for name, volume in zip(phantom.subjects, phantom.volumes, strict=True):
        # From (slices, rows to the back, columns to the left) to (right, front, up).
        voxels = np.ascontiguousarray(volume[:, ::-1, ::-1].transpose(2, 1, 0))
        image = nib.Nifti1Image(voxels, _affine(phantom))
        for set_affine in (image.set_qform, image.set_sform):
            set_affine(_affine(phantom), code="scanner")
        image.header.set_xyzt_units("mm")
        path = folder / f"sub-{name}" / "anat" / f"sub-{name}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(image, path)
    table = pd.DataFrame(
        {
            "participant_id": [f"sub-{name}" for name in phantom.subjects],
            "age": phantom.age,
            "sex": phantom.sex,
            "diagnosis": [phantom.class_names[label] for label in phantom.labels],
        }
    )
    table.to_csv(folder / "participants.tsv", sep="\t", index=False, lineterminator="\n")
    about = {"Name": "Gyrus phantom", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    (folder / "dataset_description.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


LAYOUTS: dict[str, Callable[[Phantom, Path], None]] = {
    "folder": write_class_folders,
    "train-test": write_train_test,
    "id-slice": write_id_slice,
    "csv": write_csv,
    "parquet": write_parquet,
    "nifti": write_nifti,
}
"""The layouts by name, each with the function that writes it into an empty folder."""


def phantom(
    out: str | Path,
    *,
    subjects: int = 60,
    slices: int = 16,
    classes: int = 4,
    size: int = 128,
    seed: int = 0,
    layout: str = "folder",
    age_effect: float = 1.0,
) -> Path:
    """Generate synthetic subjects and write them as files; see :func:`gyrus.synthetic.phantom.generate`.

    Args:
        out: A new folder.
        subjects: Number of subjects.
        slices: Axial slices of each subject.
        classes: Number of classes.
        size: Rows and columns of a slice.
        seed: Seed of the random numbers.
        layout: One of :data:`LAYOUTS`.
        age_effect: How strongly age shows in the images.

    Raises:
        ConfigError: An argument is out of range.
        UnknownNameError: There is no such layout.
        GyrusError: The folder is not empty, or cannot be written to.
    """
    found = generate(subjects, slices, classes, size, seed, age_effect=age_effect)
    return write(found, Path(out), layout)


def write(phantom: Phantom, folder: Path, layout: str = "folder") -> Path:
    """Write a phantom as files into a new or empty folder, in one of :data:`LAYOUTS`; nothing is left if writing fails.

    Raises:
        UnknownNameError: There is no such layout.
        GyrusError: The folder is not empty, or cannot be written to.
    """
    write_files = look_up(layout, LAYOUTS, "layout")
    with new_folder(Path(folder).resolve()) as temporary:
        write_files(phantom, temporary)
    return Path(folder)


def _affine(phantom: Phantom) -> NDArray[np.float64]:
    """From voxel numbers (right, front, up) to mm in the frame of the scanner."""
    between, rows, columns = phantom.spacing
    size = phantom.volumes.shape[-1]
    affine = np.diag([columns, rows, between, 1.0])
    affine[:3, 3] = (-columns * (size - 1) / 2, -rows * (size - 1) / 2, SLAB[0] + between / 2)
    return affine


def _slices(phantom: Phantom) -> Iterator[tuple[int, int, str]]:
    """All slices: index of the subject, number of the slice, name of the file without extension."""
    for subject, name in enumerate(phantom.subjects):
        for number in range(phantom.volumes.shape[1]):
            yield subject, number, f"sub-{name}_slice-{number:02d}"


def _class(phantom: Phantom, subject: int) -> str:
    return phantom.class_names[phantom.labels[subject]]


def _test_subjects(phantom: Phantom) -> list[bool]:
    """Whether each subject is in the test set: every fourth of its class, from the second on."""
    seen = [0] * len(phantom.class_names)
    held_out = []
    for label in phantom.labels:
        seen[label] += 1
        held_out.append(seen[label] % 4 == 2)
    return held_out


def _save(phantom: Phantom, subject: int, slice_number: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(phantom.volumes[subject, slice_number])
    image.save(path, quality=95) if path.suffix == ".jpeg" else image.save(path)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
