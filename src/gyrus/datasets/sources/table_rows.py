"""The row of a table that belongs to each sample: by id, and by visit where an id has several rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from gyrus.datasets.identifiers import DIFFERENCES, Match, examples, match_identifiers, spelling_note, unify_spellings
from gyrus.datasets.label_changes import LabelChanges, comparable_visit, visit_order
from gyrus.datasets.sources.table import text_cells
from gyrus.errors import DataError
from gyrus.text import counted


@dataclass(frozen=True)
class KeyedTable:
    """A table whose rows are looked up by an id, and by a visit.

    Attributes:
        table: Its columns.
        ids: The id of each row, with one spelling for each.
        visits: The visit of each row; None if the table has no column of visits.
        label: The column of labels, if any.
        where: The name of the table, for messages.
        notes: Ids that had several spellings.
    """

    table: pd.DataFrame
    ids: tuple[str, ...]
    visits: tuple[str | None, ...] | None
    label: str | None
    where: str
    notes: tuple[str, ...]

    @classmethod
    def from_table(
        cls, table: pd.DataFrame, ids: Sequence[str], *, visit: str | None, label: str | None, where: str
    ) -> KeyedTable:
        """Key a table by ids, one per row, and by its column of visits."""
        changed = unify_spellings(ids)
        return cls(
            table.reset_index(drop=True),
            tuple(changed.get(name, name) for name in ids),
            tuple(text_cells(table[visit])) if visit is not None else None,
            label,
            where,
            (spelling_note(changed, f"ids of {where}"),) if changed else (),
        )

    def match(self, ids: Sequence[str]) -> Match:
        """Find the ids of samples among those of the table."""
        return match_identifiers(ids, self.ids)

    def rows(
        self, ids: Sequence[str | None], visits: Sequence[str | None], label_changes: LabelChanges = "refuse"
    ) -> pd.DataFrame:
        """One row of the table for each sample; without values where the table has none.

        Where an id has several rows, the visit decides. If the visit of a sample is unknown, cells are kept that all
        rows of its id share; the label is that of the first or the last visit if ``label_changes`` asks for it.

        Args:
            ids: The id of each sample in the spelling of the table, or None.
            visits: Its visit, or None.
            label_changes: As in :class:`gyrus.datasets.sources.listing.ScanRequest`.

        Raises:
            DataError: The label of a sample is ambiguous, because its visit is unknown or the table has it twice.
        """
        places: dict[str, list[int]] = defaultdict(list)
        for place, own in enumerate(self.ids):
            places[own].append(place)
        shared: dict[str, int] = {}
        additional: list[pd.Series] = []
        chosen = []
        for name, visit in zip(ids, visits, strict=True):
            found = places.get(name, []) if name is not None else []
            if visit is not None and self.visits is not None and found:
                found = self._of_visit(found, str(name), visit)
            if len(found) > 1 and str(name) not in shared:
                shared[str(name)] = len(self.table) + len(additional)
                additional.append(self._shared_cells(found, str(name), label_changes))
            chosen.append(-1 if not found else found[0] if len(found) == 1 else shared[str(name)])
        extended = pd.concat([self.table, pd.DataFrame(additional)], ignore_index=True) if additional else self.table
        return extended.reindex(chosen).reset_index(drop=True)

    def _of_visit(self, places: Sequence[int], name: str, visit: str) -> list[int]:
        """The row of a visit; all rows of an id whose visits are not in the table."""
        assert self.visits is not None
        named = [place for place in places if self.visits[place] is not None]
        found = [place for place in named if comparable_visit(str(self.visits[place])) == comparable_visit(visit)]
        if len(found) > 1 and self._labels(found) > 1:
            raise DataError(f"{self.where} has visit '{visit}' of '{name}' twice, with different labels. Remove one.")
        return found[:1] if named else list(places)

    def _labels(self, places: Sequence[int]) -> int:
        return len(set(text_cells(self.table[self.label].iloc[list(places)])) - {None}) if self.label else 0

    def _shared_cells(self, places: Sequence[int], name: str, label_changes: LabelChanges) -> pd.Series:
        """The cells that several rows of an id share."""
        group = self.table.iloc[list(places)]
        row = group.iloc[0].copy()
        row[group.nunique(dropna=False) > 1] = None
        if self.label is None or self._labels(places) <= 1:
            if self.label is not None:
                row[self.label] = next((cell for cell in text_cells(group[self.label]) if cell is not None), None)
            return row
        if label_changes not in ("baseline", "last") or self.visits is None:
            raise DataError(
                f"{self.where} has {counted(len(places), 'row')} of '{name}' with different labels, and the visit "
                "of an image is "
                "unknown. Name the visits in the files and in the table (session), or use the label of one visit with "
                "--label-changes baseline or last."
            )
        ordered = sorted(
            (place for place in places if self.visits[place] is not None),
            key=lambda place: visit_order(str(self.visits[place])),  # type: ignore[index]
        )
        if ordered:
            row[self.label] = self.table[self.label].iloc[ordered[0 if label_changes == "baseline" else -1]]
        return row


def match_note(match: Match, what: str, where: str) -> list[str]:
    """Notes on how ids were found: with another spelling, or not at all.

    Args:
        match: From :meth:`KeyedTable.match`.
        what: What was looked up, in the plural.
        where: The name of the table.
    """
    notes = []
    otherwise: Mapping[str, str] = match.spelled_otherwise
    if otherwise:
        one, other = next(iter(otherwise.items()))
        notes.append(
            f"{len(otherwise)} of {len(match.found)} {what} were found in {where} although their ids differ in "
            f"{DIFFERENCES}: '{one}' is '{other}' there"
        )
    if match.missing:
        unused = f"; rows of it that were not used: {examples(match.unused)}" if match.unused else ""
        notes.append(f"{what} that are not in {where} ({len(match.missing)}): {examples(match.missing)}{unused}")
    return notes


def require_match(match: Match, what: str, where: str, advice: str) -> None:
    """Refuse a join in which nothing was found; the message shows ids of both sides.

    Raises:
        DataError: No id was found.
    """
    if not match.found:
        raise DataError(
            f"No id of {where} is that of {what}. Ids there: {examples(match.unused)}; {what}: "
            f"{examples(match.missing)}. {advice}"
        )
