"""Slice images with their neighbours as channels (2.5D): the slices below and above in the same scan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from gyrus.datasets.manifest import MEMBERS, VIEW, Manifest
from gyrus.datasets.slice_stacks import as_member, group_scans
from gyrus.datasets.volume_slices import SliceConfig
from gyrus.errors import DataError
from gyrus.files import digest


def with_neighbours(manifest: Manifest, config: SliceConfig) -> Manifest:
    """Some or all slices of each scan, each with its neighbours as channels.

    Neighbours are found by slice number. At the ends of a scan the last slice is repeated. Where numbers are missing,
    the nearest slice of the scan is used, and a note reports it.

    Args:
        manifest: One row per slice; subject or session, and the slice number must be known.
        config: Number of neighbours; the range counts from the first to the last slice of each scan.

    Returns:
        One row per slice, with label, subject and session as before, and its channels in the column ``members``.

    Raises:
        DataError: Scan or order of the slices is unknown, or the config needs information that slice images lack.
    """
    _require_fractions(config)
    found = [_Scan.from_table(scan) for scan in group_scans(manifest.table, "Neighbouring slices")]
    rows = [row for scan in found for row in scan.rows(config)]
    if not rows:
        raise DataError(f"No slice lies from {config.range} of its scan (data.slices.range).")
    table = pd.DataFrame(rows).astype({"slice": "Int64"})
    shown = Manifest.from_rows(table, root=manifest.root, classes=manifest.classes)
    notes = _notes(found, config.neighbours) if config.neighbours else ()
    return replace(
        shown,
        subject_kind=manifest.subject_kind,
        subject_rule=manifest.subject_rule,
        problems=manifest.problems,
        notes=(*manifest.notes, *notes),
    )


@dataclass(frozen=True)
class _Scan:
    """The slices of a scan in order.

    Attributes:
        table: One row per slice.
        numbers: int64 (N,), rising.
        step: Median difference between neighbouring numbers.
    """

    table: pd.DataFrame
    numbers: np.ndarray
    step: int

    @classmethod
    def from_table(cls, table: pd.DataFrame) -> _Scan:
        numbers = table["slice"].to_numpy(np.int64)
        steps = np.diff(numbers)
        if (steps == 0).any():
            twice = table["sample"][table["slice"].duplicated(keep=False)]
            raise DataError(
                f"{twice.iloc[0]} and {twice.iloc[1]} are the same slice of the same scan, so their neighbours are "
                "ambiguous. Remove one, or distinguish the scans by a session."
            )
        return cls(table, numbers, int(np.median(steps)) if len(steps) else 1)

    def rows(self, config: SliceConfig) -> list[dict[str, Any]]:
        """The rows of the slices in the range."""
        last = len(self.numbers) - 1
        low, high = config.range or (0.0, 1.0)
        places = np.arange(last + 1) / max(last, 1)
        inside = np.flatnonzero((places >= low - 1e-9) & (places <= high + 1e-9))[:: config.every]
        return [self._row(int(place), config.neighbours) for place in inside]

    def gaps(self, neighbours: int) -> int:
        """Number of missing neighbours between the first and the last slice."""
        wanted = self.numbers[:, None] + self.step * np.arange(-neighbours, neighbours + 1)
        inside = wanted[(wanted > self.numbers[0]) & (wanted < self.numbers[-1])]
        return len(np.setdiff1d(inside, self.numbers))

    def _row(self, place: int, neighbours: int) -> dict[str, Any]:
        kept = {str(name): value for name, value in self.table.iloc[place].items()}
        if not neighbours:
            return kept
        members = [
            as_member(self.table.iloc[self._nearest(place, offset)]) for offset in range(-neighbours, neighbours + 1)
        ]
        view = {"neighbours": neighbours, "slices": [member["digest"] for member in members]}
        return kept | {MEMBERS: members, VIEW: json.dumps(view), "digest": digest(view)}

    def _nearest(self, place: int, offset: int) -> int:
        """The slice at an offset, or the nearest one; of two equally near, the one nearer to the slice itself."""
        away = np.abs(self.numbers - (self.numbers[place] + offset * self.step))
        nearest = np.flatnonzero(away == away.min())
        return int(nearest[np.abs(nearest - place).argmin()])


def _require_fractions(config: SliceConfig) -> None:
    if config.plane != "axial":
        raise DataError(
            f"Slice images have a fixed plane; data.slices.plane {config.plane} needs volumes. Omit it, or convert the "
            "slices to volumes with `gyrus data convert --to nifti`."
        )
    if config.unit != "fraction":
        raise DataError("Slice images have no known distance in mm. Give data.slices.range in fractions.")


def _notes(scans: Sequence[_Scan], neighbours: int) -> tuple[str, ...]:
    notes = []
    with_gaps = [scan for scan in scans if scan.gaps(neighbours)]
    if with_gaps:
        missing = sum(scan.gaps(neighbours) for scan in with_gaps)
        notes.append(
            f"{missing} neighbouring slices are missing in {len(with_gaps)} of {len(scans)} scans, first at "
            f"{with_gaps[0].table['sample'].iloc[0]}; the nearest slice replaces each"
        )
    single = [scan for scan in scans if len(scan.numbers) == 1]
    if single:
        notes.append(
            f"{len(single)} of {len(scans)} scans have a single slice, first {single[0].table['sample'].iloc[0]}; "
            "it replaces its neighbours"
        )
    return tuple(notes)
