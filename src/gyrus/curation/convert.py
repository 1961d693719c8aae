"""The same data in another layout: folders, parquet, NIfTI, BIDS, or slices of each scan.

Label, subject, session, part and further columns travel along: in a table beside the files, in the rows of parquet, or
in participants.tsv. Of headers nothing travels but the grid.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from gyrus.curation.bids_writing import write_bids
from gyrus.curation.scan_volumes import ConversionOptions, scan_count, scans, with_progress
from gyrus.curation.slice_images import SliceImage, pictures
from gyrus.datasets.manifest import VOLUME_FILES, Manifest
from gyrus.errors import DataError
from gyrus.files import new_folder
from gyrus.imaging.volume_formats import write_nifti
from gyrus.registry import look_up

ROWS_AT_A_TIME = 256
"""Rows of a parquet file that are in memory at a time."""

_EXTENSIONS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"BM": ".bmp", b"II*\0": ".tif", b"MM\0*": ".tif"}


def convert(manifest: Manifest, to: str, out: Path, options: ConversionOptions | None = None) -> tuple[str, ...]:
    """Write a data set in another layout, into a new folder that is either whole or not there.

    Args:
        manifest: Images, or volumes.
        to: One of :data:`TARGETS`.
        out: Must not exist, or be empty.
        options: How to convert.

    Returns:
        What the reader of the new folder should know, one sentence each.

    Raises:
        UnknownNameError: There is no such layout.
        DataError: The data do not have what the layout needs.
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
    return (write_nifti_folder if VOLUME_FILES in manifest.table else write_stack)(manifest, folder, options)


def write_stack(manifest: Manifest, folder: Path, options: ConversionOptions) -> tuple[str, ...]:
    """``<class>/<scan>_<slice>.<png, jpg, ...>`` and ``labels.csv``; encoded images are copied byte for byte."""
    rows, taken = [], set[str]()
    found, notes = pictures(manifest, options)
    for picture in found:
        stem = _unique(_scan_and_slice(picture.about), taken)
        path = f"{_folder_of(picture.about)}{stem}{_extension(picture.data)}"
        _write(folder / path, picture.data)
        rows.append({"path": path, **picture.about})
    _write_table(folder / "labels.csv", rows, manifest)
    return notes


def write_parquet(manifest: Manifest, folder: Path, options: ConversionOptions) -> tuple[str, ...]:
    """One parquet file a part, in the form of the Hugging Face hub, with the class names in their order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found, notes = pictures(manifest, options)
    writers: dict[str, pq.ParquetWriter] = {}
    try:
        for rows in _batches(found):
            for subset, chosen in rows.items():
                table = _arrow_table(chosen, manifest, schema=writers[subset].schema if subset in writers else None)
                if subset not in writers:
                    writers[subset] = pq.ParquetWriter(folder / f"{subset}-00000-of-00001.parquet", table.schema)
                writers[subset].write_table(table)
    except pa.ArrowException as error:
        raise DataError(f"The columns of the data do not fit into parquet: {error}") from error
    finally:
        for writer in writers.values():
            writer.close()
    return notes


def write_nifti_folder(manifest: Manifest, folder: Path, options: ConversionOptions) -> tuple[str, ...]:
    """``<class>/<scan>.nii.gz`` and ``labels.csv``."""
    rows, taken = [], set[str]()
    for scan in with_progress(scans(manifest, options.spacing), scan_count(manifest), options.progress):
        stem = _unique(_scan_name(scan.about), taken)
        path = f"{_folder_of(scan.about)}{stem}.nii.gz"
        write_nifti(scan.volume, folder / path)
        rows.append({"path": path, **scan.about})
    _write_table(folder / "labels.csv", rows, manifest)
    return ()


TARGETS: dict[str, Callable[[Manifest, Path, ConversionOptions], tuple[str, ...]]] = {
    "folder": write_folder,
    "parquet": write_parquet,
    "nifti": write_nifti_folder,
    "bids": write_bids,
    "stack": write_stack,
}
"""Layout name to the function that writes it into an empty folder."""


def _write_table(path: Path, rows: Sequence[dict[str, Any]], manifest: Manifest) -> None:
    table = _told_honestly(pd.DataFrame(rows), manifest)
    table.to_csv(path, index=False, lineterminator="\n")


def _told_honestly(table: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """Without columns that are empty throughout; and scans, which are not people, under the name of visits."""
    whole = manifest.table
    empty = {name for name in whole.columns if whole[name].isna().all()}
    if manifest.subject_kind != "subject":
        table = table.assign(session=table["session"].fillna(table["subject"]))
        table = table.drop(columns="subject")
        empty -= {"session"} if whole["subject"].notna().any() else set()
    return table.drop(columns=[name for name in table.columns if name in empty and table[name].isna().all()])


def _scan_and_slice(about: dict[str, Any]) -> str:
    number = about.get("slice")
    return _scan_name(about) if number is None else f"{_scan_name(about)}_{int(number)}"


def _scan_name(about: dict[str, Any]) -> str:
    names = [str(about[name]) for name in ("subject", "session") if about.get(name) is not None]
    return _safe("_".join(dict.fromkeys(names)) or "scan")


def _folder_of(about: dict[str, Any]) -> str:
    return "".join(f"{_safe(str(about[name]))}/" for name in ("subset", "label") if about.get(name) is not None)


def _safe(name: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^\w.+-]", "-", name).strip(".") or "unnamed"


def _unique(stem: str, taken: set[str]) -> str:
    """The stem, with a number behind it where a file of another class or with other dots has it already."""
    candidate, number = stem, 1
    while candidate.lower() in taken:
        number += 1
        head, underscore, tail = stem.rpartition("_")
        candidate = f"{head}-{number}_{tail}" if underscore else f"{stem}-{number}"
    taken.add(candidate.lower())
    return candidate


def _extension(data: bytes) -> str:
    return next((extension for start, extension in _EXTENSIONS.items() if data.startswith(start)), ".png")


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def _batches(found: Iterator[SliceImage]) -> Iterator[dict[str, list[SliceImage]]]:
    """Pictures by part, some at a time."""
    waiting: dict[str, list[SliceImage]] = {}
    for number, picture in enumerate(found, 1):
        waiting.setdefault(picture.about.get("subset") or "data", []).append(picture)
        if number % ROWS_AT_A_TIME == 0:
            yield waiting
            waiting = {}
    yield waiting


def _arrow_table(found: Sequence[SliceImage], manifest: Manifest, *, schema: Any) -> Any:
    import pyarrow as pa

    about = _told_honestly(pd.DataFrame([picture.about for picture in found]), manifest)
    # The types of the whole data set: a column may be empty in the first rows, and full behind them.
    known = {name: manifest.table[name].dtype for name in about.columns if name in manifest.table}
    about = about.astype(known).drop(columns=["subset", "label"], errors="ignore")
    columns = {str(name): pa.array(about[name], from_pandas=True) for name in about.columns}
    names = [f"{_scan_and_slice(picture.about)}{_extension(picture.data)}" for picture in found]
    encoded = pa.array([picture.data for picture in found], pa.binary())
    columns["image"] = pa.StructArray.from_arrays([encoded, pa.array(names)], ["bytes", "path"])
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if manifest.classes:
        index = {name: number for number, name in enumerate(manifest.classes)}
        columns["label"] = pa.array([index.get(picture.about["label"], -1) for picture in found], pa.int64())
        features["label"] = {"names": list(manifest.classes), "_type": "ClassLabel"}
    if schema is not None:
        return pa.table({name: columns[name] for name in schema.names}).cast(schema)
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
