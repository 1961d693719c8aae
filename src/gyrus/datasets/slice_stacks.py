"""Stacks: the slices of a scan, in order, as one volume."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from gyrus.configuration import Section
from gyrus.datasets.manifest import AFFINE, MEMBERS, VIEW, VOLUME_FILES, Manifest, Problem
from gyrus.errors import DataError, NothingUsableError
from gyrus.files import digest
from gyrus.text import counted

if TYPE_CHECKING:
    import pandas as pd


class StackConfig(Section):
    """How the slices of a scan form one volume."""

    slices: int = Field(20, ge=1, description="number of slices of every volume")
    choose: Literal["centre", "even"] = Field(
        "centre", description="slices of a scan with more: those around its middle, or evenly spaced from first to last"
    )
    short: Literal["refuse", "pad"] = Field(
        "refuse", description="a scan with fewer: exclude and report it, or pad with black slices at both ends"
    )


def stack_slices(manifest: Manifest, config: StackConfig) -> Manifest:
    """Stack the slices of each scan.

    Args:
        manifest: One row per slice, with subject or session and slice number; or one row per volume, whose slices are
            used.
        config: How many slices, and which.

    Returns:
        One row per volume, with its slices in the column ``members``; scans with too few slices are among the problems.

    Raises:
        DataError: Scan or order of the slices is unknown.
    """
    if VOLUME_FILES in manifest.table:
        return _restrict_volumes(manifest, config)
    refuse_channels(manifest, "Stacks (data.stack)")
    scans = group_scans(manifest.table, "Stacks")
    rows, problems = [], list(manifest.problems)
    for scan in scans:
        volume = _volume(scan, config)
        if len(scan) < config.slices and config.short == "refuse":
            has = counted(len(scan), "slice")
            message = f"{has}, but the stack needs {config.slices} (data.stack.slices, data.stack.short)"
            problems.append(Problem(volume["sample"], "too few slices", message))
        else:
            rows.append(volume)
    if not rows:
        largest = max(map(len, scans))
        message = (
            f"No scan has {config.slices} slices; the largest has {largest}. "
            "Lower data.stack.slices, or set data.stack.short to pad."
        )
        raise NothingUsableError(message, problems, manifest.root)
    return manifest.derive(rows, problems=problems)


def refuse_channels(manifest: Manifest, what: str) -> None:
    """Refuse slice images of several sequences for what needs one image per slice.

    Raises:
        DataError: The manifest has channels.
    """
    if manifest.channels:
        raise DataError(
            f"{what} of slice images cannot be combined with channels (data.channels). Write each sequence as volumes "
            "with `gyrus data convert --to nifti`, and use the volumes."
        )


def group_scans(table: pd.DataFrame, what: str) -> list[pd.DataFrame]:
    """The rows of each scan, in slice order; ``what`` names in messages what needs them.

    Raises:
        DataError: Scan or order of the slices is unknown.
    """
    _require_order(table, what)
    keys = ["subset", "label", "subject", "session"]
    scans = table.groupby(table[keys].astype("string").fillna("").apply(tuple, axis=1), sort=True)
    return [scan.sort_values("slice", kind="stable") for _, scan in scans]


def choose_slices(present: int, config: StackConfig) -> list[int | None]:
    """The indices of the slices of a volume, out of ``present``; None is a black slice.

    Example:
        >>> choose_slices(7, StackConfig(slices=3)), choose_slices(7, StackConfig(slices=3, choose="even"))
        ([2, 3, 4], [0, 3, 6])
        >>> choose_slices(2, StackConfig(slices=4, short="pad"))
        [None, 0, 1, None]
    """
    if present < config.slices:
        before = (config.slices - present) // 2
        return [None] * before + list(range(present)) + [None] * (config.slices - present - before)
    if config.choose == "even":
        return [int(place) for place in np.linspace(0, present - 1, config.slices).round()]
    start = (present - config.slices) // 2
    return list(range(start, start + config.slices))


def first_slice(present: int, config: StackConfig) -> int | None:
    """The slice of a volume of ``present`` slices that is the first of its stack; None if they are not consecutive.

    Negative where the stack begins with black slices.
    """
    chosen = choose_slices(present, config)
    offsets = [index - number for number, index in enumerate(chosen) if index is not None]
    return offsets[0] if len(set(offsets)) == 1 else None


def _restrict_volumes(manifest: Manifest, config: StackConfig) -> Manifest:
    """The same volumes, restricted to some axial slices; their number is known after preprocessing."""
    rows = manifest.table.copy()
    rows[VIEW] = [json.dumps({"stack": config.model_dump(), "volume": name}) for name in rows["digest"]]
    rows["digest"] = [digest(view) for view in rows[VIEW]]
    rows["shape"] = [(config.slices, *shape[1:]) for shape in rows["shape"]]
    return replace(manifest, table=rows)


def _require_order(table: pd.DataFrame, what: str) -> None:
    if table["subject"].isna().any() and table["session"].isna().any():
        raise DataError(
            f"{what} need to know which slices belong to the same scan. Name the subjects (--subject-pattern REGEX, "
            "--subject-rule NAME, or a table with a subject column)."
        )
    if table["slice"].isna().any():
        raise DataError(
            f"{what} need slice numbers, but {table['slice'].isna().sum()} slices have none. Give them by a group "
            "(?P<slice>...) in --subject-pattern, or by a column named slice."
        )


def _volume(scan: pd.DataFrame, config: StackConfig) -> dict[str, Any]:
    """The row of a volume; ``scan`` has its slices in order."""
    first = scan.iloc[0]
    black = {"path": None, "row": None, "digest": None}
    places = choose_slices(len(scan), config)
    members = [black if place is None else as_member(scan.iloc[place]) for place in places]
    kept = first.drop(["row", "slice", "spacing"])
    if AFFINE in kept:
        kept[AFFINE] = _affine(scan, places)
    return {str(column): value for column, value in kept.items()} | {
        "sample": _name(scan["path"].tolist(), first),
        "shape": (config.slices, *first["shape"]),
        "digest": digest([member["digest"] for member in members]),
        MEMBERS: members,
    }


def _affine(scan: pd.DataFrame, places: Sequence[int | None]) -> str | None:
    """The affine of a stack whose slices were cut from one volume, as JSON; None if unknown or not evenly spaced."""
    texts = scan[AFFINE].dropna().unique()
    numbers = scan["slice"].to_numpy(np.int64)
    chosen = [(position, numbers[place]) for position, place in enumerate(places) if place is not None]
    if len(texts) != 1 or scan[AFFINE].isna().any():
        return None
    step = chosen[1][1] - chosen[0][1] if len(chosen) > 1 else 1
    start = chosen[0][1] - chosen[0][0] * step
    if any(number != start + position * step for position, number in chosen):
        return None
    try:
        affine = np.array(json.loads(texts[0]), dtype=np.float64)
        from_stack = np.diag([1.0, 1.0, step, 1.0])
        from_stack[2, 3] = start
        return json.dumps((affine @ from_stack).tolist())
    except (TypeError, ValueError):  # a column of another content that has this name
        return None


def as_member(found: pd.Series) -> dict[str, Any]:
    """A row of a manifest as a member of a sample of several slices."""
    import pandas as pd

    row = found["row"]
    return {"path": found["path"], "row": None if pd.isna(row) else int(row), "digest": found["digest"]}


def _name(paths: Sequence[str], first: pd.Series) -> str:
    """The folder of the slices, or the file that holds them, followed by subject and session."""
    import pandas as pd

    parent = paths[0] if len(paths) > 1 and len(set(paths)) == 1 else str(PurePosixPath(paths[0]).parent)
    names = [str(first[column]) for column in ("subject", "session") if not pd.isna(first[column])]
    return "/".join([*([] if parent == "." else [parent]), *dict.fromkeys(names)])
