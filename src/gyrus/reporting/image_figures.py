"""Figures of images: the most confident correct and wrong predictions, and a map of the feature vectors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gyrus.evaluation.result import percent
from gyrus.files import open_arrays, reading
from gyrus.inference.predictions import Predictions
from gyrus.reporting.figures import (
    COLUMN,
    INK,
    MUTED,
    WARNING,
    Drawing,
    escape_math,
    figure_style,
    line_styles,
    new_figure,
)

Overlays = Mapping[str, tuple[np.ndarray, float]]
"""By sample: an image overlaid with its heat map (H, W, 3), and the ratio of pixel height to pixel width."""


def draw_images(
    predictions: Predictions, examples: Path, embeddings: Path, maps: Overlays = MappingProxyType({})
) -> tuple[Drawing, ...]:
    """Examples and feature map, where they were saved.

    Args:
        predictions: On the same subset of the data.
        examples: What :func:`gyrus.workflows.saved_outputs.save_examples` wrote, if it exists.
        embeddings: What :func:`gyrus.workflows.saved_outputs.save_embeddings` wrote, if it exists.
        maps: Heat maps, for images that have one.
    """
    drawings = []
    if examples.is_file():
        with reading(examples, "example images of these predictions"), open_arrays(examples) as saved:
            figure = examples_figure(predictions, saved["images"], saved["rows"], maps)
        caption = (
            "At most one image per subject, with the probability of the predicted class. Orange: wrong predictions "
            "(true class → predicted class)."
        )
        drawings.append(Drawing("examples", "Most confident correct and wrong predictions", caption, figure))
    if embeddings.is_file():
        with reading(embeddings, "embeddings of these predictions"), open_arrays(embeddings) as saved:
            figure = map_figure(predictions, saved["map"], saved["rows"])
        caption = (
            "t-SNE of the feature vectors before the last layer, one point per image. Tight clusters of one colour on "
            "the right are single subjects. Distances between distant points mean little."
        )
        drawings.append(Drawing("embedding_map", "Feature space of the network", caption, figure))
    return tuple(drawings)


def examples_figure(
    predictions: Predictions, images: np.ndarray, rows: np.ndarray, maps: Overlays = MappingProxyType({})
) -> Figure:
    """Images with true class, predicted class where it is wrong, and confidence; heat maps below them.

    Args:
        predictions: The table that ``rows`` points into.
        images: uint8 (n, H, W).
        rows: The row of each image, shape (n,).
        maps: Heat maps, for images that have one.
    """
    right = predictions.predicted[rows] == predictions.targets[rows]
    groups = [(title, np.flatnonzero(mask)) for title, mask in (("Correct", right), ("Wrong", ~right)) if mask.any()]
    columns = max(5, *(len(group) for _, group in groups))
    found = [maps.get(str(sample)) for sample in predictions.table["sample"].iloc[rows]]
    lines_drawn = [(title, group, shows_maps) for title, group in groups for shows_maps in (False, True)]
    lines_drawn = [line for line in lines_drawn if not line[2] or any(found[index] for index in line[1])]
    with figure_style():
        figure = new_figure(2 * COLUMN, 2 * COLUMN / columns * len(lines_drawn) + 0.5 * len(groups))
        panels = figure.subplots(len(lines_drawn), columns, squeeze=False)
        for axes in panels.ravel():
            axes.set_axis_off()
        for (title, group, shows_maps), line in zip(lines_drawn, panels, strict=True):
            for axes, index in zip(line, group, strict=False):
                if not shows_maps:
                    _show(axes, images[index], predictions, int(rows[index]), title)
                elif (overlay := found[index]) is not None:
                    axes.imshow(overlay[0], interpolation="antialiased", aspect=overlay[1])
    return figure


def map_figure(predictions: Predictions, points: np.ndarray, rows: np.ndarray) -> Figure:
    """The map twice: coloured by class and by subject.

    Args:
        predictions: The table that ``rows`` points into.
        points: float (n, 2).
        rows: The row of each point, shape (n,).
    """
    table = predictions.table.iloc[rows]
    known = bool(table["subject"].notna().all())
    with figure_style():
        legend = 0.15 * len(predictions.classes) / (1 + known)
        figure = new_figure(COLUMN * (1 + known), COLUMN + legend, predictions.warning)
        panels = np.atleast_1d(figure.subplots(1, 1 + known))
        for name, colour, _ in line_styles(predictions.classes):
            chosen = (table["target"] == name).to_numpy(dtype=bool, na_value=False)
            panels[0].scatter(*points[chosen].T, s=7, color=colour, alpha=0.8, linewidths=0, label=escape_math(name))
        panels[0].set_title("Class")
        if known:
            subjects = table["subject"].astype("category").cat.codes.to_numpy()
            shades = np.random.default_rng(0).permutation(subjects.max() + 1)[subjects] / max(subjects.max(), 1)
            panels[1].scatter(*points.T, s=7, c=shades, cmap="turbo", alpha=0.8, linewidths=0)
            panels[1].set_title(f"Subject (n = {subjects.max() + 1:,})")
        for axes in panels:
            axes.set(xticks=[], yticks=[])
            axes.set_box_aspect(1)
            axes.spines[:].set(visible=True, color=MUTED, linewidth=0.5)
        figure.legend(loc="outside lower left", ncols=2 if known else 1, markerscale=2)
    return figure


def _show(axes: Axes, image: np.ndarray, predictions: Predictions, row: int, title: str) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    truth, predicted = predictions.table["target"].iloc[row], predictions.predicted_classes[row]
    confidence = percent(float(predictions.probabilities[row].max()))
    words = [str(truth), *([f"→ {predicted}"] if title == "Wrong" else []), confidence]
    axes.set_title(
        escape_math("\n".join(words)),
        fontsize=6,
        fontweight="normal",
        loc="center",
        color=INK if title == "Correct" else WARNING,
    )


def reconstructions_figure(rows: Sequence[np.ndarray]) -> Figure:
    """Images, what a network saw of them, and what it reconstructed.

    Args:
        rows: Three arrays (n, H, W); NaN where a pixel was hidden.
    """
    low, high = np.percentile(rows[0], (0.5, 99.5))
    columns = len(rows[0])
    with figure_style():
        width = 2 * COLUMN * columns / 6
        figure = new_figure(width + 0.3, width / columns * 3 + 0.2)
        panels = figure.subplots(3, columns, squeeze=False)
        for axes in panels.ravel():
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        titles = ("Image", "Seen by the network", "Hidden parts reconstructed")
        for line, images, title in zip(panels, rows, titles, strict=True):
            line[0].set_ylabel(title)
            for axes, image in zip(line, images, strict=True):
                axes.set_facecolor("#dbe3ea")
                axes.imshow(image, cmap="gray", vmin=low, vmax=high)
    return figure
