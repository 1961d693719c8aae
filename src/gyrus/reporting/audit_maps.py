"""Maps of an audit: images as points, coloured by what is known about them, and clusters of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from gyrus.audit.context import AuditContext
from gyrus.audit.embeddings import Clustering, dbscan, hdbscan, standardise_columns, tsne, umap
from gyrus.audit.image_quality import (
    MEASURES,
    PLAIN_Z_THRESHOLD,
    WHOLE_IMAGE_MEASURES,
    flag_outliers,
    largest_plain_z,
)
from gyrus.reporting.figures import COLOURS, COLUMN, INK, MUTED, Drawing, escape_math, figure_style, new_figure
from gyrus.types import SUBSETS

MAX_MAPPED = 2_000
"""Largest number of images on a map, chosen at random among more; with known subjects, all images of some subjects."""

SUBJECTS_SHOWN = 6
FEWEST_MAPPED = 8

Points = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps, with their points and clusters.

    Attributes:
        drawings: Maps of the pixels and of all quality measures.
        unscaled: Map of the four whole-image measures without standardisation, and its clusters.
        clusterings: Clusters and their agreement with known groupings.
        table: Coordinates and clusters, one row per image on the maps.
    """

    drawings: tuple[Drawing, ...]
    unscaled: tuple[Drawing, ...]
    clusterings: tuple[Clustering, ...]
    table: pd.DataFrame


NO_MAPS = Maps((), (), (), pd.DataFrame())


def draw_maps(context: AuditContext, *, with_umap: bool = False) -> Maps:
    """Draw the maps.

    Args:
        context: The data of the audit.
        with_umap: Whether to draw a UMAP map of the pixels too.

    Raises:
        MissingDependencyError: UMAP is requested and not installed.
    """
    count = len(context.targets)
    if count < FEWEST_MAPPED:
        return NO_MAPS
    rows = choose_rows(context.subjects, count, seed=context.seed)
    quality = context.images.quality
    vectors = context.neighbours.vectors[rows]
    points = {"pixels": tsne(vectors), "quality": tsne(standardise_columns(quality[list(MEASURES)].to_numpy()[rows]))}
    if with_umap:
        points["pixels by UMAP"] = umap(vectors)
    points["unscaled measures"] = tsne(quality[list(WHOLE_IMAGE_MEASURES)].to_numpy()[rows])
    clusterings = _clusterings(context, rows, vectors, points["unscaled measures"])
    table = {"sample": context.manifest.table["sample"].to_numpy()[rows]}
    for name, each in points.items():
        table |= {f"{name} x": each[:, 0], f"{name} y": each[:, 1]}
    table |= {clustering.name: clustering.clusters for clustering in clusterings}
    drawings = _pixel_maps(context, rows, points, clusterings[0])
    unscaled = _unscaled_maps(context, rows, points["unscaled measures"], clusterings[1])
    return Maps(drawings, unscaled, clusterings, pd.DataFrame(table))


def choose_rows(subjects: Rows | None, count: int, *, seed: int) -> Rows:
    """Rows of the images on a map: all, or all images of some subjects chosen at random.

    Args:
        subjects: Number of the subject of each image; if None, images are chosen instead of subjects.
        count: Number of images.
        seed: Seed of the choice.
    """
    if count <= MAX_MAPPED:
        return np.arange(count)
    generator = np.random.default_rng(seed)
    if subjects is None:
        return np.sort(generator.choice(count, MAX_MAPPED, replace=False))
    numbers, sizes = np.unique(subjects, return_counts=True)
    order = generator.permutation(len(numbers))
    chosen = numbers[order][np.cumsum(sizes[order]) <= MAX_MAPPED]
    return np.nonzero(np.isin(subjects, chosen if len(chosen) else numbers[order[:1]]))[0][:MAX_MAPPED]


def _clusterings(
    context: AuditContext, rows: Rows, vectors: NDArray[np.float32], unscaled: Points
) -> tuple[Clustering, ...]:
    subsets = np.array([SUBSETS.index(subset) if subset in SUBSETS else -1 for subset in context.subsets[rows]])
    groupings = {
        "class": context.targets[rows],
        "subject": context.subjects[rows] if context.subjects is not None else None,
        "subset": subsets if (subsets >= 0).any() else None,
    }
    return (
        Clustering.compare("HDBSCAN of the pixels", hdbscan(vectors), groupings),
        Clustering.compare("DBSCAN of the map of unscaled measures", dbscan(unscaled), groupings),
    )


def _pixel_maps(
    context: AuditContext, rows: Rows, points: dict[str, Points], clustering: Clustering
) -> tuple[Drawing, ...]:
    classes, targets, count = context.manifest.classes, context.targets[rows], len(context.targets)
    unit = "images" if context.subjects is None else "subjects with all their images"
    flagged = {flag.sample for flag in flag_outliers(context.images.quality, context.manifest.table["sample"])}
    outliers = context.manifest.table["sample"].isin(flagged).to_numpy()[rows]
    chosen = f" {len(rows):,} of {count:,} images (random {unit})." if len(rows) < count else ""
    pixels = points["pixels"]
    drawings = [
        Drawing(
            "map_by_class",
            "Map by class",
            "t-SNE of the pixels (whitened components). Similar images are near each other; large distances mean "
            f"nothing. Crosses: quality outliers.{chosen}",
            map_figure(pixels, classes, targets, outliers, "Pixels, by class"),
        ),
        *_map_by_subject(context, rows, pixels),
        *_map_by_subset(context, rows, pixels),
        Drawing(
            "map_by_cluster",
            "Map by cluster",
            f"HDBSCAN found {clustering.count:,} clusters in the pixels. Gray: images in no cluster. Colours repeat.",
            cluster_figure(pixels, clustering.clusters, "Pixels, by cluster"),
        ),
    ]
    if "pixels by UMAP" in points:
        caption = "UMAP of the same images (15 neighbours, seed 42)."
        figure = map_figure(points["pixels by UMAP"], classes, targets, outliers, "Pixels by UMAP, by class")
        drawings.append(Drawing("map_by_umap", "UMAP map", caption, figure))
    caption = "t-SNE of all quality measures, standardised. Crosses: quality outliers."
    figure = map_figure(points["quality"], classes, targets, outliers, "Quality, by class")
    return (*drawings, Drawing("map_of_quality", "Map of quality", caption, figure))


def _map_by_subject(context: AuditContext, rows: Rows, points: Points) -> tuple[Drawing, ...]:
    if context.subjects is None:
        return ()
    subjects = context.subjects[rows]
    names, counts = np.unique(subjects, return_counts=True)
    names = names[counts > 1] if (counts > 1).any() else names
    shown = names[np.linspace(0, len(names) - 1, min(SUBJECTS_SHOWN, len(names))).astype(int)]
    numbers = np.select([subjects == name for name in shown], range(len(shown)), -1)
    titles = [f"subject {number + 1}" for number in range(len(shown))]
    caption = (
        f"The same map with {len(shown)} subjects coloured. If the images of a subject lie close together, a "
        "classifier can recognise the subject."
    )
    figure = map_figure(points, titles, numbers, np.zeros(len(rows), bool), "Pixels, by subject")
    return (Drawing("map_by_subject", "Map by subject", caption, figure),)


def _map_by_subset(context: AuditContext, rows: Rows, points: Points) -> tuple[Drawing, ...]:
    subsets = context.subsets[rows]
    present = [subset for subset in SUBSETS if (subsets == subset).any()]
    if len(present) < 2:
        return ()
    numbers = np.select([subsets == subset for subset in present], range(len(present)), -1)
    caption = "The same map by subset of the split. Without leakage, each chain of images lies in one subset."
    figure = map_figure(points, present, numbers, np.zeros(len(rows), bool), "Pixels, by subset")
    return (Drawing("map_by_subset", "Map by subset", caption, figure),)


def _unscaled_maps(context: AuditContext, rows: Rows, points: Points, clustering: Clustering) -> tuple[Drawing, ...]:
    outliers = (largest_plain_z(context.images.quality) > PLAIN_Z_THRESHOLD).to_numpy()[rows]
    figure = map_figure(
        points, context.manifest.classes, context.targets[rows], outliers, "Unscaled measures, by class"
    )
    caption = (
        "t-SNE (perplexity 30, seed 42) of mean, contrast, SNR and entropy without standardisation, so that the "
        f"measure with the largest values dominates. Crosses: plain z-score above {PLAIN_Z_THRESHOLD:g}."
    )
    clusters = (
        f"DBSCAN (distance 3, 5 points) on the coordinates of that map: {clustering.count:,} clusters. They describe "
        "the map, not the images. Gray: images in no cluster."
    )
    return (
        Drawing("map_of_unscaled_measures", "Map of unscaled measures", caption, figure),
        Drawing(
            "clusters_of_unscaled_measures",
            "Clusters of this map",
            clusters,
            cluster_figure(points, clustering.clusters, "Unscaled measures, by cluster"),
        ),
    )


def map_figure(
    points: NDArray[np.floating],
    classes: Sequence[str],
    numbers: NDArray[np.int64],
    outliers: NDArray[np.bool_],
    title: str,
) -> Figure:
    """A map with points coloured by class and outliers as crosses.

    Args:
        points: (N, 2).
        classes: Names for the legend.
        numbers: Index into ``classes`` of each point; below 0 for none.
        outliers: Points drawn as crosses.
        title: Title.
    """
    with figure_style():
        figure = new_figure(COLUMN, COLUMN + 0.3 + 0.09 * len(classes))
        axes = figure.subplots()
        size = float(np.clip(3_000 / len(points), 0.8, 10))
        others = numbers < 0
        axes.scatter(
            points[others, 0], points[others, 1], s=size, color=MUTED, alpha=0.5, linewidths=0, rasterized=True
        )
        size = max(size, 9.0) if others.any() else size
        for index, name in enumerate(classes):
            colour = COLOURS[index % len(COLOURS)]
            chosen = numbers == index
            axes.scatter(
                points[chosen, 0], points[chosen, 1], s=size, color=colour, linewidths=0, alpha=0.8, rasterized=True
            )
            axes.scatter([], [], s=14, color=colour, label=escape_math(name))
        if outliers.any():
            axes.scatter(
                points[outliers, 0],
                points[outliers, 1],
                s=9,
                color=INK,
                marker="x",
                linewidths=0.6,
                label="quality outlier",
            )
        axes.set(xticks=[], yticks=[], box_aspect=1, title=title)
        axes.spines[["left", "bottom"]].set_visible(False)
        figure.legend(loc="outside lower left", ncols=2, handletextpad=0.3, columnspacing=1.2)
    return figure


def cluster_figure(points: NDArray[np.floating], clusters: NDArray[np.int64], title: str) -> Figure:
    """A map with points coloured by cluster; points in no cluster are gray.

    Args:
        points: (N, 2).
        clusters: Cluster of each point, below 0 for none.
        title: Title.
    """
    with figure_style():
        figure = new_figure(COLUMN, COLUMN)
        axes = figure.subplots()
        size = float(np.clip(3_000 / len(points), 0.8, 10))
        palette = np.array([MUTED, *COLOURS])
        colours = palette[np.where(clusters < 0, 0, 1 + clusters % len(COLOURS))]
        axes.scatter(points[:, 0], points[:, 1], s=size, c=colours, linewidths=0, alpha=0.8, rasterized=True)
        axes.set(xticks=[], yticks=[], box_aspect=1, title=title)
        axes.spines[["left", "bottom"]].set_visible(False)
    return figure
