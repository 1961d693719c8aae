"""Figures of the checks of heat maps."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from gyrus.explanation.checks import STABLE, TOO_ALIKE, ExplanationChecks, MethodReport
from gyrus.explanation.methods import METHODS
from gyrus.reporting.figure_style import COLOURS, COLUMN, INK, MUTED, STYLE, lines, new_figure, plain

VERDICT_COLOURS = {"trustworthy": COLOURS[2], "doubtful": COLOURS[4], "not better than an edge detector": COLOURS[1]}


def faithfulness_figure(reports: Sequence[MethodReport]) -> Figure:
    """By how much each method names pixels that matter more than an edge detector's, and than random ones."""
    with mpl.rc_context(STYLE):
        figure = new_figure(2 * COLUMN * 0.8, 0.24 * len(reports) + 1.1)
        axes = figure.subplots()
        axes.axvline(0, color=MUTED, linewidth=0.8)
        for row, report in enumerate(reports):
            for shift, estimate, marker in ((-0.13, report.over_edges, "o"), (0.13, report.over_chance, "|")):
                if estimate.value is None:
                    continue
                colour = VERDICT_COLOURS[report.verdict] if marker == "o" else MUTED
                axes.plot(estimate.value, row + shift, marker, color=colour, markersize=5)
                if estimate.low is not None and estimate.high is not None:
                    axes.plot([estimate.low, estimate.high], [row + shift] * 2, color=colour)
        axes.set_yticks(range(len(reports)), [METHODS[report.method].title for report in reports])
        axes.set_ylim(len(reports) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("Insertion minus deletion, above that of edges (dot)\nand above that of random spots (bar)")
        present = [verdict for verdict in VERDICT_COLOURS if any(report.verdict == verdict for report in reports)]
        for verdict in present:
            axes.plot([], [], "o", color=VERDICT_COLOURS[verdict], markersize=5, label=verdict)
        figure.legend(loc="outside upper left", ncols=3)
    return figure


def cascade_figure(reports: Sequence[MethodReport]) -> Figure:
    """How alike the maps stay while the network loses its weights, from the head down."""
    with mpl.rc_context(STYLE):
        figure = new_figure(2 * COLUMN * 0.8, 2.5)
        axes = figure.subplots()
        axes.axhspan(TOO_ALIKE, 1.02, color=MUTED, alpha=0.12, linewidth=0)
        parts = ("trained", *reports[0].weights.parts)
        for name, colour, dashes in lines([report.method for report in reports]):
            report = next(each for each in reports if each.method == name)
            values = (1.0, *report.weights.similarities)
            axes.plot(range(len(values)), values, color=colour, linestyle=dashes, label=METHODS[name].title)
        axes.set_xticks(range(len(parts)), parts, rotation=30 if len(parts) > 6 else 0)
        axes.set(ylim=(min(-0.1, axes.get_ylim()[0]), 1.02), ylabel="Rank correlation", xlabel="Shuffled down to")
        figure.legend(loc="outside right upper")
    return figure


def agreement_figure(scrutiny: ExplanationChecks) -> Figure:
    """How alike the maps of each two methods are."""
    names = [METHODS[report.method].title for report in scrutiny.methods]
    table = np.array(scrutiny.agreement)
    with mpl.rc_context(STYLE):
        size = max(2.2, 0.34 * len(names) + 0.6)
        figure = new_figure(size + 1.4, size + 1.0)
        axes = figure.subplots()
        axes.imshow(table, cmap="PuOr_r", vmin=-1, vmax=1)
        for row, line in enumerate(table):
            for column, value in enumerate(line):
                shade = "white" if abs(value) > 0.75 else INK
                text = f"{value:z.1f}".replace("-", "−")
                axes.text(column, row, text, ha="center", va="center", fontsize=6, color=shade)
        axes.set_xticks(range(len(names)), [plain(name) for name in names], rotation=45, ha="right")
        axes.set_yticks(range(len(names)), [plain(name) for name in names])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def stability_figure(reports: Sequence[MethodReport]) -> Figure:
    """How alike the maps of hardly changed images are."""
    with mpl.rc_context(STYLE):
        figure = new_figure(2 * COLUMN * 0.8, 0.24 * len(reports) + 0.85)
        axes = figure.subplots()
        axes.axvspan(
            min(-0.05, *(each.stability.shift for each in reports)), STABLE, color=MUTED, alpha=0.12, linewidth=0
        )
        for row, report in enumerate(reports):
            axes.plot([report.stability.noise, report.stability.shift], [row, row], color=MUTED, linewidth=0.8)
            axes.plot(report.stability.noise, row, "o", color=COLOURS[0], markersize=5)
            axes.plot(report.stability.shift, row, "s", color=COLOURS[1], markersize=4.5)
        axes.plot([], [], "o", color=COLOURS[0], markersize=5, label="a little noise")
        axes.plot([], [], "s", color=COLOURS[1], markersize=4.5, label="a small shift")
        axes.set_yticks(range(len(reports)), [METHODS[report.method].title for report in reports])
        axes.set_ylim(len(reports) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("Rank correlation with the map of the image as it is")
        figure.legend(loc="outside upper left", ncols=2)
    return figure
