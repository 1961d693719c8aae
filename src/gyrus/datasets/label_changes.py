"""Subjects with images of several classes: a mistake, or a diagnosis that changes between visits."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from gyrus.datasets.identifiers import comparable, examples
from gyrus.datasets.manifest import Problem
from gyrus.errors import DataError
from gyrus.text import counted

if TYPE_CHECKING:
    import pandas as pd

LabelChanges = Literal["refuse", "baseline", "last", "each", "exclude"]
"""What happens to a subject whose label differs between visits: its images are reported as problems; all of them get
the label of the first or the last visit; each visit keeps its label; or the subject is left out."""

FIRST_VISITS = (("sc", "scr", "screening", "scmri"), ("bl", "baseline", "base"))
"""Names of visits that come before numbered ones, in order."""

_AMBIGUOUS_DATE = re.compile(r"\d{1,2}([./-])\d{1,2}\1\d{2,4}")
"""Day and month first: which of them is which is unknown, and the text does not sort by time."""

_WAY_OUT = "if the diagnosis changes between visits, choose its label with --label-changes"


def comparable_visit(session: str) -> str:
    """The form in which visits are compared; the prefix of BIDS does not count."""
    return comparable(session).removeprefix("ses-")


def visit_order(session: str) -> tuple[object, ...]:
    """A key that sorts visits in their order: screening, baseline, then by the numbers in the names.

    Raises:
        DataError: The visit is a date whose order is ambiguous.
    """
    form = comparable_visit(session)
    if _AMBIGUOUS_DATE.fullmatch(form):
        raise DataError(
            f"The order of visits is unknown: '{session}' is a date that does not begin with the year. Write the dates "
            "as 2020-12-31, or number the visits."
        )
    first = next((number for number, names in enumerate(FIRST_VISITS) if form in names), len(FIRST_VISITS))
    parts = [part for part in re.split(r"(\d+)", form) if part]
    return first, [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


def settle_labels(
    rows: pd.DataFrame, policy: LabelChanges, who: str, by: str
) -> tuple[pd.DataFrame, list[Problem], list[str]]:
    """Give the images of each subject one label, or refuse them.

    Args:
        rows: Columns sample, label, subject and session.
        policy: What happens to a subject whose label differs between visits.
        who: "subject" or "scan".
        by: How subjects were identified, for messages.

    Returns:
        The rows that stay, problems of the others, and notes.

    Raises:
        DataError: The order of visits is needed and ambiguous.
    """
    labels = rows["label"].copy()
    problems: list[Problem] = []
    changing: list[str] = []
    known = rows[rows["subject"].notna() & labels.notna()]
    mixed = known.groupby("subject")["label"].nunique()
    for subject in mixed.index[mixed > 1]:
        group = known[known["subject"] == subject]
        reason = _conflict(group, policy)
        if reason is not None:
            counts = group["label"].value_counts().sort_index()
            found = " and ".join(f"{count} x '{label}'" for label, count in counts.items())
            message = f"{who} '{subject}' (by {by}) has {found}; {reason}"
            problems += [Problem(sample, "two labels", message) for sample in group["sample"]]
            continue
        changing.append(str(subject))
        if policy in ("baseline", "last"):
            visits = sorted(group["session"].unique(), key=visit_order)
            chosen = visits[0 if policy == "baseline" else -1]
            labels[group.index] = group["label"][group["session"] == chosen].iloc[0]
    out = {problem.sample for problem in problems}
    left_out = rows["subject"].isin(changing if policy == "exclude" else [])
    stay = rows.assign(label=labels)[~rows["sample"].isin(out) & ~left_out]
    return stay, problems, _notes(changing, policy, int(left_out.sum()))


def _conflict(group: pd.DataFrame, policy: LabelChanges) -> str | None:
    """Why the labels of a subject cannot be settled; None if they can."""
    sessions = group["session"]
    if sessions.isna().any():
        return "only one can be correct, because its visits are unknown (a column session)"
    if (group.groupby("session")["label"].nunique() > 1).any():
        return "only one can be correct, because one visit has both"
    if policy == "refuse":
        return f"only one can be correct; {_WAY_OUT} baseline, last, each or exclude, or its visits with --visits"
    return None


def _notes(changing: Sequence[str], policy: LabelChanges, left_out: int) -> list[str]:
    if not changing:
        return []
    consequence = {
        "refuse": "",
        "baseline": "all images of a subject have the label of the first visit",
        "last": "all images of a subject have the label of the last visit",
        "each": "each visit keeps its label, and scores are by visit; their intervals resample subjects, each with all "
        "its visits",
        "exclude": f"these subjects and their {counted(left_out, 'image')} were left out",
    }[policy]
    return [
        f"the label of {counted(len(changing), 'subject')} changes between visits: {examples(changing)}; "
        f"{consequence} (data.label_changes={policy})"
    ]
