"""Figures of an audit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullFormatter, NullLocator
from numpy.typing import NDArray

from gyrus.audit.image_quality import WHOLE_IMAGE_MEASURES
from gyrus.audit.subjects_from_pixels import SubjectGroups
from gyrus.reporting.figures import COLOURS, COLUMN, INK, MUTED, WARNING, escape_math, figure_style, new_figure

MAX_POINTS = 2_000
"""Largest number of points of a curve."""

_TICKS = (0.999, 0.998, 0.995, 0.99, 0.98, 0.95, 0.9, 0.8, 0.6, 0.4, 0.0)


def curve_figure(grouping: SubjectGroups) -> Figure:
    """Effective number of groups by threshold, with the chosen threshold."""
    dendrogram = grouping.dendrogram
    distance = np.maximum(1.0 - dendrogram.similarity, 1e-4)
    number = dendrogram.count - 1.0 - np.arange(len(distance))
    kept = np.unique(np.geomspace(1, len(distance), MAX_POINTS).astype(int)) - 1
    kept = np.union1d(kept, len(distance) - 1 - kept)
    with figure_style():
        figure = new_figure(COLUMN, 2.9)
        axes = figure.subplots()
        # A logarithmic axis of the distance to 1, reversed: thresholds increase to the right.
        axes.step(distance[kept], number[kept], where="post", color=MUTED, linewidth=0.8, label="groups")
        axes.step(
            distance[kept],
            dendrogram.effective[kept],
            where="post",
            color=COLOURS[0],
            label="effective number of groups",
        )
        axes.set(xscale="log", yscale="log", ylim=(0.9, dendrogram.count * 1.1))
        axes.set_xlim(distance[-1] * 1.06, distance[0] / 1.06)
        _similarity_ticks(axes, distance)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        _mark_plateau(axes, grouping)
        axes.set(xlabel=f"Threshold of {grouping.measure} for linking images")
        axes.set(title="Groups by threshold", ylabel="Groups")
        figure.legend(loc="outside lower left", ncols=2, handlelength=1.4, columnspacing=1.4)
    return figure


def sizes_figure(grouping: SubjectGroups) -> Figure:
    """Histogram of the number of images per group."""
    sizes = grouping.sizes
    with figure_style():
        figure = new_figure(COLUMN, 2.2)
        axes = figure.subplots()
        low, high = int(sizes.min()), int(sizes.max())
        step = max(1, (high - low) // 40)
        bins = np.arange(low - 0.5, high + 0.5 + step, step).tolist()
        axes.hist(sizes, bins=bins, color=COLOURS[0], linewidth=0)
        axes.set(title="Images per group", xlabel="Images", ylabel="Groups")
        axes.set_xlim(max(0.0, low - 2.5), max(high + 2.5, bins[-1]))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
    return figure


def leakage_figure(bars: Sequence[tuple[str, float, bool]], majority: float) -> Figure:
    """Accuracy of the nearest neighbour on raw pixels.

    Args:
        bars: Name, accuracy from 0 to 1, and whether it benefits from leakage.
        majority: Fraction of the majority class, drawn as a line.
    """
    with figure_style():
        figure = new_figure(COLUMN, 0.9 + 0.34 * len(bars))
        axes = figure.subplots()
        for height, (_, accuracy, leaks) in enumerate(bars):
            axes.barh(height, accuracy, height=0.56, color=WARNING if leaks else COLOURS[0], linewidth=0)
            # The line of the majority class must not cross the label.
            beside = majority if accuracy <= majority < accuracy + 0.13 else accuracy
            axes.text(beside + 0.015, height, f"{accuracy:.0%}", va="center", fontsize=7.5)
        axes.axvline(majority, color=INK, linewidth=1.0, linestyle=":")
        axes.set_yticks(range(len(bars)), [name for name, _, _ in bars])
        axes.set(xlim=(0, 1.14), ylim=(len(bars) - 0.4, -0.6), xticks=[0, 0.25, 0.5, 0.75, 1.0])
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.tick_params(axis="y", length=0)
        axes.set(title="Nearest neighbour on raw pixels", xlabel="Accuracy (dotted line: majority class)")
    return figure


def quality_figure(quality: pd.DataFrame) -> Figure:
    """Distributions of the four whole-image measures, with their means."""
    with figure_style():
        figure = new_figure(COLUMN, 3.0)
        for axes, name in zip(figure.subplots(2, 2).ravel(), WHOLE_IMAGE_MEASURES, strict=True):
            values = quality[name].to_numpy(np.float64)
            axes.hist(values, bins=50, color=COLOURS[0], linewidth=0)
            axes.axvline(values.mean(), color=WARNING, linewidth=1.0)
            axes.set_title(name if name == "SNR" else name.capitalize())
            axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=3))
            axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        figure.supxlabel("Vertical axis: images. Line: mean", fontsize=6.5, x=0.02, ha="left", color=MUTED)
    return figure


def boxes_figure(quality: pd.DataFrame, classes: Sequence[str], targets: NDArray[np.int64]) -> Figure:
    """Box plots of every quality measure by class; whiskers reach up to 1.5 interquartile ranges.

    Args:
        quality: One column per measure.
        classes: Names in order.
        targets: Index into ``classes`` of each row; below 0 for none.
    """
    present = [index for index in range(len(classes)) if (targets == index).any()]
    names = [name for name in quality.columns if quality[name].nunique() > 1]
    with figure_style():
        figure = new_figure(2 * COLUMN, 1.25 * -(-len(names) // 4) + 0.3)
        panels = figure.subplots(-(-len(names) // 4), 4, squeeze=False).ravel()
        for axes, name in zip(panels, names, strict=False):
            values = [quality[name].to_numpy()[targets == index] for index in present]
            drawn = axes.boxplot(
                [each[np.isfinite(each)] for each in values], widths=0.6, showfliers=False, patch_artist=True
            )
            for index, box, median in zip(present, drawn["boxes"], drawn["medians"], strict=True):
                box.set(facecolor=COLOURS[index % len(COLOURS)], alpha=0.75, linewidth=0.6)
                median.set(color=INK, linewidth=1.0)
            for line in (*drawn["whiskers"], *drawn["caps"]):
                line.set(linewidth=0.6, color=MUTED)
            axes.set_title(name[0].upper() + name[1:])
            axes.set_xticks([])
            axes.yaxis.set_major_locator(MaxNLocator(nbins=3))
        for axes in panels[len(names) :]:
            axes.set_visible(False)
        handles = [Patch(color=COLOURS[i % len(COLOURS)], alpha=0.75, label=escape_math(classes[i])) for i in present]
        figure.legend(handles=handles, loc="outside lower left", ncols=4, handlelength=1, columnspacing=1.4)
    return figure


def correlation_figure(quality: pd.DataFrame) -> Figure:
    """Spearman correlations between the quality measures."""
    varying = quality.loc[:, quality.nunique() > 1]
    values = varying.corr("spearman").to_numpy()
    with figure_style():
        figure = new_figure(COLUMN, COLUMN)
        axes = figure.subplots()
        drawn = axes.imshow(values, cmap="RdBu_r", vmin=-1, vmax=1)
        names = list(varying.columns)
        axes.set_xticks(range(len(names)), names, rotation=60, ha="right", rotation_mode="anchor", fontsize=6.5)
        axes.set_yticks(range(len(names)), names, fontsize=6.5)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set_title("Spearman correlation")
        bar = figure.colorbar(drawn, ax=axes, shrink=0.6, ticks=[-1, 0, 1])
        bar.outline.set_visible(False)
    return figure


def outliers_figure(pictures: Sequence[NDArray[np.uint8]], scores: pd.DataFrame, threshold: float) -> Figure:
    """Images with the plain z-scores of their whole-image measures as bars.

    Args:
        pictures: Gray images, ten at most.
        scores: Signed z-scores, one column per measure and one row per image.
        threshold: Drawn as lines.
    """
    columns = min(5, len(pictures))
    lines = -(-len(pictures) // columns)
    reach = max(float(np.abs(scores.to_numpy()).max()) * 1.1, threshold * 1.2)
    with figure_style():
        figure = new_figure(2 * COLUMN, 2.15 * lines + 0.2)
        grid = figure.subplots(2 * lines, columns, squeeze=False, height_ratios=[1.6, 1] * lines)
        for axes in grid.ravel():
            axes.set_axis_off()
        for number, picture in enumerate(pictures):
            line, column = divmod(number, columns)
            grid[2 * line, column].imshow(picture, cmap="gray", vmin=0, vmax=255)
            axes = grid[2 * line + 1, column]
            axes.set_axis_on()
            values = scores.iloc[number]
            colours = [WARNING if abs(value) > threshold else COLOURS[0] for value in values]
            axes.barh(range(len(values)), values, color=colours, height=0.7)
            for side in (-threshold, threshold):
                axes.axvline(side, color=MUTED, linewidth=0.6, linestyle=":")
            axes.set(xlim=(-reach, reach), ylim=(len(values) - 0.4, -0.6))
            axes.set_yticks(range(len(values)), list(scores.columns) if column == 0 else [""] * len(values))
            axes.tick_params(axis="y", length=0)
            axes.xaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    return figure


def _similarity_ticks(axes: Axes, distance: NDArray[np.float64]) -> None:
    low, high = distance[0], distance[-1]
    gap = 0.13 * np.log(high / low)  # as much as a label takes
    shown: list[float] = []
    for value in _TICKS:
        in_range = low * 0.9 <= 1 - value <= high * 1.1
        if in_range and (not shown or np.log((1 - value) / (1 - shown[-1])) >= gap):
            shown.append(value)
    axes.xaxis.set_major_locator(FixedLocator([1 - value for value in shown]))
    axes.xaxis.set_major_formatter(FixedFormatter([f"{value:g}" for value in shown]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_formatter(NullFormatter())


def _mark_plateau(axes: Axes, grouping: SubjectGroups) -> None:
    plateau = grouping.plateau
    if plateau is None or not grouping.found:
        return
    axes.axvspan(1 - plateau.low, 1 - plateau.high, color=COLOURS[0], alpha=0.13, linewidth=0)
    axes.axvline(1 - plateau.threshold, color=WARNING, linewidth=1.0)
    number = len(grouping.sizes)
    axes.annotate(
        f"{number:,} groups",
        (1 - plateau.threshold, number),
        xytext=(5, -11),
        textcoords="offset points",
        color=WARNING,
        fontsize=8,
        fontweight="bold",
    )
