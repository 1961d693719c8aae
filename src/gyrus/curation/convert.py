"""Conversion of a data set to another layout: folders, Parquet, NIfTI, BIDS, or the slices of each scan.

Label, subject, session, subset and further columns are kept: in a table beside the files, in the rows of Parquet, or in
participants.tsv. From image headers only the grid is kept.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gyrus.curation.scan_volumes import (
    OWN_COLUMNS,
    SLICE_NUMBERS,
    ConversionOptions,
    read_scans,
    require_one_file,
    with_progress,
)
from gyrus.datasets.identifiers import comparable
from gyrus.datasets.manifest import AFFINE, MEMBERS, VIEW, VOLUME_FILES, Manifest
from gyrus.datasets.reader import EncodedImages, Reader
from gyrus.datasets.sources.bids import ORIGINAL
from gyrus.datasets.text_tables import write_csv
from gyrus.errors import DataError
from gyrus.files import new_folder, write_json
from gyrus.imaging.decoding import encode_png
from gyrus.imaging.volume_formats import write_nifti
from gyrus.registry import look_up
from gyrus.transforms.volume_steps import Window, apply_steps, to_pixels

ROWS_AT_A_TIME = 256
"""Rows of a Parquet file that are in memory at a time."""

_EXTENSIONS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"BM": ".bmp", b"II*\0": ".tif", b"MM\0*": ".tif"}


def convert(manifest: Manifest, to: str, out: Path, options: ConversionOptions | None = None) -> tuple[str, ...]:
    """Write a data set in another layout. The folder appears only when it is complete.

    Args:
        manifest: Images or volumes.
        to: One of :data:`TARGETS`.
        out: A new or empty folder.
        options: Options of the conversion.

    Returns:
        Notes for the user of the new folder.

    Raises:
        UnknownNameError: There is no such layout.
        DataError: The data lack what the layout needs.
        GyrusError: The folder is not empty, or cannot be written to.
    """
    write = look_up(to, TARGETS, "layout to convert to")
    with new_folder(Path(out).resolve()) as folder:
        notes = write(manifest, folder, options or ConversionOptions())
    if to != "parquet" and list(manifest.classes) != sorted(manifest.classes):
        notes = (*notes, f"The order of the classes is not kept; give it with --classes {','.join(manifest.classes)}.")
    return notes


def write_folder(manifest: Manifest, folder: Path, options: ConversionOptions) -> tuple[str, ...]:
    """``<class>/<name>.<png, jpg, ...>`` of images, ``<class>/<name>.nii.gz`` of volumes, and ``labels.csv``."""
    return (write_nifti_folder if VOLUME_FILES in manifest.table else write_slices)(manifest, folder, options)


def write_slices(manifest: Manifest, folder: Path, options: ConversionOptions) -> tuple[str, ...]:
    """``<class>/<scan>_<slice>.<png, jpg, ...>`` and ``labels.csv``; encoded images are copied byte for byte."""
    rows, used = [], set[str]()
    slices, notes = encoded_slices(manifest, options)
    for image in slices:
        stem = _unique(_slice_name(image.metadata), used)
        path = f"{_folder_of(image.metadata)}{stem}{_extension(image.data)}"
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(image.data)
        rows.append({"path": path, **image.metadata})
    _write_table(folder / "labels.csv", rows, manifest)
    return notes


def write_parquet(manifest: Manifest, folder: Path, options: ConversionOptions) -> tuple[str, ...]:
    """One Parquet file per subset, in the format of the Hugging Face Hub, with the class names in order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    slices, notes = encoded_slices(manifest, options)
    writers: dict[str, pq.ParquetWriter] = {}
    try:
        for batch in _batches(slices):
            for subset, images in batch.items():
                table = _arrow_table(images, manifest, schema=writers[subset].schema if subset in writers else None)
                if subset not in writers:
                    writers[subset] = pq.ParquetWriter(folder / f"{subset}-00000-of-00001.parquet", table.schema)
                writers[subset].write_table(table)
    except pa.ArrowException as error:
        raise DataError(f"A column of the data cannot be written to Parquet: {error}") from error
    finally:
        for writer in writers.values():
            writer.close()
    return notes


def write_nifti_folder(manifest: Manifest, folder: Path, options: ConversionOptions) -> tuple[str, ...]:
    """``<class>/<scan>.nii.gz`` and ``labels.csv``."""
    rows, used = [], set[str]()
    for scan in read_scans(manifest, options.spacing, options.progress):
        path = f"{_folder_of(scan.metadata)}{_unique(_scan_name(scan.metadata), used)}.nii.gz"
        write_nifti(scan.volume, folder / path)
        rows.append({"path": path, **scan.metadata})
    _write_table(folder / "labels.csv", rows, manifest)
    return ()


def write_bids(manifest: Manifest, folder: Path, options: ConversionOptions) -> tuple[str, ...]:
    """Write ``sub-<subject>/[ses-<session>/]anat/..._T1w.nii.gz``, ``participants.tsv`` and ``sessions.tsv``.

    Raises:
        DataError: Subjects are unknown.
    """
    if manifest.subject_kind != "subject":
        raise DataError(
            "BIDS requires the subject of each scan. Name the subjects (--subject-pattern, --subject-rule)."
        )
    subjects, sessions = _bids_names(manifest.table["subject"], "sub"), _bids_names(manifest.table["session"], "ses")
    found: dict[str, list[dict[str, Any]]] = {}
    for scan in read_scans(manifest, options.spacing, options.progress):
        subject, session = subjects[scan.metadata["subject"]], sessions.get(scan.metadata["session"])
        known = found.setdefault(subject, [])
        run = 1 + sum(other["session"] == scan.metadata["session"] for other in known)
        known.append(scan.metadata)
        entities = [subject, *([session] if session else []), *([f"run-{run}"] if run > 1 else [])]
        write_nifti(
            scan.volume, folder / Path(*entities[: 2 if session else 1]) / "anat" / f"{'_'.join(entities)}_T1w.nii.gz"
        )
    notes = _write_participants(folder, subjects, sessions, found)
    description = {"Name": "Converted by Gyrus", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    write_json(folder / "dataset_description.json", description)
    return ("All scans are named T1w; rename those with another contrast.", *notes)


TARGETS: dict[str, Callable[[Manifest, Path, ConversionOptions], tuple[str, ...]]] = {
    "folder": write_folder,
    "parquet": write_parquet,
    "nifti": write_nifti_folder,
    "bids": write_bids,
    "stack": write_slices,
}
"""Name of a layout to the function that writes it into an empty folder."""


@dataclass(frozen=True)
class EncodedSlice:
    """An encoded slice with its metadata."""

    data: bytes
    metadata: dict[str, Any]


def encoded_slices(manifest: Manifest, options: ConversionOptions) -> tuple[Iterator[EncodedSlice], tuple[str, ...]]:
    """Every slice of a data set, encoded, and notes on how it was scaled.

    Images are the bytes of their files. Slices of volumes are exact if all volumes are 8-bit gray; others are scaled by
    the steps of the options.

    Raises:
        DataError: The samples are stacks.
    """
    scaled = json.dumps([step.model_dump(mode="json") for step in options.steps])
    note = f"The volumes have more than 8 bits; their slices are gray values scaled by {scaled}."
    if VOLUME_FILES not in manifest.table:
        return _image_files(manifest, options), ()
    require_one_file(manifest)
    if VIEW in manifest.table:
        return _chosen_slices(manifest, options), (note,)
    exact = all(scan.volume.stored == np.uint8 for scan in read_scans(manifest))
    return _volume_slices(manifest, options, exact=exact), () if exact else (note,)


def _image_files(manifest: Manifest, options: ConversionOptions) -> Iterator[EncodedSlice]:
    require_one_file(manifest)
    if MEMBERS in manifest.table:
        raise DataError("Convert the original slices, without data.stack.")
    images = EncodedImages(manifest.root, manifest.table)
    rows = enumerate(manifest.table.iterrows())
    slices = (EncodedSlice(images.read(number), _metadata(row)) for number, (_, row) in rows)
    yield from with_progress(slices, len(manifest), options.progress)


def _chosen_slices(manifest: Manifest, options: ConversionOptions) -> Iterator[EncodedSlice]:
    reader = Reader(manifest, options.steps)
    rows = enumerate(manifest.table.iterrows())
    slices = (EncodedSlice(_png(reader.read(number)), _metadata(row)) for number, (_, row) in rows)
    yield from with_progress(slices, len(manifest), options.progress)


def _volume_slices(manifest: Manifest, options: ConversionOptions, *, exact: bool) -> Iterator[EncodedSlice]:
    steps = (Window(low=0, high=255),) if exact else options.steps
    for scan in read_scans(manifest, progress=options.progress):
        volume = apply_steps(scan.volume, steps)
        metadata, affine = dict(scan.metadata), json.dumps(volume.affine.tolist())
        original = metadata.pop(SLICE_NUMBERS, None)
        pixels = to_pixels(volume)[0]
        numbers = [int(number) for number in original.split()] if original else range(len(pixels))
        for number, pixel in zip(numbers, pixels, strict=True):
            yield EncodedSlice(_png(pixel[None]), {**metadata, "slice": number, AFFINE: affine})


def _png(pixels: np.ndarray) -> bytes:
    if pixels.shape[0] not in (1, 3):
        raise DataError(
            f"A slice with {pixels.shape[0]} channels cannot be an image. Set data.slices.neighbours to 0 or 1."
        )
    return encode_png(pixels)


def _metadata(row: pd.Series) -> dict[str, Any]:
    return {
        str(name): None if np.ndim(value) == 0 and pd.isna(value) else value
        for name, value in row.items()
        if name not in OWN_COLUMNS
    }


def _write_table(path: Path, rows: Sequence[dict[str, Any]], manifest: Manifest) -> None:
    write_csv(_readable(pd.DataFrame(rows), manifest), path)


def _readable(table: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """A table that is read like the original data: without empty columns, and with scan ids as sessions."""
    original = manifest.table
    empty = {name for name in original.columns if original[name].isna().all()}
    if manifest.subject_kind != "subject":
        table = table.assign(session=table["session"].fillna(table["subject"]))
        table = table.drop(columns="subject")
        empty -= {"session"} if original["subject"].notna().any() else set()
    return table.drop(columns=[name for name in table.columns if name in empty and table[name].isna().all()])


def _slice_name(metadata: dict[str, Any]) -> str:
    number = metadata.get("slice")
    return _scan_name(metadata) if number is None else f"{_scan_name(metadata)}_{int(number)}"


def _scan_name(metadata: dict[str, Any]) -> str:
    names = [str(metadata[name]) for name in ("subject", "session") if metadata.get(name) is not None]
    return _safe("_".join(dict.fromkeys(names)) or "scan")


def _folder_of(metadata: dict[str, Any]) -> str:
    return "".join(f"{_safe(str(metadata[name]))}/" for name in ("subset", "label") if metadata.get(name) is not None)


def _safe(name: str) -> str:
    """A name that is valid on every file system."""
    return re.sub(r"[^\w.+-]", "-", name).strip(".") or "unnamed"


def _unique(stem: str, used: set[str]) -> str:
    """The stem, with a number where another file already has it."""
    candidate, number = stem, 1
    while candidate.lower() in used:
        number += 1
        head, underscore, tail = stem.rpartition("_")
        candidate = f"{head}-{number}_{tail}" if underscore else f"{stem}-{number}"
    used.add(candidate.lower())
    return candidate


def _extension(data: bytes) -> str:
    return next((extension for start, extension in _EXTENSIONS.items() if data.startswith(start)), ".png")


def _batches(slices: Iterator[EncodedSlice]) -> Iterator[dict[str, list[EncodedSlice]]]:
    """Slices by subset, some at a time."""
    batch: dict[str, list[EncodedSlice]] = {}
    for number, image in enumerate(slices, 1):
        batch.setdefault(image.metadata.get("subset") or "data", []).append(image)
        if number % ROWS_AT_A_TIME == 0:
            yield batch
            batch = {}
    yield batch


def _arrow_table(images: Sequence[EncodedSlice], manifest: Manifest, *, schema: Any) -> Any:
    import pyarrow as pa

    table = _readable(pd.DataFrame([image.metadata for image in images]), manifest)
    # Use the types of the whole data set: a column may be empty in the first rows only.
    known = {name: manifest.table[name].dtype for name in table.columns if name in manifest.table}
    table = table.astype(known).drop(columns=["subset", "label"], errors="ignore")
    columns = {str(name): pa.array(table[name], from_pandas=True) for name in table.columns}
    names = [f"{_slice_name(image.metadata)}{_extension(image.data)}" for image in images]
    encoded = pa.array([image.data for image in images], pa.binary())
    columns["image"] = pa.StructArray.from_arrays([encoded, pa.array(names)], ["bytes", "path"])
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if manifest.classes:
        index = {name: number for number, name in enumerate(manifest.classes)}
        columns["label"] = pa.array([index.get(image.metadata["label"], -1) for image in images], pa.int64())
        features["label"] = {"names": list(manifest.classes), "_type": "ClassLabel"}
    if schema is not None:
        return pa.table({name: columns[name] for name in schema.names}).cast(schema)
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _bids_names(values: pd.Series, entity: str) -> dict[str, str]:
    """A unique BIDS label for each subject or session, of letters and digits only."""
    taken: set[str] = set()
    names = {}
    for value in sorted(values.dropna().unique()):
        plain = re.sub(r"[^A-Za-z0-9]", "", value.removeprefix(f"{entity}-")) or "unnamed"
        candidate, number = plain, 1
        while comparable(candidate) in taken:
            number += 1
            candidate = f"{plain}x{number}"
        taken.add(comparable(candidate))
        names[value] = f"{entity}-{candidate}"
    return names


def _write_participants(
    folder: Path, subjects: dict[str, str], sessions: dict[str, str], found: dict[str, list[dict[str, Any]]]
) -> tuple[str, ...]:
    rows: list[dict[str, Any]] = []
    lost: set[str] = set()
    for original, subject in subjects.items():
        scans_of_subject = found[subject]
        shared, differing = _shared(scans_of_subject)
        lost |= differing
        rows.append(
            {"participant_id": subject, ORIGINAL: original, "group": scans_of_subject[0].get("label"), **shared}
        )
        names = list(dict.fromkeys(scan["session"] for scan in scans_of_subject if scan["session"] is not None))
        if names:
            table = pd.DataFrame({"session_id": [sessions[name] for name in names], ORIGINAL: names})
            write_csv(table, folder / subject / f"{subject}_sessions.tsv", separator="\t")
    table = pd.DataFrame(rows).dropna(axis=1, how="all")
    write_csv(table, folder / "participants.tsv", separator="\t", missing="n/a")
    return tuple(f"Column {name} differs between the scans of a subject and is not written." for name in sorted(lost))


def _shared(scans_of_subject: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], set[str]]:
    """The values on which all scans of a subject agree, and the names of the other columns."""
    names = [name for name in scans_of_subject[0] if name not in ("subject", "session", "label")]
    alike = {name for name in names if len({str(scan.get(name)) for scan in scans_of_subject}) == 1}
    return {name: scans_of_subject[0][name] for name in names if name in alike}, set(names) - alike
