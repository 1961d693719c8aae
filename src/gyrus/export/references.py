"""The reference inputs of a bundle: phantoms, with which every installation can repeat the comparison."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from gyrus.datasets.table_features import TableEncoder
from gyrus.export.manifest import Member
from gyrus.imaging.volume_formats import extension_of
from gyrus.synthetic.phantom import generate

SUBJECTS = 3
SLICES, SIZE = 24, 96
SMALLEST = 48
SEED = 20_000
"""Subjects of this seed are in no data set that users generate with small seeds."""


def write_references(
    folder: Path,
    attempt: int,
    *,
    inputs: str,
    member: Member,
    least_slices: int,
    channels: Mapping[str, str] | None = None,
) -> None:
    """Write phantoms as PNG slices or NIfTI volumes.

    Args:
        folder: A new folder.
        attempt: 0 for phantoms of a usual size; 1 for the size of the network's input, for steps that change no size; 2
            and 3 for the same in colour.
        inputs: "images" or "volumes".
        member: A network, for the size of its input.
        least_slices: How many slices a stack or a slice with neighbours needs.
        channels: The pattern of each channel, if several files of a session are one sample.
    """
    folder.mkdir()
    exact = attempt % 2 == 1
    slices, rows, columns = (SLICES, SIZE, SIZE)
    if exact:
        slices, rows, columns = (len(member.image_size) == 2) * (SLICES,) + member.image_size
    if inputs == "images":
        slices = max(least_slices, SUBJECTS)
    elif not exact:
        slices = max(slices, least_slices)
    volumes = generate(SUBJECTS, slices, 2, max(rows, columns, SMALLEST), SEED).volumes
    volumes = np.ascontiguousarray(_centre(_centre(volumes, 2, rows), 3, columns))
    if channels:
        for number in range(SUBJECTS):
            for place, pattern in enumerate(channels.values()):
                path = folder / _name_of_channel(pattern, f"sub-P{number + 1:03d}")
                path.parent.mkdir(parents=True, exist_ok=True)
                volume = volumes[(number + place) % SUBJECTS]  # so that no two channels are alike
                if inputs == "images":
                    Image.fromarray(volume[len(volume) // 2]).save(f"{path}.png")
                else:
                    _write_nifti(path, volume)
        return
    write = _write_slices if inputs == "images" else _write_volume
    for number, volume in enumerate(volumes, 1):
        write(folder, f"sub-P{number:03d}", volume, colour=attempt >= 2)


ATTEMPTS = {"images": 4, "volumes": 2, "table": 1}


def changed(images: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Decoded images (N, C, *spatial) with the changes that references should detect, and what each is."""
    yield "gray values that are 5 % lower", (images * 0.95).astype(np.uint8)
    axes = ("slices", "rows", "columns")[-(images.ndim - 2) :]
    for axis, name in enumerate(axes, 2):
        yield f"reversed {name}", np.flip(images, axis)


def describe_inputs(images: np.ndarray) -> np.ndarray:
    """What prepared images are like, in numbers that another scaling, a shift or a reversed axis changes.

    Args:
        images: Input of a network (N, C, *spatial).

    Returns:
        Mean, standard deviation, and along each axis the mean product with the position from -1 to 1: (N, 2 + axes).
    """
    values = images.astype(np.float64)
    rest = tuple(range(1, values.ndim))
    numbers = [values.mean(axis=rest), values.std(axis=rest)]
    for axis in rest[1:]:
        along = values.mean(axis=tuple(each for each in rest if each != axis))
        numbers.append(along @ np.linspace(-1, 1, along.shape[1]) / along.shape[1])
    return np.stack(numbers, axis=1)


def inputs_apart(found: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference of two descriptions, in units of the standard deviation of each image."""
    return float((np.abs(found - expected) / np.maximum(expected[:, 1:2], 1e-6)).max())


def write_reference_table(path: Path, encoders: Sequence[TableEncoder], subjects: Sequence[str]) -> None:
    """Write a table of the phantoms: for each column its mean, a larger number, and a missing cell; or categories.

    Args:
        path: The file (.csv).
        encoders: Of all networks.
        subjects: The subjects of the references.
    """
    columns: dict[str, list[object]] = {"subject": list(subjects)}
    for encoder in encoders:
        how = encoder.harmonisation
        for column in (*encoder.columns, *(how.kept if how else ())):
            cells: list[object]
            if column.kind == "number":
                cells = [column.mean[0] + number * column.scale for number in range(2)]
            else:
                # Networks that were trained on other subjects may know fewer categories.
                known = [set(one.categories) for each in encoders for one in each.columns if one.name == column.name]
                cells = [*[name for name in column.categories if all(name in names for names in known)][:2]]
            cells.append("")
            columns.setdefault(column.name, [cells[row % len(cells)] for row in range(len(subjects))])
        if how:
            sites = how.combat.sites
            columns[how.site] = [sites[row % len(sites)] for row in range(len(subjects))]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _write_slices(folder: Path, name: str, volume: np.ndarray, *, colour: bool) -> None:
    for number, pixels in enumerate(volume):
        image = Image.fromarray(pixels)
        (image.convert("RGB") if colour else image).save(folder / f"{name}_slice-{number:02d}.png")


def _name_of_channel(pattern: str, subject: str) -> str:
    """A path without extension that the pattern of a channel matches, such as sub-P001_T1w for ``*_T1w``."""
    whole = pattern.removesuffix(extension_of(pattern))
    if not any(sign in whole for sign in "*?["):
        return f"{subject}_{whole}"  # the suffix of BIDS
    return whole.replace("*", subject).replace("?", "x")


def _write_volume(folder: Path, name: str, volume: np.ndarray, *, colour: bool) -> None:  # noqa: ARG001
    _write_nifti(folder / f"{name}_T1w", volume)


def _write_nifti(path: Path, volume: np.ndarray) -> None:
    """Write a volume (slices, rows, columns) beside a path without extension."""
    import nibabel

    # From (slices, rows to the back, columns to the left) to (right, front, up).
    voxels = np.ascontiguousarray(volume[:, ::-1, ::-1].transpose(2, 1, 0))
    spacing = (192 / voxels.shape[0], 192 / voxels.shape[1], 4.0)
    image = nibabel.Nifti1Image(voxels, np.diag([*spacing, 1.0]))
    image.set_qform(image.affine, code="scanner")
    image.header.set_xyzt_units("mm")
    nibabel.save(image, f"{path}.nii.gz")


def _centre(volumes: np.ndarray, axis: int, length: int) -> np.ndarray:
    start = (volumes.shape[axis] - length) // 2
    return np.take(volumes, range(start, start + length), axis=axis)
