"""Who converts within some months: a target made from the table of visits, on the images of the baseline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import AliasChoices, Field, field_validator

from gyrus.configuration import Section
from gyrus.datasets.identifiers import comparable_label, examples, match_identifiers
from gyrus.datasets.label_changes import comparable_visit
from gyrus.datasets.visits import months_at, months_of_visit, text_of, time_column
from gyrus.errors import DataError
from gyrus.text import counted

if TYPE_CHECKING:
    import pandas as pd

STABLE, CONVERTER = "stable", "converter"
"""The classes, in order."""


class ConversionConfig(Section):
    """Who converts from one diagnosis to another within some months, seen from the image of the baseline."""

    start: tuple[str, ...] = Field(
        validation_alias=AliasChoices("start", "from"), description="label at baseline, one or several (also: from)"
    )
    end: tuple[str, ...] = Field(
        validation_alias=AliasChoices("end", "to"), description="label after conversion, one or several (also: to)"
    )
    months: int = Field(ge=1, description="months from the baseline within which a subject converts")
    table: str | None = Field(
        None, description="table of all visits, with subject, visit or time, and label; null: as the data have it"
    )
    time: str | None = Field(
        None, description="column with the time of visits: months, days, years or dates by its name; null: recognised"
    )

    @field_validator("start", "end", mode="before")
    @classmethod
    def _one_label(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @property
    def text(self) -> str:
        """What is predicted, in words."""
        return f"conversion from {' or '.join(self.start)} to {' or '.join(self.end)} within {self.months} months"


@dataclass(frozen=True)
class _Visit:
    """A visit of a subject: its time in months from any origin, and its label."""

    months: float
    label: str | None
    session: str | None


def conversion_targets(
    rows: pd.DataFrame, visits: pd.DataFrame | None, config: ConversionConfig
) -> tuple[pd.DataFrame, list[str]]:
    """The images of the baseline of each subject, with the class whether the subject converts.

    The baseline is the first visit with the first label that has an image. A subject is a converter if a later visit
    has the other label, at most ``months`` after the baseline (rounded to whole months). A subject is stable if a visit
    at least ``months`` after the baseline has a label, and neither it nor an earlier one has the other. Others are
    censored: nobody knows whether they would have converted, so they are left out.

    Args:
        rows: One row per image, with subject, session and label, and further columns.
        visits: All visits, also without images, with the columns subject, session, label; None: those of ``rows``.
        config: What is predicted.

    Returns:
        The rows that stay, with ``label`` one of :data:`STABLE` and :data:`CONVERTER`, and notes.

    Raises:
        DataError: Subjects or times are unknown, a label does not occur, or nobody or everybody converts.
    """
    if rows["subject"].isna().any():
        raise DataError(f"The {config.text} needs subjects. Name them with --subject-pattern, or in a table.")
    table = rows if visits is None else visits
    _require_labels(table["label"].dropna(), config)
    time = time_column(table, config.time)
    of_subject = _visits_of(table, time)
    names = match_identifiers(rows["subject"].unique().tolist(), list(of_subject)).found
    start, end = ({comparable_label(label) for label in labels} for labels in (config.start, config.end))
    outcomes: Counter[str] = Counter()
    chosen: dict[Any, str] = {}
    for subject, group in rows.groupby("subject", sort=True):
        own = of_subject.get(names.get(str(subject), ""), [])
        outcome, session = _outcome(own, _sessions_of(group), start, end, config.months)
        outcomes[outcome] += 1
        if outcome in (STABLE, CONVERTER):
            at_baseline = group.index if session is None else group.index[_same_visit(group["session"], session)]
            chosen |= dict.fromkeys(at_baseline, outcome)
    if not outcomes[STABLE] or not outcomes[CONVERTER]:
        raise DataError(
            f"The {config.text} has {counted(outcomes[CONVERTER], 'converter')} and {outcomes[STABLE]} stable among "
            f"{counted(sum(outcomes.values()), 'subject')} ({outcomes[_CENSORED]} censored, {outcomes[_NOT_AT_RISK]} "
            f"without {' or '.join(config.start)} at a visit with an image). A classifier needs both; check the labels "
            "and the months (data.conversion)."
        )
    stay = rows.loc[list(chosen)].assign(label=list(chosen.values())).sort_index()
    note = (
        f"{config.text}: {counted(outcomes[CONVERTER], 'converter')}, {outcomes[STABLE]} stable; left out: "
        f"{outcomes[_CENSORED]} censored (followed for less than {config.months} months), {outcomes[_NOT_AT_RISK]} "
        f"without {' or '.join(config.start)} at a visit with an image; times by {_source(time)} (data.conversion)"
    )
    return stay, [note]


_CENSORED, _NOT_AT_RISK = "censored", "not at risk"


def visits_of_table(table: pd.DataFrame, found: Mapping[str, str], where: str) -> pd.DataFrame:
    """A table of visits with the columns subject, session and label beside its own.

    Args:
        table: The table.
        found: The column of each role.
        where: Its name, for messages.

    Raises:
        DataError: It has no column of subjects or labels.
    """
    missing = [role for role in ("subject", "label") if role not in found]
    if missing:
        raise DataError(
            f"{where} has no column of the {' and the '.join(missing)}. Columns: {', '.join(table.columns)}."
        )
    roles = {role: table[found[role]] for role in ("subject", "session", "label") if role in found}
    others = table.drop(columns=[name for name in roles if name in table.columns])
    return others.assign(**{"session": None, **roles})


def _require_labels(labels: pd.Series, config: ConversionConfig) -> None:
    there = {comparable_label(str(label)) for label in labels}
    absent = [label for label in (*config.start, *config.end) if comparable_label(label) not in there]
    if absent:
        present = examples(sorted(map(str, set(labels))))
        raise DataError(f"No visit has the label '{absent[0]}' (data.conversion). Labels: {present}.")


def _source(time: tuple[str, str] | None) -> str:
    return "the names of visits" if time is None else f"the column {time[0]} ({time[1]})"


def _visits_of(table: pd.DataFrame, time: tuple[str, str] | None) -> dict[str, list[_Visit]]:
    """The visits of each subject in order of time; rows of one visit count once."""
    found: dict[str, dict[tuple[float, str | None], _Visit]] = {}
    unknown: list[str] = []
    cells = [None] * len(table) if time is None else table[time[0]].tolist()
    for subject, session, label, cell in zip(table["subject"], table["session"], table["label"], cells, strict=True):
        name, visit = text_of(subject), text_of(session)
        if name is None:
            continue
        months = months_of_visit(visit) if time is None else months_at(cell, time[1])
        if months is None:
            unknown.append(visit or name)
            continue
        one = _Visit(months, text_of(label), visit)
        found.setdefault(name, {})[months, one.label] = one
    if unknown:
        named = examples(dict.fromkeys(unknown))
        raise DataError(
            f"The time of {counted(len(unknown), 'visit')} is unknown, first: {named}. Name visits by "
            "months (bl, M06, ses-M012), or give a column with months or dates as YYYY-MM-DD (data.conversion.time)."
        )
    return {name: sorted(visits.values(), key=lambda one: one.months) for name, visits in found.items()}


def _sessions_of(group: pd.DataFrame) -> set[str] | None:
    """The visits with an image; None if the images have no visits."""
    sessions = group["session"].dropna()
    return {comparable_visit(str(session)) for session in sessions} if len(sessions) else None


def _same_visit(sessions: pd.Series, session: str) -> list[bool]:
    form = comparable_visit(session)
    return [text_of(one) is not None and comparable_visit(str(one)) == form for one in sessions]


def _outcome(
    visits: Sequence[_Visit], with_image: set[str] | None, start: set[str], end: set[str], months: int
) -> tuple[str, str | None]:
    """What becomes of a subject, and the visit of the baseline."""

    def has(visit: _Visit, labels: Iterable[str]) -> bool:
        return visit.label is not None and comparable_label(visit.label) in labels

    for number, baseline in enumerate(visits):
        if has(baseline, end):
            break  # converted before a baseline with an image
        seen = with_image is None or (baseline.session is not None and comparable_visit(baseline.session) in with_image)
        if not (has(baseline, start) and seen):
            continue
        later = [(round(one.months - baseline.months), one) for one in visits[number + 1 :] if one.label is not None]
        session = None if with_image is None else baseline.session
        if any(has(one, end) and after <= months for after, one in later):
            return CONVERTER, session
        ends = [number for number, (_, one) in enumerate(later) if has(one, end)]
        if any(after >= months for after, _ in later[: ends[0] if ends else None]):
            return STABLE, session
        return _CENSORED, session
    return _NOT_AT_RISK, None
