"""Slices in files with their neighbours: the slices below and above of the same scan as further channels (2.5D)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from gyrus.datasets.manifest import MEMBERS, VIEW, Manifest
from gyrus.datasets.slice_stacks import member_of, scans_of
from gyrus.datasets.volume_slices import SliceConfig
from gyrus.errors import DataError
from gyrus.files import digest


def with_neighbours(manifest: Manifest, config: SliceConfig) -> Manifest:
    """Some or all slices of each scan, each with its neighbours as channels.

    Neighbours are found by the numbers of the slices. At the ends of a scan the last slice is repeated, and where
    numbers are missing the nearest slice of the scan stands in, which a note tells.

    Args:
        manifest: One row a slice; subject or session, and the number of the slice must be known.
        config: How many neighbours; the range counts from the first to the last slice of each scan.

    Returns:
        One row a slice, with label, subject and session as before, and the slices shown in its column ``members``.

    Raises:
        DataError: It is not known which slices belong together or in which order, or the config asks for what slice
            files do not tell.
    """
    _require_fractions(config)
    found = [_Scan.of(scan) for scan in scans_of(manifest.table, "Neighbouring slices")]
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
    """The slices of a scan in their order.

    Attributes:
        table: One row a slice.
        numbers: int64 (N,), rising.
        step: By how much the numbers rise from slice to slice.
    """

    table: pd.DataFrame
    numbers: np.ndarray
    step: int

    @classmethod
    def of(cls, table: pd.DataFrame) -> _Scan:
        numbers = table["slice"].to_numpy(np.int64)
        steps = np.diff(numbers)
        if (steps == 0).any():
            twice = table["sample"][table["slice"].duplicated(keep=False)]
            raise DataError(
                f"{twice.iloc[0]} and {twice.iloc[1]} are the same slice of the same scan: which neighbours they have "
                "is not known. Remove one, or tell the scans apart by a session."
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
        """How many slices between the first and the last are asked for as a neighbour and not there."""
        wanted = self.numbers[:, None] + self.step * np.arange(-neighbours, neighbours + 1)
        inside = wanted[(wanted > self.numbers[0]) & (wanted < self.numbers[-1])]
        return len(np.setdiff1d(inside, self.numbers))

    def _row(self, place: int, neighbours: int) -> dict[str, Any]:
        kept = {str(name): value for name, value in self.table.iloc[place].items()}
        if not neighbours:
            return kept
        members = [
            member_of(self.table.iloc[self._nearest(place, offset)]) for offset in range(-neighbours, neighbours + 1)
        ]
        view = {"neighbours": neighbours, "slices": [member["digest"] for member in members]}
        return kept | {MEMBERS: members, VIEW: json.dumps(view), "digest": digest(view)}

    def _nearest(self, place: int, offset: int) -> int:
        """The slice at an offset, or the one that is nearest to it, on the side of the slice itself where two are."""
        away = np.abs(self.numbers - (self.numbers[place] + offset * self.step))
        nearest = np.flatnonzero(away == away.min())
        return int(nearest[np.abs(nearest - place).argmin()])


def _require_fractions(config: SliceConfig) -> None:
    if config.plane != "axial":
        raise DataError(
            f"Slices in files are shown as they were cut; data.slices.plane {config.plane} needs volumes. Leave it "
            "out, or convert the slices to volumes by `gyrus data convert --to nifti`."
        )
    if config.unit != "fraction":
        raise DataError("Slices in files do not say how many mm they are apart. Give data.slices.range in fractions.")


def _notes(scans: Sequence[_Scan], neighbours: int) -> tuple[str, ...]:
    notes = []
    with_gaps = [scan for scan in scans if scan.gaps(neighbours)]
    if with_gaps:
        missing = sum(scan.gaps(neighbours) for scan in with_gaps)
        notes.append(
            f"{missing} neighbouring slices are not there, in {len(with_gaps)} of {len(scans)} scans, the first with "
            f"{with_gaps[0].table['sample'].iloc[0]}; the nearest slice stands in for each"
        )
    single = [scan for scan in scans if len(scan.numbers) == 1]
    if single:
        notes.append(
            f"{len(single)} of {len(scans)} scans have one slice only, the first {single[0].table['sample'].iloc[0]}; "
            "it stands in for its neighbours"
        )
    return tuple(notes)
