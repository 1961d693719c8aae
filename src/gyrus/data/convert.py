"""The same data in another layout: folders, parquet, NIfTI, BIDS, or slices of each scan.

Label, subject, session, part and further columns travel along: in a table beside the files, in the rows of parquet, or
in participants.tsv. Of headers nothing travels but the grid.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from gyrus.data.manifest import MEMBERS, VIEW, VOLUME_FILES, Manifest
from gyrus.data.reading import EncodedImages, Reader
from gyrus.data.sources.bids import ORIGINAL
from gyrus.data.volumes.gathering import AFFINE, OWN_COLUMNS, SLICE_NUMBERS, scans
from gyrus.data.volumes.steps import Percentiles, VolumeStep, Window, apply_steps, to_pixels
from gyrus.data.volumes.volume import Volume
from gyrus.data.volumes.writing import write_nifti
from gyrus.errors import DataError
from gyrus.files import new_folder, write_json
from gyrus.registry import look_up

_EXTENSIONS = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"BM": ".bmp", b"II*\0": ".tif", b"MM\0*": ".tif"}
_EXACT = Window(low=0, high=255)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Options:
    """How to convert.

    Attributes:
        spacing: Millimetres between slices, rows and columns, of slices that become volumes.
        steps: What brings volumes to 8 bits where they become slices, unless all hold 8-bit gray already.
        progress: Called with the samples done and their number.
    """

    spacing: tuple[float, float, float] | None = None
    steps: tuple[VolumeStep, ...] = (Percentiles(),)
    progress: Progress | None = field(default=None)


@dataclass(frozen=True)
class _Picture:
    """An encoded slice with the columns that go with it."""

    data: bytes
    about: dict[str, Any]


def convert(manifest: Manifest, to: str, out: Path, options: Options | None = None) -> tuple[str, ...]:
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
        notes = write(manifest, folder, options or Options())
    if to != "parquet" and list(manifest.classes) != sorted(manifest.classes):
        notes = (*notes, f"The order of the classes is not kept; give it with --classes {','.join(manifest.classes)}.")
    return notes


def write_folder(manifest: Manifest, folder: Path, options: Options) -> tuple[str, ...]:
    """``<class>/<name>.<png, jpg, ...>`` of images, ``<class>/<name>.nii.gz`` of volumes, and ``labels.csv``."""
    return (write_nifti_folder if VOLUME_FILES in manifest.table else write_stack)(manifest, folder, options)


def write_stack(manifest: Manifest, folder: Path, options: Options) -> tuple[str, ...]:
    """``<class>/<scan>_<slice>.<png, jpg, ...>`` and ``labels.csv``; encoded images are copied byte for byte."""
    rows, taken = [], set[str]()
    pictures, notes = _pictures(manifest, options)
    for picture in pictures:
        stem = _unique(_scan_and_slice(picture.about), taken)
        path = f"{_folder_of(picture.about)}{stem}{_extension(picture.data)}"
        _write(folder / path, picture.data)
        rows.append({"path": path, **picture.about})
    _write_table(folder / "labels.csv", rows, manifest)
    return notes


def write_parquet(manifest: Manifest, folder: Path, options: Options) -> tuple[str, ...]:
    """One parquet file a part, in the form of the Hugging Face hub, with the class names in their order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures, notes = _pictures(manifest, options)
    writers: dict[str, pq.ParquetWriter] = {}
    try:
        for rows in _batches(pictures):
            for part, chosen in rows.items():
                table = _arrow_table(chosen, manifest, schema=writers[part].schema if part in writers else None)
                if part not in writers:
                    writers[part] = pq.ParquetWriter(folder / f"{part}-00000-of-00001.parquet", table.schema)
                writers[part].write_table(table)
    except pa.ArrowException as error:
        raise DataError(f"The columns of the data do not fit into parquet: {error}") from error
    finally:
        for writer in writers.values():
            writer.close()
    return notes


def write_nifti_folder(manifest: Manifest, folder: Path, options: Options) -> tuple[str, ...]:
    """``<class>/<scan>.nii.gz`` and ``labels.csv``."""
    rows, taken = [], set[str]()
    for scan in _with_progress(scans(manifest, options.spacing), _scan_count(manifest), options.progress):
        stem = _unique(_scan_name(scan.about), taken)
        path = f"{_folder_of(scan.about)}{stem}.nii.gz"
        write_nifti(scan.volume, folder / path)
        rows.append({"path": path, **scan.about})
    _write_table(folder / "labels.csv", rows, manifest)
    return ()


def write_bids(manifest: Manifest, folder: Path, options: Options) -> tuple[str, ...]:
    """``sub-<person>/[ses-<visit>/]anat/..._T1w.nii.gz``, ``participants.tsv`` and ``sessions.tsv``.

    Raises:
        DataError: People are not known.
    """
    if manifest.subject_kind != "subject":
        raise DataError(
            "BIDS needs to know who is on each scan; name the subjects (--subject-pattern, --subject-rule)."
        )
    people, visits = _bids_names(manifest.table["subject"], "sub"), _bids_names(manifest.table["session"], "ses")
    found: dict[str, list[dict[str, Any]]] = {}
    for scan in _with_progress(scans(manifest, options.spacing), _scan_count(manifest), options.progress):
        person, visit = people[scan.about["subject"]], visits.get(scan.about["session"])
        known = found.setdefault(person, [])
        run = 1 + sum(one["session"] == scan.about["session"] for one in known)
        known.append(scan.about)
        entities = [person, *([visit] if visit else []), *([f"run-{run}"] if run > 1 else [])]
        write_nifti(
            scan.volume, folder / Path(*entities[: 2 if visit else 1]) / "anat" / f"{'_'.join(entities)}_T1w.nii.gz"
        )
    notes = _write_people(folder, people, visits, found)
    about = {"Name": "Converted by Gyrus", "BIDSVersion": "1.10.0", "DatasetType": "raw"}
    write_json(folder / "dataset_description.json", about)
    return ("The scans are called T1w; rename them where they are something else.", *notes)


TARGETS: dict[str, Callable[[Manifest, Path, Options], tuple[str, ...]]] = {
    "folder": write_folder,
    "parquet": write_parquet,
    "nifti": write_nifti_folder,
    "bids": write_bids,
    "stack": write_stack,
}
"""Layout name to the function that writes it into an empty folder."""


def _pictures(manifest: Manifest, options: Options) -> tuple[Iterator[_Picture], tuple[str, ...]]:
    """Every slice, encoded; and what was decided."""
    if VOLUME_FILES not in manifest.table:
        return _encoded(manifest, options.progress), ()
    if VIEW in manifest.table:
        reader = Reader(manifest, options.steps)
        return _views(manifest, reader, options.progress), (_scaled_by(options.steps),)
    exact = all(scan.volume.stored == np.uint8 for scan in scans(manifest))
    steps = (_EXACT,) if exact else options.steps
    return _cut(manifest, steps, options.progress), () if exact else (_scaled_by(steps),)


def _scaled_by(steps: Sequence[VolumeStep]) -> str:
    words = json.dumps([step.model_dump(mode="json") for step in steps])
    return f"The volumes hold more than 8 bits; slices are gray values scaled by {words}."


def _encoded(manifest: Manifest, progress: Progress | None) -> Iterator[_Picture]:
    if MEMBERS in manifest.table:
        raise DataError("Convert the slices as they are, without data.stack.")
    images = EncodedImages(manifest.root, manifest.table)
    rows = (_Picture(images.read(number), _columns(row)) for number, (_, row) in enumerate(manifest.table.iterrows()))
    yield from _with_progress(rows, len(manifest), progress)


def _views(manifest: Manifest, reader: Reader, progress: Progress | None) -> Iterator[_Picture]:
    rows = (_Picture(_png(reader.read(n)), _columns(row)) for n, (_, row) in enumerate(manifest.table.iterrows()))
    yield from _with_progress(rows, len(manifest), progress)


def _cut(manifest: Manifest, steps: Sequence[VolumeStep], progress: Progress | None) -> Iterator[_Picture]:
    for scan in _with_progress(scans(manifest), len(manifest), progress):
        volume = apply_steps(scan.volume, steps)
        about = dict(scan.about)
        told = about.pop(SLICE_NUMBERS, None)
        pixels = to_pixels(volume)[0]
        numbers = [int(number) for number in told.split()] if told else list(range(len(pixels)))
        for number, pixel in zip(numbers, pixels, strict=True):
            yield _Picture(_png(pixel[None]), {**about, "slice": number, AFFINE: _affine_text(volume)})


def _affine_text(volume: Volume) -> str:
    return json.dumps(volume.affine.tolist())


def _png(pixels: np.ndarray) -> bytes:
    if pixels.shape[0] not in (1, 3):
        raise DataError(f"A slice of {pixels.shape[0]} channels is no picture. Set data.slices.neighbours to 0 or 1.")
    buffer = io.BytesIO()
    Image.fromarray(pixels[0] if pixels.shape[0] == 1 else np.moveaxis(pixels, 0, -1)).save(buffer, format="PNG")
    return buffer.getvalue()


def _columns(row: pd.Series) -> dict[str, Any]:
    return {str(name): None if _missing(value) else value for name, value in row.items() if name not in OWN_COLUMNS}


def _missing(value: Any) -> bool:
    return bool(np.ndim(value) == 0 and pd.isna(value))


def _write_table(path: Path, rows: Sequence[dict[str, Any]], manifest: Manifest) -> None:
    table = _told_honestly(pd.DataFrame(rows), manifest)
    table.to_csv(path, index=False, lineterminator="\n")


def _told_honestly(table: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """Without empty columns; and scans, which are not people, under the name of visits."""
    if manifest.subject_kind != "subject":
        table = table.assign(
            session=table["session"].fillna(table["subject"]) if "session" in table else table["subject"]
        )
        table = table.drop(columns="subject")
    empty = [name for name in table.columns if table[name].isna().all()]
    return table.drop(columns=empty)


def _scan_and_slice(about: dict[str, Any]) -> str:
    number = about.get("slice")
    return _scan_name(about) if number is None else f"{_scan_name(about)}_{int(number)}"


def _scan_name(about: dict[str, Any]) -> str:
    names = [str(about[name]) for name in ("subject", "session") if about.get(name) is not None]
    return _safe("_".join(dict.fromkeys(names)) or "scan")


def _folder_of(about: dict[str, Any]) -> str:
    return "".join(f"{_safe(str(about[name]))}/" for name in ("part", "label") if about.get(name) is not None)


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


def _batches(pictures: Iterator[_Picture], length: int = 256) -> Iterator[dict[str, list[_Picture]]]:
    """Pictures by part, some at a time."""
    waiting: dict[str, list[_Picture]] = {}
    for number, picture in enumerate(pictures, 1):
        waiting.setdefault(picture.about.get("part") or "data", []).append(picture)
        if number % length == 0:
            yield waiting
            waiting = {}
    yield waiting


def _arrow_table(pictures: Sequence[_Picture], manifest: Manifest, *, schema: Any) -> Any:
    import pyarrow as pa

    about = _told_honestly(pd.DataFrame([picture.about for picture in pictures]), manifest).drop(
        columns="part", errors="ignore"
    )
    columns = {name: pa.array(about[name].to_list(), from_pandas=True) for name in about.columns if name != "label"}
    names = [f"{_scan_and_slice(picture.about)}{_extension(picture.data)}" for picture in pictures]
    images = pa.StructArray.from_arrays(
        [pa.array([one.data for one in pictures], pa.binary()), pa.array(names)], ["bytes", "path"]
    )
    columns["image"] = images
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if manifest.classes:
        index = {name: number for number, name in enumerate(manifest.classes)}
        columns["label"] = pa.array([index.get(picture.about["label"], -1) for picture in pictures], pa.int64())
        features["label"] = {"names": list(manifest.classes), "_type": "ClassLabel"}
    if schema is not None:
        return pa.table({name: columns.get(name, pa.nulls(len(pictures))) for name in schema.names}).cast(schema)
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _bids_names(values: pd.Series, entity: str) -> dict[str, str]:
    """A BIDS name for each person or visit: letters and digits only, and no two alike."""
    taken: set[str] = set()
    names = {}
    for value in sorted(values.dropna().unique()):
        plain = re.sub(r"[^A-Za-z0-9]", "", value.removeprefix(f"{entity}-")) or "unnamed"
        candidate, number = plain, 1
        while candidate.lower() in taken:
            number += 1
            candidate = f"{plain}x{number}"
        taken.add(candidate.lower())
        names[value] = f"{entity}-{candidate}"
    return names


def _write_people(
    folder: Path, people: dict[str, str], visits: dict[str, str], found: dict[str, list[dict[str, Any]]]
) -> tuple[str, ...]:
    rows: list[dict[str, Any]] = []
    lost: set[str] = set()
    for original, person in people.items():
        shared, differing = _shared(found[person])
        lost |= differing
        rows.append({"participant_id": person, ORIGINAL: original, "group": found[person][0].get("label"), **shared})
        sessions = list(dict.fromkeys(one["session"] for one in found[person] if one["session"] is not None))
        if sessions:
            told = pd.DataFrame({"session_id": [visits[one] for one in sessions], ORIGINAL: sessions})
            told.to_csv(folder / person / f"{person}_sessions.tsv", sep="\t", index=False, lineterminator="\n")
    table = pd.DataFrame(rows).dropna(axis=1, how="all")
    table.to_csv(folder / "participants.tsv", sep="\t", index=False, na_rep="n/a", lineterminator="\n")
    return tuple(f"{name} differs between the scans of a person and is not kept." for name in sorted(lost))


def _shared(scans_of_person: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], set[str]]:
    """What all scans of a person share, and the names of what they do not."""
    names = [name for name in scans_of_person[0] if name not in ("subject", "session", "label")]
    alike = {name for name in names if len({str(one.get(name)) for one in scans_of_person}) == 1}
    return {name: scans_of_person[0][name] for name in names if name in alike}, set(names) - alike


def _scan_count(manifest: Manifest) -> int:
    if VOLUME_FILES in manifest.table:
        return len(manifest)
    return len(manifest.table[["part", "label", "subject", "session"]].drop_duplicates())


def _with_progress(items: Iterator[Any], count: int, progress: Progress | None) -> Iterator[Any]:
    for number, item in enumerate(items, 1):
        yield item
        if progress is not None:
            progress(number, count)
