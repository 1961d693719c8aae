"""Columns of a clinical table as features: numbers are standardised, categories become indicators.

Everything is fitted on the training subjects, each counted once. A missing cell gets the mean of the training subjects:
of a category, their fractions. So a row of missing cells is the average training subject.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from gyrus.datasets.identifiers import comparable
from gyrus.datasets.manifest import COLUMNS
from gyrus.errors import ConfigError, DataError
from gyrus.registry import nearest
from gyrus.serialisation import Saved
from gyrus.text import counted, listed

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

ColumnKind = Literal["auto", "number", "category"]
"""What a column holds; "auto": numbers if all its cells are numbers and its name is none of :data:`CATEGORY_NAMES`."""

CATEGORY_NAMES = (
    "sex",
    "gender",
    "m/f",
    "site",
    "centre",
    "center",
    "scanner",
    "manufacturer",
    "hand",
    "race",
    "group",
)
"""Columns, in any case, whose numbers are codes of categories."""

MOST_CATEGORIES = 30
"""With more categories than this, a column probably holds ids or numbers with text among them."""

_MISSING = ("", "n/a", "na", "nan", "none", "null")


@dataclass(frozen=True)
class TableColumn:
    """A column of a table and how it becomes features.

    Attributes:
        name: Its name in the data.
        kind: "number" gives one feature. "category" gives one feature for each category, of two only one.
        mean: Of the training subjects; of a category the fraction of each.
        scale: The standard deviation of the numbers; 1 for categories, and for a constant.
        categories: In order; empty for numbers.
    """

    name: str
    kind: Literal["number", "category"]
    mean: tuple[float, ...]
    scale: float = 1.0
    categories: tuple[str, ...] = ()

    @property
    def features(self) -> tuple[str, ...]:
        """Names of its features."""
        if self.kind == "number":
            return (self.name,)
        shown = self.categories[1:] if len(self.categories) == 2 else self.categories
        return tuple(f"{self.name}={category}" for category in shown)

    @property
    def text(self) -> str:
        """Its name and what it holds: "age (number)", "sex (category: F, M)"."""
        return f"{self.name} ({self.kind}{': ' + listed(self.categories) if self.categories else ''})"


@dataclass(frozen=True)
class TableEncoder(Saved):
    """From the columns of a table to features, as fitted on the training subjects.

    Attributes:
        columns: The columns in the order of the features.
    """

    SCHEMA: ClassVar[str] = "gyrus.table_encoder/1"

    columns: tuple[TableColumn, ...]

    @classmethod
    def fit(cls, table: pd.DataFrame, kinds: Mapping[str, ColumnKind]) -> TableEncoder:
        """Fit the features of some columns.

        Args:
            table: One row per training subject.
            kinds: What each column holds, by name; upper and lower case do not matter.

        Raises:
            ConfigError: There is no such column.
            DataError: A column has no value in the training set, or its cells are not what was stated.
        """
        columns = []
        for name, kind in kinds.items():
            found = find_column(table, name)
            columns.append(_fit_column(found, text_of_cells(table[found]), kind))
        return cls(tuple(columns))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all F features."""
        return tuple(name for column in self.columns for name in column.features)

    @property
    def text(self) -> str:
        """The columns and what they hold, in one line."""
        return ", ".join(column.text for column in self.columns)

    def encode(self, table: pd.DataFrame, *, unknown: Literal["missing", "error"] = "error") -> Floats:
        """The features of each row, (N, F).

        Args:
            table: Has all columns; cells may be missing.
            unknown: What happens to a category that no training subject has: it counts as missing, or is an error.

        Raises:
            DataError: A column is missing, a cell of a number is no number, or a category is unknown.
        """
        parts = [self._encode_column(table, column, unknown) for column in self.columns]
        return np.concatenate(parts, axis=1) if parts else np.empty((len(table), 0))

    def _encode_column(self, table: pd.DataFrame, column: TableColumn, unknown: str) -> Floats:
        cells = text_of_cells(table[self._find(table, column)])
        names = _row_names(table)
        if column.kind == "number":
            values = _numbers(column.name, cells, names)
            filled = np.where(np.isnan(values), column.mean[0], values)
            return ((filled - column.mean[0]) / column.scale)[:, None]
        position = {comparable(category): number for number, category in enumerate(column.categories)}
        codes = [None if cell is None else position.get(comparable(cell), -1) for cell in cells]
        strangers = [number for number, code in enumerate(codes) if code == -1]
        if strangers and unknown == "error":
            first = strangers[0]
            raise DataError(
                f"{counted(len(strangers), 'row has', 'rows have')} a value of '{column.name}' that no training "
                f"subject has; the first is '{cells[first]}' ({names[first]}). Known: {listed(column.categories)}. "
                "Correct the cell, or leave it empty if the value is unknown."
            )
        rows = np.array(
            [
                column.mean if code is None or code < 0 else np.eye(len(column.categories))[code]
                for code in codes
            ]
        ).reshape(len(codes), len(column.categories))  # fmt: skip
        centred = rows - np.asarray(column.mean)
        return centred[:, 1:] if len(column.categories) == 2 else centred

    def _find(self, table: pd.DataFrame, column: TableColumn) -> str:
        try:
            return find_column(table, column.name)
        except ConfigError as error:
            raise DataError(
                f"The classifier needs the column '{column.name}', which the table lacks. It has: "
                f"{listed(additional_columns(table)) or 'none'}. Add the column; cells may be empty."
            ) from error

    def missing(self, table: pd.DataFrame) -> dict[str, int]:
        """How many cells of each column are missing, for columns that lack some."""
        counts = {
            column.name: sum(cell is None for cell in text_of_cells(table[self._find(table, column)]))
            for column in self.columns
        }
        return {name: count for name, count in counts.items() if count}


def column_kinds(words: Iterable[str]) -> dict[str, ColumnKind]:
    """Columns and what they hold, from words such as "age" and "site:category"; "auto" where it is not stated."""
    kinds: dict[str, ColumnKind] = {}
    for word in words:
        name, colon, kind = word.strip().rpartition(":")
        stated = name and colon and kind in get_args(ColumnKind)
        kinds[name if stated else word.strip()] = cast("ColumnKind", kind) if stated else "auto"
    return kinds


def additional_columns(table: pd.DataFrame) -> list[str]:
    """The columns of a manifest that describe subjects: those without a meaning of their own in Gyrus."""
    return [str(name) for name in table.columns if name not in COLUMNS]


def find_column(table: pd.DataFrame, name: str) -> str:
    """The additional column of that name; upper and lower case do not matter.

    Raises:
        ConfigError: There is none; the message has the nearest name.
    """
    known = additional_columns(table)
    if name in known:
        return name
    same = [column for column in known if column.casefold().strip() == name.casefold().strip()]
    if len(same) == 1:
        return same[0]
    suggestion = nearest(name, known)
    hint = f" Did you mean '{suggestion}'?" if suggestion else ""
    raise ConfigError(f"The data have no column '{name}'.{hint} Columns: {listed(known) or 'none'}.")


def changed_columns(before: pd.DataFrame, now: pd.DataFrame, names: Iterable[str]) -> dict[str, list[str]]:
    """The samples whose cells have changed, for each column that has changed.

    The digest of a manifest does not cover additional columns, because most of them determine no classifier.

    Args:
        before: The table of a manifest.
        now: That of another manifest of the same samples.
        names: The columns to compare.

    Raises:
        ConfigError: A table lacks a column.
    """
    found = {}
    for name in names:
        earlier, later = (
            dict(zip(table["sample"], text_of_cells(table[find_column(table, name)]), strict=True))
            for table in (before, now)
        )
        changed = [str(sample) for sample, cell in later.items() if earlier.get(sample) != cell]
        if changed:
            found[name] = changed
    return found


def require_same_columns(before: pd.DataFrame, now: pd.DataFrame, names: Iterable[str], started: str) -> None:
    """Refuse columns whose cells are not those that something was started with.

    Args:
        before: The table of the manifest that it was started with.
        now: That of the same data, read again.
        names: The columns that it uses.
        started: What was started.

    Raises:
        DataError: Cells have changed.
    """
    changed = changed_columns(before, now, names)
    if changed:
        (name, samples), columns = next(iter(changed.items())), listed(list(changed))
        raise DataError(
            f"The table has changed since {started} was started: "
            f"{counted(len(changed), 'column differs', 'columns differ')}: {columns}. "
            f"'{name}' differs in {counted(len(samples), 'sample')}, first {samples[0]}. "
            "Restore the table, or start anew in a new folder."
        )


def text_of_cells(cells: pd.Series) -> list[str | None]:
    """Cells as text; None where they are missing. Whole numbers have no decimals."""
    words: list[str | None] = []
    for cell in cells.astype(object).where(cells.notna(), None):
        if cell is None:
            words.append(None)
            continue
        word = str(cell).strip()
        if isinstance(cell, float) and cell.is_integer():
            word = str(int(cell))
        words.append(None if word.lower() in _MISSING else word)
    return words


def first_of_each(table: pd.DataFrame, units: Sequence[object]) -> pd.DataFrame:
    """One row for each unit, such as a subject: in each column its first cell that is not missing.

    Args:
        table: N rows.
        units: The unit of each row, (N,).

    Returns:
        One row per unit, indexed and sorted by its name.
    """
    import pandas as pd

    return table.groupby(pd.Series(list(units), index=table.index, name="unit"), sort=True).first()


def _fit_column(name: str, cells: Sequence[str | None], kind: ColumnKind) -> TableColumn:
    present = [cell for cell in cells if cell is not None]
    if not present:
        raise DataError(f"The column '{name}' is empty in the training set. Leave it out of data.table_columns.")
    if kind == "auto":
        kind = _recognise(name, present)
    if kind == "number":
        values = _numbers(name, present, present)
        # Of all training subjects, after missing cells have been filled with the mean, as scikit-learn's pipelines do.
        spread = float(values.std() * np.sqrt(len(present) / len(cells)))
        return TableColumn(name, "number", (float(values.mean()),), spread if spread > 0 else 1.0)
    spellings: dict[str, str] = {}
    for cell in present:
        spellings.setdefault(comparable(cell), cell)
    categories = tuple(sorted(spellings.values()))
    if len(categories) > MOST_CATEGORIES:
        raise DataError(
            f"The column '{name}' has {len(categories)} different values in the training set, such as "
            f"{listed(categories[:3])}; as categories at most {MOST_CATEGORIES} are supported. If it holds numbers, "
            "correct the cells that are none; if it holds ids, leave it out."
        )
    counts = [sum(comparable(cell) == comparable(category) for cell in present) for category in categories]
    return TableColumn(name, "category", tuple(count / len(present) for count in counts), 1.0, categories)


def _recognise(name: str, present: Sequence[str]) -> Literal["number", "category"]:
    if name.casefold().strip() in CATEGORY_NAMES:
        return "category"
    bad = [cell for cell in present if _number(cell) is None]
    if not bad:
        return "number"
    if len(bad) <= len(present) / 2:
        raise DataError(
            f"The column '{name}' holds numbers, but {counted(len(bad), 'cell')} of the training set "
            f"{'is' if len(bad) == 1 else 'are'} none, first: '{bad[0]}'. Correct or empty them, or state that it "
            f"holds categories: data.table_columns={{{name}: category}}."
        )
    return "category"


def _numbers(name: str, cells: Sequence[str | None], rows: Sequence[object]) -> Floats:
    values = [np.nan if cell is None else _number(cell) for cell in cells]
    bad = [number for number, value in enumerate(values) if value is None]
    if bad:
        raise DataError(
            f"The column '{name}' must hold numbers, but {counted(len(bad), 'cell')} "
            f"{'does' if len(bad) == 1 else 'do'} not; the first is '{cells[bad[0]]}' ({rows[bad[0]]}). Correct the "
            "cell, or leave it empty if the value is unknown."
        )
    return np.array(values, dtype=np.float64)


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _row_names(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table.get("sample", table.index)]
