"""Pictures of measured heads: slices with the contours of their tissues and some regions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from gyrus.files import make_folder
from gyrus.reporting.figures import COLUMN, INK, MUTED, escape_math, figure_style, new_figure, save_png
from gyrus.text import visible
from gyrus.volumetry.measure import TemplateView
from gyrus.volumetry.tissue_mixture import TissueMixture

BRAIN_LINE, WHITE_LINE = "#56B4E9", "#E69F00"
REGION_COLOURS = {"ventricle": "#0072B2", "hippocampal": "#CC79A7"}
REGION_TITLES = {"ventricle": "ventricles", "hippocampal": "hippocampal region"}

PLANES = (("axial", 2), ("coronal", 1), ("sagittal", 0))
PLACES = {
    "axial": (-24, -8, 8, 20, 34, 50),
    "coronal": (-66, -48, -30, -16, 4, 28),
    "sagittal": (-46, -26, -12, 12, 26, 46),
}
"""Positions of the slices, mm in the space of the template."""


@dataclass(frozen=True, eq=False)
class Section:
    """One slice of a head.

    Attributes:
        gray_values: uint8 (rows, columns).
        tissues: Fractions of fluid, gray and white matter, (3, rows, columns).
        title: Where it lies.
        regions: bool (rows, columns) by name of :data:`REGION_COLOURS`.
    """

    gray_values: npt.NDArray[np.uint8]
    tissues: npt.NDArray[np.float32]
    title: str = ""
    regions: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)


def save_head_picture(
    view: TemplateView, affine: npt.NDArray[np.float64], name: str, features: Mapping[str, float], path: Path
) -> None:
    """Write the picture of a whole head, PNG.

    Args:
        view: The head in the space of the template.
        affine: From voxels of the template to mm.
        name: Of the session.
        features: Its volumes.
        path: Where to write it.
    """
    numbers = (
        f"intracranial {features['intracranial_ml']:.0f} mL, gray matter {features['gray_matter_ml']:.0f} mL, "
        f"white matter {features['white_matter_ml']:.0f} mL, fluid {features['csf_ml']:.0f} mL"
    )
    rows = [_sections(view, affine, plane, axis) for plane, axis in PLANES]
    _save(sections_figure(rows, name, numbers), path)


def save_slices_picture(
    slices: Sequence[npt.NDArray[np.uint8]],
    mixture: TissueMixture,
    name: str,
    features: Mapping[str, float],
    path: Path,
) -> None:
    """Write the picture of slices, PNG.

    Args:
        slices: At least one; row 0 is the front.
        mixture: Of the tissues.
        name: Of the session.
        features: Its fractions.
        path: Where to write it.
    """
    numbers = (
        f"within the slices: gray matter {features['gray_matter_fraction']:.0%}, white matter "
        f"{features['white_matter_fraction']:.0%}, fluid {features['csf_fraction']:.0%}"
    )
    row = [Section(each, mixture.fractions(each) * (each > 12)) for each in slices]
    _save(sections_figure([row], name, numbers), path)


def sections_figure(rows: Sequence[Sequence[Section]], name: str, numbers: str) -> Figure:
    """Slices with contours, on black."""
    width = 2 * COLUMN
    most = max(map(len, rows))
    tallest = [max(each.gray_values.shape[0] / each.gray_values.shape[1] for each in row) for row in rows]
    # Few slices are not drawn larger than those of a whole head.
    height = sum(ratio * width / max(most, 6) for ratio in tallest) + 0.5
    with figure_style():
        figure = new_figure(width, height)
        figure.set_layout_engine("constrained", w_pad=0.01, h_pad=0.01, wspace=0, hspace=0)
        panels = figure.subplots(len(rows), max(most, 6), squeeze=False, gridspec_kw={"height_ratios": tallest})
        for axes in panels.ravel():
            axes.set_axis_off()
        for line, row in zip(panels, rows, strict=True):
            for axes, section in zip(line, row, strict=False):
                _draw(axes, section)
        figure.suptitle(
            f"{escape_math(visible(name))}: {numbers}", fontsize=7.5, color=INK, x=0.01, ha="left", fontweight="bold"
        )
        figure.legend(
            handles=_legend(rows), loc="outside lower left", ncols=4, fontsize=7, labelcolor=MUTED, handlelength=1.4
        )
    return figure


def _sections(view: TemplateView, affine: npt.NDArray[np.float64], plane: str, axis: int) -> list[Section]:
    sections = []
    for place in PLACES[plane]:
        number = round((place - affine[axis, 3]) / affine[axis, axis])
        if not 0 <= number < view.gray_values.shape[axis]:
            continue
        sections.append(
            Section(
                _turned(np.take(view.gray_values, number, axis)),
                np.stack([_turned(np.take(each, number, axis)) for each in view.tissues]),
                f"{'xyz'[axis]} = {place} mm".replace("-", "−"),
                {name: _turned(np.take(where, number, axis)) for name, where in view.regions.items()},
            )
        )
    return sections


def _turned(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A slice with its top or front upwards, and the subject's right (radiological convention) or front on the left."""
    return values.T[::-1, ::-1]


def _draw(axes: Axes, section: Section) -> None:
    axes.imshow(section.gray_values, cmap="gray", vmin=0, vmax=255, interpolation="bilinear")
    for name, where in section.regions.items():
        if where.any():
            colour = np.zeros((*where.shape, 4))
            colour[where] = (*mpl.colors.to_rgb(REGION_COLOURS[name]), 0.7)
            axes.imshow(colour, interpolation="nearest")
    brain = section.tissues[1] + section.tissues[2]
    for values, line in ((brain, BRAIN_LINE), (section.tissues[2], WHITE_LINE)):
        if values.max() > 0.5 > values.min():
            axes.contour(values, levels=[0.5], colors=[line], linewidths=0.45)
    if section.title:
        axes.text(0.03, 0.02, section.title, color="white", fontsize=5, transform=axes.transAxes, va="bottom")


def _legend(rows: Sequence[Sequence[Section]]) -> list[Line2D | Patch]:
    names = dict.fromkeys(name for row in rows for section in row for name in section.regions)
    return [
        Line2D([], [], color=BRAIN_LINE, linewidth=1, label="outer border of gray matter"),
        Line2D([], [], color=WHITE_LINE, linewidth=1, label="border of white matter"),
        *(Patch(color=REGION_COLOURS[name], alpha=0.7, label=REGION_TITLES[name]) for name in names),
    ]


def _save(figure: Figure, path: Path) -> None:
    make_folder(path.parent)
    save_png(figure, path)
