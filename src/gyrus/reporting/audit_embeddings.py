"""The maps of an audit: images as points, coloured by what is known of them, and clusters of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from gyrus.audit.checks import AuditContext
from gyrus.audit.embeddings import Clustering, dbscan, hdbscan, standard, tsne, umap
from gyrus.audit.image_quality import CLASSIC, CLASSIC_Z, MEASURES, classic_outliers, flag_outliers
from gyrus.reporting.audit_figures import cluster_figure, map_figure
from gyrus.reporting.report_content import Drawing
from gyrus.types import SUBSETS

MOST_MAPPED = 2_000
"""Images on a map, chosen at random among more; where people are known, all images of some people."""

PEOPLE_SHOWN = 6
FEWEST_MAPPED = 8

Points = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Maps:
    """Maps, their points and clusters.

    Attributes:
        drawings: The maps of the pixels and of all quality measures.
        classic: The map of the four whole-image measures as they are, and its clusters.
        clusterings: Clusters, and what they go with.
        table: Coordinates and clusters, one row an image that is on the maps.
    """

    drawings: tuple[Drawing, ...]
    classic: tuple[Drawing, ...]
    clusterings: tuple[Clustering, ...]
    table: pd.DataFrame


NO_MAPS = Maps((), (), (), pd.DataFrame())


def draw_maps(material: AuditContext, *, with_umap: bool = False) -> Maps:
    """Draw the maps.

    Args:
        material: What was looked at.
        with_umap: Whether to draw the pixels by UMAP too.

    Raises:
        MissingDependencyError: UMAP is asked for and not installed.
    """
    count = len(material.targets)
    if count < FEWEST_MAPPED:
        return NO_MAPS
    rows = choose_rows(material.people, count, seed=material.seed)
    quality = material.images.quality
    vectors = material.neighbours.vectors[rows]
    points = {"pixels": tsne(vectors), "quality": tsne(standard(quality[list(MEASURES)].to_numpy()[rows]))}
    if with_umap:
        points["pixels by UMAP"] = umap(vectors)
    points["raw"] = tsne(quality[list(CLASSIC)].to_numpy()[rows])
    clusterings = _clusterings(material, rows, vectors, points["raw"])
    table = {"sample": material.manifest.table["sample"].to_numpy()[rows]}
    for name, each in points.items():
        table |= {f"{name} x": each[:, 0], f"{name} y": each[:, 1]}
    table |= {clustering.name: clustering.clusters for clustering in clusterings}
    drawings = _of_pixels(material, rows, points, clusterings[0])
    return Maps(drawings, _classic(material, rows, points["raw"], clusterings[1]), clusterings, pd.DataFrame(table))


def choose_rows(people: Rows | None, count: int, *, seed: int) -> Rows:
    """Rows of the images that are put on a map: all, or some people at random with all their images.

    Args:
        people: Number of the person of each image; None where nobody knows, and images are drawn instead.
        count: How many images there are.
        seed: Of the choice.
    """
    if count <= MOST_MAPPED:
        return np.arange(count)
    generator = np.random.default_rng(seed)
    if people is None:
        return np.sort(generator.choice(count, MOST_MAPPED, replace=False))
    numbers, sizes = np.unique(people, return_counts=True)
    order = generator.permutation(len(numbers))
    taken = numbers[order][np.cumsum(sizes[order]) <= MOST_MAPPED]
    return np.nonzero(np.isin(people, taken if len(taken) else numbers[order[:1]]))[0][:MOST_MAPPED]


def _clusterings(
    material: AuditContext, rows: Rows, vectors: NDArray[np.float32], raw: Points
) -> tuple[Clustering, ...]:
    subsets = np.array([SUBSETS.index(subset) if subset in SUBSETS else -1 for subset in material.subsets[rows]])
    against = {
        "class": material.targets[rows],
        "person": material.people[rows] if material.people is not None else None,
        "subset": subsets if (subsets >= 0).any() else None,
    }
    return (
        Clustering.judged("HDBSCAN of the pixels", hdbscan(vectors), against),
        Clustering.judged("DBSCAN of the raw map", dbscan(raw), against),
    )


def _of_pixels(
    material: AuditContext, rows: Rows, points: dict[str, Points], clustering: Clustering
) -> tuple[Drawing, ...]:
    classes, targets, count = material.manifest.classes, material.targets[rows], len(material.targets)
    whole = " by person" if material.people is not None else ""
    flagged = {flag.sample for flag in flag_outliers(material.images.quality, material.manifest.table["sample"])}
    odd = material.manifest.table["sample"].isin(flagged).to_numpy()[rows]
    chosen = f" {len(rows):,} of {count:,} images, chosen at random{whole}." if len(rows) < count else ""
    pixels = points["pixels"]
    drawings = [
        Drawing(
            "map_by_class",
            "Map by class",
            "t-SNE of the pixels (whitened components): like images are near each other, far distances mean nothing. "
            f"Crosses are quality outliers.{chosen}",
            map_figure(pixels, classes, targets, odd, "Pixels, by class"),
        ),
        *_by_person(material, rows, pixels),
        *_by_part(material, rows, pixels),
        Drawing(
            "map_by_cluster",
            "Map by cluster",
            f"HDBSCAN found {clustering.count:,} clusters in the pixels; gray images are in none. Colours come round "
            "again.",
            cluster_figure(pixels, clustering.clusters, "Pixels, by cluster"),
        ),
    ]
    if "pixels by UMAP" in points:
        words = "The same images by UMAP (15 neighbours, seed 42)."
        figure = map_figure(points["pixels by UMAP"], classes, targets, odd, "Pixels by UMAP, by class")
        drawings.append(Drawing("map_by_umap", "Map by UMAP", words, figure))
    words = "t-SNE of all quality measures, standardised; crosses are the images named as outliers."
    figure = map_figure(points["quality"], classes, targets, odd, "Quality, by class")
    return (*drawings, Drawing("map_of_quality", "Map of quality", words, figure))


def _by_person(material: AuditContext, rows: Rows, points: Points) -> tuple[Drawing, ...]:
    if material.people is None:
        return ()
    people = material.people[rows]
    names, counts = np.unique(people, return_counts=True)
    names = names[counts > 1] if (counts > 1).any() else names
    shown = names[np.linspace(0, len(names) - 1, min(PEOPLE_SHOWN, len(names))).astype(int)]
    numbers = np.select([people == name for name in shown], range(len(shown)), -1)
    told = [f"person {number + 1}" for number in range(len(shown))]
    words = (
        f"The same map with {len(shown)} people coloured; where each is a thread or a few, the images tell who it is."
    )
    figure = map_figure(points, told, numbers, np.zeros(len(rows), bool), "Pixels, by person")
    return (Drawing("map_by_person", "Map by person", words, figure),)


def _by_part(material: AuditContext, rows: Rows, points: Points) -> tuple[Drawing, ...]:
    subsets = material.subsets[rows]
    present = [subset for subset in SUBSETS if (subsets == subset).any()]
    if len(present) < 2:
        return ()
    numbers = np.select([subsets == subset for subset in present], range(len(present)), -1)
    words = "The same map by part. Parts that share no person lie in different threads."
    figure = map_figure(points, present, numbers, np.zeros(len(rows), bool), "Pixels, by part")
    return (Drawing("map_by_part", "Map by part", words, figure),)


def _classic(material: AuditContext, rows: Rows, points: Points, clustering: Clustering) -> tuple[Drawing, ...]:
    odd = (classic_outliers(material.images.quality) > CLASSIC_Z).to_numpy()[rows]
    drawn = map_figure(points, material.manifest.classes, material.targets[rows], odd, "Raw measures, by class")
    words = (
        "t-SNE (perplexity 30, seed 42) of mean, contrast, SNR and entropy as they are, not standardised: the one with "
        f"the largest numbers decides. Crosses: a plain z-score above {CLASSIC_Z:g}."
    )
    clusters = (
        f"DBSCAN (distance 3, 5 points) on that map: {clustering.count:,} clusters, of a map and not of the images. "
        "Gray images are in none."
    )
    return (
        Drawing("map_of_raw_measures", "Map of raw measures", words, drawn),
        Drawing(
            "clusters_of_raw_measures",
            "Clusters of that map",
            clusters,
            cluster_figure(points, clustering.clusters, "Raw measures, by cluster"),
        ),
    )
