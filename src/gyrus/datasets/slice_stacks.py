"""Volumes from slices: the slices of a scan, in their order, as one sample."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from gyrus.datasets.manifest import MEMBERS, VIEW, VOLUME_FILES, Manifest, Problem
from gyrus.errors import DataError
from gyrus.files import digest

if TYPE_CHECKING:
    import pandas as pd


class StackConfig(BaseModel):
    """How the slices of a scan become one volume."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slices: int = Field(20, ge=1, description="slices of every volume")
    choose: Literal["centre", "even"] = Field(
        "centre", description="of a scan with more: those around its middle, or evenly from its first to its last"
    )
    short: Literal["refuse", "pad"] = Field(
        "refuse", description="a scan with fewer: is a problem that is reported, or gets black slices at both ends"
    )


def stack(manifest: Manifest, config: StackConfig) -> Manifest:
    """Put the slices of each scan together.

    Args:
        manifest: One row a slice; subject or session, and the number of the slice must be known. Or one row a
            volume, of which the slices are taken.
        config: How many slices, and which.

    Returns:
        One row a volume, with the slices in its column ``members``; scans with too few slices are named among
        its problems.

    Raises:
        DataError: It is not known which slices belong together or in which order.
    """
    import pandas as pd

    if VOLUME_FILES in manifest.table:
        return _slabs(manifest, config)
    scans = scans_of(manifest.table, "Stacks")
    rows, problems = [], list(manifest.problems)
    for scan in scans:
        volume = _volume(scan, config)
        if len(scan) < config.slices and config.short == "refuse":
            message = f"{len(scan)} slices, but the stack needs {config.slices} (data.stack.slices, data.stack.short)"
            problems.append(Problem(volume["sample"], "too few slices", message))
        else:
            rows.append(volume)
    if not rows:
        largest = max(map(len, scans))
        raise DataError(
            f"No scan has {config.slices} slices; the largest has {largest}. "
            "Lower data.stack.slices, or set data.stack.short to pad."
        )
    stacked = Manifest.from_rows(pd.DataFrame(rows), root=manifest.root, classes=manifest.classes)
    return replace(
        stacked,
        subject_kind=manifest.subject_kind,
        subject_rule=manifest.subject_rule,
        problems=tuple(problems),
        notes=manifest.notes,
    )


def scans_of(table: pd.DataFrame, what: str) -> list[pd.DataFrame]:
    """The rows of each scan, in the order of its slices.

    Args:
        table: Of a manifest, one row a slice.
        what: What needs them, for messages.

    Raises:
        DataError: It is not known which slices belong together or in which order.
    """
    _require_order(table, what)
    keys = ["subset", "label", "subject", "session"]
    scans = table.groupby(table[keys].astype("string").fillna("").apply(tuple, axis=1), sort=True)
    return [scan.sort_values("slice", kind="stable") for _, scan in scans]


def chosen(present: int, config: StackConfig) -> list[int | None]:
    """Which of ``present`` slices a volume is made of; None is a black slice.

    Example:
        >>> chosen(7, StackConfig(slices=3)), chosen(7, StackConfig(slices=3, choose="even"))
        ([2, 3, 4], [0, 3, 6])
        >>> chosen(2, StackConfig(slices=4, short="pad"))
        [None, 0, 1, None]
    """
    if present < config.slices:
        before = (config.slices - present) // 2
        return [None] * before + list(range(present)) + [None] * (config.slices - present - before)
    if config.choose == "even":
        return [int(place) for place in np.linspace(0, present - 1, config.slices).round()]
    start = (present - config.slices) // 2
    return list(range(start, start + config.slices))


def _slabs(manifest: Manifest, config: StackConfig) -> Manifest:
    """The same volumes, of which some axial slices are shown; how many there are is known once they are prepared."""
    rows = manifest.table.copy()
    rows[VIEW] = [json.dumps({"stack": config.model_dump(), "volume": name}) for name in rows["digest"]]
    rows["digest"] = [digest(view) for view in rows[VIEW]]
    rows["shape"] = [(config.slices, *shape[1:]) for shape in rows["shape"]]
    return replace(manifest, table=rows)


def _require_order(table: pd.DataFrame, what: str) -> None:
    if table["subject"].isna().any() and table["session"].isna().any():
        raise DataError(
            f"{what} need to know which slices belong together. Name the subjects (--subject-pattern REGEX, "
            "--subject-rule NAME, or a table with a subject column)."
        )
    if table["slice"].isna().any():
        raise DataError(
            f"{what} need the number of each slice, and {table['slice'].isna().sum()} have none. Give it by a group "
            "(?P<slice>...) in --subject-pattern, or by a column named slice."
        )


def _volume(scan: pd.DataFrame, config: StackConfig) -> dict[str, Any]:
    """The row of a volume; ``scan`` are its slices in their order."""
    first = scan.iloc[0]
    members = [_member(scan, place) for place in chosen(len(scan), config)]
    sample = _name(scan["path"].tolist(), first)
    kept = first.drop(["row", "slice", "spacing"])
    return {str(column): value for column, value in kept.items()} | {
        "sample": sample,
        "shape": (config.slices, *first["shape"]),
        "digest": digest([member["digest"] for member in members]),
        MEMBERS: members,
    }


def _member(scan: pd.DataFrame, place: int | None) -> dict[str, Any]:
    return {"path": None, "row": None, "digest": None} if place is None else member_of(scan.iloc[place])


def member_of(found: pd.Series) -> dict[str, Any]:
    """A row of a manifest as a member of a sample that is made of several slices."""
    import pandas as pd

    row = found["row"]
    return {"path": found["path"], "row": None if pd.isna(row) else int(row), "digest": found["digest"]}


def _name(paths: Sequence[str], first: pd.Series) -> str:
    """The folder of the slices, or the file that holds them, with subject and session behind."""
    import pandas as pd

    parent = paths[0] if len(paths) > 1 and len(set(paths)) == 1 else str(PurePosixPath(paths[0]).parent)
    names = [str(first[column]) for column in ("subject", "session") if not pd.isna(first[column])]
    return "/".join([*([] if parent == "." else [parent]), *dict.fromkeys(names)])
