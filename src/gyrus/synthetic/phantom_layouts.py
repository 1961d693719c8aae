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
from gyrus.synthetic.phantom_lesions import generate_lesions
from gyrus.synthetic.phantom_nifti import write_nifti
from gyrus.synthetic.phantom_sequences import generate_sequences, write_sequences
from gyrus.synthetic.phantom_visits import generate_visits, write_visits


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


LAYOUTS: dict[str, Callable[[Phantom, Path], None]] = {
    "folder": write_class_folders,
    "train-test": write_train_test,
    "id-slice": write_id_slice,
    "csv": write_csv,
    "parquet": write_parquet,
    "nifti": write_nifti,
}
"""The layouts of a phantom by name, each with the function that writes it into an empty folder."""


def _write_sequences(folder: Path, subjects: int, slices: int, size: int, seed: int) -> None:
    write_sequences(generate_sequences(subjects, slices, size, seed), folder)


def _write_lesions(folder: Path, subjects: int, slices: int, size: int, seed: int) -> None:
    write_class_folders(generate_lesions(subjects, slices, size, seed), folder)


def _write_visits(folder: Path, subjects: int, slices: int, size: int, seed: int) -> None:
    write_visits(generate_visits(subjects, slices, size, seed), folder)


OWN_PHANTOMS: dict[str, Callable[[Path, int, int, int, int], None]] = {
    "lesions": _write_lesions,
    "sequences": _write_sequences,
    "visits": _write_visits,
}
"""Layouts with phantoms of their own, each with the function that writes a number of subjects into an empty folder."""


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
        layout: One of :data:`LAYOUTS` or :data:`OWN_PHANTOMS`; the latter have classes of their own.
        age_effect: How strongly age shows in the images of :data:`LAYOUTS`.

    Raises:
        ConfigError: An argument is out of range.
        UnknownNameError: There is no such layout.
        GyrusError: The folder is not empty, or cannot be written to.
    """
    look_up(layout, {**LAYOUTS, **OWN_PHANTOMS}, "layout")
    if layout in OWN_PHANTOMS:
        with new_folder(Path(out).resolve()) as temporary:
            OWN_PHANTOMS[layout](temporary, subjects, slices, size, seed)
        return Path(out)
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
