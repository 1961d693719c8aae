"""Visits of a subject: their time, and which of them are used."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Any, Literal

from gyrus.datasets.label_changes import FIRST_VISITS, comparable_visit, visit_order
from gyrus.errors import DataError
from gyrus.text import counted

if TYPE_CHECKING:
    import pandas as pd

Visits = Literal["each", "first", "last", "stable"]
"""Which visits of a subject are used: all of them, each with its own label; the first; the last; or all visits of the
subjects whose label never changes."""

TIME_COLUMNS = {
    "months": ("months", "month", "visit_month", "months_from_baseline", "months_since_baseline"),
    "days": ("days", "days_from_baseline", "days_since_baseline"),
    "years": ("years", "years_from_baseline", "years_since_baseline"),
    "date": ("date", "visit_date", "exam_date", "examdate", "scan_date", "session_date", "acq_time", "acq_date"),
}
"""Names by which a column with the time of visits is recognised, in any case, by its unit."""

_DAYS_PER_MONTH = 365.25 / 12
_VISIT = re.compile(r"(?P<unit>m|month|months|y|year|years|d|day|days)[ _-]?0*(?P<number>\d+)|0*(?P<plain>\d+)m")
_DATE = re.compile(r"(?P<year>(?:19|20)\d\d)-?(?P<month>\d\d)-?(?P<day>\d\d)(?:T.*)?")
_PER_MONTH = {"m": 1.0, "y": 12.0, "d": 1 / _DAYS_PER_MONTH}


def select_visits(rows: pd.DataFrame, visits: Visits) -> tuple[pd.DataFrame, list[str]]:
    """The images of the visits that are used, and notes.

    Args:
        rows: Columns subject and session, and further columns, of which one may have the time of the visits.
        visits: Which are used. With "each" and "stable" all rows stay; labels are settled afterwards.

    Raises:
        DataError: The order of visits is needed and unknown.
    """
    if visits not in ("first", "last"):
        return rows, []
    time = time_column(rows, None)
    out: list[Any] = []
    several = 0
    for subject, group in rows.groupby("subject", dropna=False, sort=True):
        sessions = group["session"]
        if sessions.nunique(dropna=False) < 2:
            continue
        if sessions.isna().any():
            raise DataError(
                f"The visit of an image of '{subject}' is unknown, so the {visits} visit cannot be found "
                "(data.visits). Name the visits in the files or in a column session."
            )
        several += 1
        times = {} if time is None else _times(group, time)
        # Names of visits decide where a time is missing.
        known = len(times) == sessions.nunique()
        ordered = sorted(sessions.unique(), key=(lambda one, times=times: times[one]) if known else visit_order)
        chosen = ordered[0 if visits == "first" else -1]
        out += group.index[sessions != chosen].tolist()
    if not several:
        return rows, [f"no subject has several visits, so data.visits={visits} changes nothing"]
    return rows.drop(index=out), [
        f"{counted(several, 'subject has', 'subjects have')} several visits; the {visits} one is used, and "
        f"{counted(len(out), 'image')} of other visits left out (data.visits={visits})"
    ]


def _times(group: pd.DataFrame, time: tuple[str, str]) -> dict[str, float]:
    """The time of each visit of a subject, in months; without visits whose time is unknown."""
    pairs = zip(group["session"], group[time[0]], strict=True)
    return {str(session): months for session, cell in pairs if (months := months_at(cell, time[1])) is not None}


def time_column(table: pd.DataFrame, named: str | None) -> tuple[str, str] | None:
    """The column of the times of visits, and its unit, a key of :data:`TIME_COLUMNS`; None if there is none.

    Args:
        table: Rows of visits.
        named: The column, if the user names it.

    Raises:
        DataError: The named column does not exist.
    """
    lowered = {str(name).lower(): str(name) for name in reversed(list(table.columns))}
    if named is not None:
        if named not in table:
            raise DataError(
                f"The table of visits has no column '{named}' (data.conversion.time). Columns: "
                f"{', '.join(map(str, table.columns))}."
            )
        name = named.lower()
        units = [unit for unit, names in TIME_COLUMNS.items() if name in names or unit.rstrip("s") in name]
        return named, units[0] if units else "years" if "age" in name else "months"
    for unit, names in TIME_COLUMNS.items():
        for name in names:
            if name in lowered and table[lowered[name]].notna().any():
                return lowered[name], unit
    return None


def months_of_visit(session: str | None) -> float | None:
    """The months that the name of a visit stands for; None if it has none.

    Example:
        >>> [months_of_visit(name) for name in ("bl", "M06", "ses-M012", "year2", "2021-03-01", "v3")][:4]
        [0.0, 6.0, 12.0, 24.0]
    """
    if session is None:
        return None
    form = comparable_visit(session)
    if any(form in names for names in FIRST_VISITS):
        return 0.0
    if match := _VISIT.fullmatch(form):
        unit, number = (match["unit"] or "m")[0], match["number"] or match["plain"]
        return int(number) * _PER_MONTH[unit]
    return months_at(session.removeprefix("ses-"), "date")


def months_at(cell: object, unit: str) -> float | None:
    """The months of a cell of a column of times, from any origin; None if it has none.

    Args:
        cell: The cell.
        unit: A key of :data:`TIME_COLUMNS`.
    """
    text = text_of(cell)
    if text is None:
        return None
    if unit == "date":
        match = _DATE.fullmatch(text)
        try:
            day = date(*(int(match[part]) for part in ("year", "month", "day"))) if match else None
        except ValueError:
            day = None
        return None if day is None else day.toordinal() / _DAYS_PER_MONTH
    try:
        return float(text.replace(",", ".")) * _PER_MONTH[unit[0]]
    except ValueError:
        return None


def text_of(cell: Any) -> str | None:
    """A cell as text; None if it is empty."""
    import pandas as pd

    text = "" if pd.isna(cell) else str(cell).strip()
    return None if text.lower() in ("", "n/a", "nan") else text
