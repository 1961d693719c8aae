"""The page of the contributions of features to the answers of a classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from gyrus.files import make_folder
from gyrus.reporting.figures import Drawing, Picture, escape_math, figure_style, new_figure, save_drawings
from gyrus.reporting.html import write_page

MOST_ROWS = 25
"""Features in the figure and in the table, at most; the file has all."""


@dataclass(frozen=True, eq=False)
class ContributionsPage:
    """The content of the page.

    Attributes:
        title: Its title.
        about: What the contributions add up to.
        subjects: Number of subjects.
        rows: Name, mean size, smallest and largest contribution of each feature, largest mean first.
        picture: The figure.
    """

    title: str
    about: str
    subjects: int
    rows: tuple[tuple[str, str, str, str], ...]
    picture: Picture


def write_contributions(folder: Path, title: str, about: str, values: pd.DataFrame, features: pd.DataFrame) -> Path:
    """Write ``explanation.html`` and its figure.

    Args:
        folder: The folder.
        title: The name of the run.
        about: What the contributions add up to.
        values: Contributions, one row per subject and one column per feature.
        features: Standardised features that are one number, of the same subjects.
    """
    make_folder(folder / "figures")
    names = values.abs().mean().sort_values(ascending=False).index[:MOST_ROWS].tolist()
    with figure_style():
        drawing = _draw(values[names], features)
        (picture,) = save_drawings([drawing], folder / "figures")
    rows = tuple(
        (name, f"{values[name].abs().mean():.3g}", f"{values[name].min():+.3g}", f"{values[name].max():+.3g}")
        for name in names
    )
    page = ContributionsPage(f"Contributions of features: {title}", about, len(values), rows, picture)
    return write_page(folder / "explanation.html", "contributions.html.j2", page)


def _draw(values: pd.DataFrame, features: pd.DataFrame) -> Drawing:
    figure = new_figure(6.5, 0.9 + 0.28 * values.shape[1])
    axes = figure.subplots()
    axes.axvline(0, color="0.6", linewidth=0.8)
    for height, name in enumerate(values.columns):
        shifts = np.random.default_rng(0).uniform(-0.25, 0.25, len(values))
        colours = features[name].clip(-2, 2) if name in features else np.zeros(len(values))
        axes.scatter(values[name], height + shifts, c=colours, cmap="coolwarm", vmin=-2, vmax=2, s=9, linewidths=0)
    axes.set_yticks(range(values.shape[1]), [escape_math(name) for name in values.columns], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("contribution")
    caption = (
        "One dot per subject: to the right, the feature speaks for the class. Colour: the feature, from low (blue) to "
        "high (red), up to two standard deviations of the training set from its mean."
    )
    return Drawing("contributions", "Contributions", caption, figure)
