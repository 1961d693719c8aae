"""The page of a measured data set: the volumes of each session beside its picture, and what failed."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from gyrus.datasets.text_tables import write_csv
from gyrus.files import make_folder
from gyrus.reporting.html import write_page
from gyrus.text import counted

UNUSUAL = 3.5
"""A volume is unusual if it lies this many robust standard deviations from the median."""

FEWEST = 10
"""Sessions from which on unusual volumes are marked."""

_WIDTH = 1000
"""Width of a picture in the page, pixels."""

_MOST_PICTURES = 300
"""Pictures in the page, at most: the first ones after those of unusual sessions."""

COLUMNS: Mapping[str, str] = {
    "intracranial_ml": "intracranial, mL",
    "brain_ml": "brain, mL",
    "gray_matter_fraction": "gray matter",
    "white_matter_fraction": "white matter",
    "csf_fraction": "fluid",
    "ventricles_ml": "ventricles, mL",
    "hippocampal_ml": "hippocampal, mL",
}
"""Columns of the page, and their titles; sides are added."""


class Session(Protocol):
    """What the page shows of a session."""

    @property
    def name(self) -> str:
        """Its name, and that of its picture."""

    @property
    def features(self) -> Mapping[str, float]:
        """Its features by name; empty after a failure."""

    @property
    def reason(self) -> str:
        """Why it failed; empty otherwise."""


@dataclass(frozen=True, eq=False)
class FeatureRow:
    """One session in the page.

    Attributes:
        name: Its name.
        cells: Its values as text, in the order of the columns.
        unusual: Titles of the values that are unusual.
        picture: Its picture as a data URL; empty if it is left out.
    """

    name: str
    cells: tuple[str, ...]
    unusual: tuple[str, ...]
    picture: str


@dataclass(frozen=True, eq=False)
class FeaturesPage:
    """The content of the page.

    Attributes:
        title: Its title.
        summary: How many sessions were measured, and how.
        columns: Titles of the values.
        rows: The sessions, unusual ones first.
        failures: Name and reason of the others.
    """

    title: str
    summary: tuple[str, ...]
    columns: tuple[str, ...]
    rows: tuple[FeatureRow, ...]
    failures: tuple[tuple[str, str], ...]


def write_features_page(folder: Path, title: str, sessions: Sequence[Session], *, whole: bool) -> Path:
    """Write ``index.html``, and ``failures.csv`` with the sessions that could not be measured.

    Args:
        folder: The folder; it has the pictures of the sessions in ``pictures``.
        title: The name of the data.
        sessions: What was measured.
        whole: Whether the data are whole heads, and not slices.
    """
    import pandas as pd

    make_folder(folder)
    failures = tuple((session.name, session.reason) for session in sessions if session.reason)
    write_csv(pd.DataFrame(failures, columns=["session", "reason"]), folder / "failures.csv")
    measured = [session for session in sessions if not session.reason]
    values = {name: shown for name in COLUMNS if (shown := [_value(each.features, name) for each in measured])}
    values = {name: shown for name, shown in values.items() if not np.isnan(shown).all()}
    marks = {name: _unusual(shown) for name, shown in values.items()}
    rows = []
    for number, session in enumerate(measured):
        unusual = tuple(COLUMNS[name] for name in values if marks[name][number])
        cells = tuple(_text(name, values[name][number]) for name in values)
        rows.append((session, cells, unusual))
    rows.sort(key=lambda row: not row[2])  # stable: unusual ones first
    shown_rows = tuple(
        FeatureRow(
            session.name,
            cells,
            unusual,
            _data_url(folder / "pictures" / f"{session.name}.png") if number < _MOST_PICTURES else "",
        )
        for number, (session, cells, unusual) in enumerate(rows)
    )
    summary = (
        f"{counted(len(measured), 'session')} measured, {len(failures)} failed.",
        "Whole heads, registered to a template; the pictures are in its space."
        if whole
        else "Slices: fractions of the tissues within the slices of each session, without a registration.",
        "Check each picture: the lines should follow the borders that you see. Unusual values come first; they may "
        "be right.",
    )
    titles = tuple(COLUMNS[name] for name in values)
    page = FeaturesPage(f"Volumes of {title}", summary, titles, shown_rows, failures)
    return write_page(folder / "index.html", "features.html.j2", page)


def _value(features: Mapping[str, float], name: str) -> float:
    """A value of the page: a feature, or the sum of both sides."""
    stem = {"ventricles_ml": "ventricle", "hippocampal_ml": "hippocampal"}.get(name)
    sides = [f"{stem}_left_ml", f"{stem}_right_ml"] if stem else [name]
    return sum(features[side] for side in sides) if all(side in features for side in sides) else float("nan")


def _unusual(values: Sequence[float]) -> np.ndarray:
    """Which values lie far from the median, by the median absolute deviation."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < FEWEST:
        return np.zeros(len(array), bool)
    distance = np.abs(array - np.nanmedian(array))
    scale = 1.4826 * float(np.nanmedian(distance))
    return distance > UNUSUAL * scale if scale > 0 else np.zeros(len(array), bool)


def _text(name: str, value: float) -> str:
    if np.isnan(value):
        return "–"
    if name.endswith("_fraction"):
        return f"{100 * value:.1f} %"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _data_url(path: Path) -> str:
    """A picture as a JPEG for the page."""
    with Image.open(path) as picture:
        image = picture.convert("RGB")
    image.thumbnail((_WIDTH, _WIDTH))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
