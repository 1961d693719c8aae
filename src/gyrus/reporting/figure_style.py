"""The common style of all figures. Colours: Okabe and Ito 2008, "Color universal design"."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

COLUMN = 3.5
"""Width of a figure in inches: one column of a journal, 89 mm."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F6A00")
INK, MUTED, WARNING = "#1b1f23", "#767d86", "#c24a00"
STYLE: Any = {
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "lines.linewidth": 1.25,
    "svg.fonttype": "none",
    "svg.hashsalt": "gyrus",
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this width and height in inches, with automatic layout."""
    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))


def add_warning(figure: Figure, warning: str) -> None:
    """Write the warning of a split above a figure; an empty warning adds nothing."""
    if warning:
        figure.suptitle(warning.replace(": ", ":\n", 1), color=WARNING, fontsize=7, x=0.02, ha="left")


def line_styles(names: Sequence[str], colours: Sequence[str] = COLOURS) -> list[tuple[str, str, Any]]:
    """Name, colour and dashes of each line; the dashes change when the colours repeat."""
    dashes = ["-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1))]
    pairs = cycle([(colour, dash) for dash in dashes for colour in colours])
    return [(name, *pair) for name, pair in zip(names, pairs, strict=False)]


def escape_math(text: str) -> str:
    """Escape dollar signs, which matplotlib would read as mathematics."""
    return text.replace("$", r"\$")
