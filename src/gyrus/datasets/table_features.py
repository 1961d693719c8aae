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
from pydantic import Field, field_validator, model_validator

from gyrus.configuration import Section
from gyrus.datasets.combat import ComBat
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


class HarmoniseConfig(Section):
    """Columns of numbers whose shift and scale between sites are removed; see :class:`ComBat`."""

    columns: tuple[str, ...] = Field(
        min_length=1, description="columns of data.table_columns with numbers that the site changes, such as volumes"
    )
    site: str = Field("site", description="column with the site or scanner")
    keep: tuple[str, ...] = Field(
        (), description="columns whose association with the others is kept, such as age and sex; never the class"
    )

    @field_validator("columns", "keep", mode="before")
    @classmethod
    def _one_column(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _each_once(self) -> HarmoniseConfig:
        names = [name.casefold().strip() for name in (*self.columns, self.site, *self.keep)]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"'{twice[0]}' is named twice in columns, site and keep; each has one role")
        return self


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
class Harmonisation(Saved):
    """ComBat on columns of a table, as fitted on the training subjects.

    Attributes:
        columns: The F columns, by their names in the training data.
        site: The column with the site.
        kept: The columns whose association with the features is kept.
        combat: Shift and scale of each site.
    """

    SCHEMA: ClassVar[str] = "gyrus.harmonisation/1"

    columns: tuple[str, ...]
    site: str
    kept: tuple[TableColumn, ...]
    combat: ComBat

    @classmethod
    def fit(cls, table: pd.DataFrame, config: HarmoniseConfig) -> Harmonisation:
        """Fit on the training subjects that lack none of the columns.

        Args:
            table: One row per training subject.
            config: The columns.

        Raises:
            ConfigError: There is no such column.
            DataError: A site is missing, a cell of a number is none, or ComBat cannot be fitted.
        """
        columns = tuple(find_column(table, name) for name in config.columns)
        kept = tuple(
            _fit_column(found, text_of_cells(table[found]), "auto")
            for found in (find_column(table, name) for name in config.keep)
        )
        values, sites = _cells_of(table, columns), _site_of(table, find_column(table, config.site))
        whole = np.asarray(np.isfinite(values).all(axis=1))
        covariates, names = _covariates(kept, table)
        combat = ComBat.fit(
            values[whole],
            [site for site, use in zip(sites, whole, strict=True) if use],
            covariates[whole],
            names=columns,
            covariate_names=names,
        )
        return cls(columns, find_column(table, config.site), kept, combat)

    def apply(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with harmonised columns; missing cells stay missing.

        Raises:
            DataError: A column or a site is missing, a site has no training subjects, or a cell of a number is none.
        """
        names = [_needed_column(table, name) for name in self.columns]
        values, sites, covariates = self.features(table)
        harmonised = self.combat.apply(np.nan_to_num(values), sites, covariates)
        harmonised = np.where(np.isfinite(values), harmonised, np.nan)
        return table.assign(**{name: harmonised[:, number] for number, name in enumerate(names)})

    def features(self, table: pd.DataFrame) -> tuple[Floats, list[str], Floats]:
        """The columns as they are (N, F), NaN where a cell is missing; the sites (N,); the kept features (N, P)."""
        names = [_needed_column(table, name) for name in self.columns]
        sites = _site_of(table, _needed_column(table, self.site))
        return _cells_of(table, names), sites, _covariates(self.kept, table)[0]

    @property
    def text(self) -> str:
        """What is harmonised, in words: "nWBV by site, keeping age"."""
        kept = f", keeping {listed([column.name for column in self.kept])}" if self.kept else ""
        return f"{listed(self.columns, 10)} by {self.site}{kept}"


@dataclass(frozen=True)
class TableEncoder(Saved):
    """From the columns of a table to features, as fitted on the training subjects.

    Attributes:
        columns: The columns in the order of the features.
        harmonisation: What is done to columns before; None: nothing.
    """

    SCHEMA: ClassVar[str] = "gyrus.table_encoder/1"

    columns: tuple[TableColumn, ...]
    harmonisation: Harmonisation | None = None

    @classmethod
    def fit(
        cls, table: pd.DataFrame, kinds: Mapping[str, ColumnKind], harmonise: HarmoniseConfig | None = None
    ) -> TableEncoder:
        """Fit the features of some columns.

        Args:
            table: One row per training subject.
            kinds: What each column holds, by name; upper and lower case do not matter.
            harmonise: Which of them are harmonised between sites before; None: none.

        Raises:
            ConfigError: There is no such column.
            DataError: A column has no value in the training set, or its cells are not what was stated.
        """
        columns = []
        harmonisation = Harmonisation.fit(table, harmonise) if harmonise else None
        table = harmonisation.apply(table) if harmonisation else table
        for name, kind in kinds.items():
            found = find_column(table, name)
            columns.append(_fit_column(found, text_of_cells(table[found]), kind))
        return cls(tuple(columns), harmonisation)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all F features."""
        return tuple(name for column in self.columns for name in column.features)

    @property
    def needed_columns(self) -> tuple[str, ...]:
        """The columns that a table must have, with those of the harmonisation."""
        how = self.harmonisation
        further = (how.site, *(column.name for column in how.kept)) if how else ()
        return tuple(dict.fromkeys((*(column.name for column in self.columns), *further)))

    @property
    def text(self) -> str:
        """The columns and what they hold, in one line."""
        harmonised = f"; harmonised: {self.harmonisation.text}" if self.harmonisation else ""
        return ", ".join(column.text for column in self.columns) + harmonised

    def encode(self, table: pd.DataFrame, *, unknown: Literal["missing", "error"] = "error") -> Floats:
        """The features of each row, (N, F).

        Args:
            table: Has all columns; cells may be missing.
            unknown: What happens to a category that no training subject has: it counts as missing, or is an error.

        Raises:
            DataError: A column is missing, a cell of a number is no number, a category is unknown, or columns are
                harmonised and a site is missing or has no training subjects.
        """
        table = self.harmonisation.apply(table) if self.harmonisation else table
        parts = [self._encode_column(table, column, unknown) for column in self.columns]
        return np.concatenate(parts, axis=1) if parts else np.empty((len(table), 0))

    def _encode_column(self, table: pd.DataFrame, column: TableColumn, unknown: str) -> Floats:
        cells = text_of_cells(table[_needed_column(table, column.name)])
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

    def missing(self, table: pd.DataFrame) -> dict[str, int]:
        """How many cells of each column are missing, for columns that lack some."""
        counts = {
            column.name: sum(cell is None for cell in text_of_cells(table[_needed_column(table, column.name)]))
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


def _needed_column(table: pd.DataFrame, name: str) -> str:
    """A column that a classifier needs, as :func:`find_column`.

    Raises:
        DataError: The table lacks it.
    """
    try:
        return find_column(table, name)
    except ConfigError as error:
        raise DataError(
            f"The classifier needs the column '{name}', which the table lacks. It has: "
            f"{listed(additional_columns(table)) or 'none'}. Add the column; cells may be empty."
        ) from error


def _covariates(columns: Sequence[TableColumn], table: pd.DataFrame) -> tuple[Floats, list[str]]:
    """Columns as features that do not depend on each other, (N, P), and their names."""
    parts, names = [np.empty((len(table), 0))], list[str]()
    for column in columns:
        skip = int(len(column.categories) > 2)  # the indicators of all categories add up to a constant
        parts.append(TableEncoder((column,)).encode(table, unknown="missing")[:, skip:])
        names += column.features[skip:]
    return np.concatenate(parts, axis=1), names


def _cells_of(table: pd.DataFrame, names: Sequence[str]) -> Floats:
    """Columns of numbers, (N, F); NaN where a cell is missing."""
    rows = _row_names(table)
    return np.column_stack([_numbers(name, text_of_cells(table[name]), rows) for name in names])


def _site_of(table: pd.DataFrame, name: str) -> list[str]:
    """The site of each row.

    Raises:
        DataError: A cell is missing.
    """
    sites, rows = text_of_cells(table[name]), _row_names(table)
    missing = [row for row, site in zip(rows, sites, strict=True) if site is None]
    if missing:
        raise DataError(
            f"The column '{name}' is empty in {counted(len(missing), 'row')}, first: {missing[0]}. Columns cannot be "
            "harmonised without the site. Fill the cells, or leave out these rows."
        )
    return [site for site in sites if site is not None]


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
