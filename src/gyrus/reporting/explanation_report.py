"""The page of an explanation, and its section in the report of a run: heat maps and their checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gyrus.datasets.text_tables import restored
from gyrus.explanation.attribution import Attribution, MeanMaps
from gyrus.explanation.channels import ChannelMaps, ChannelReport
from gyrus.explanation.checks import SAME_MAP, STABLE, ExplanationChecks, MethodReport
from gyrus.explanation.explanation_folder import DisplayedMaps, ExplanationFolder
from gyrus.explanation.localisation import REFERENCES, Localisation
from gyrus.explanation.methods import METHODS, MethodSpec
from gyrus.reporting.figures import (
    COLOURS,
    COLUMN,
    INK,
    MUTED,
    Drawing,
    Picture,
    escape_math,
    figure_style,
    line_styles,
    new_figure,
    save_drawings,
    save_png,
)
from gyrus.reporting.heat_map_figures import (
    COLOUR_MAPS,
    Colours,
    channels_figure,
    grid_figure,
    image_figure,
    means_figure,
    methods_figure,
    middle_overlay,
    montage_figure,
)
from gyrus.reporting.html import write_page

GRID_TITLES = {
    "random": "Random images",
    "best": "Most confident correct predictions",
    "worst": "Most confident wrong predictions",
    "class": "Images of each class",
    "methods": "Images of each class",
}
REGIONS_SHOWN = 12
MOST_IN_SECTION = 4
"""Number of images in the report of a run; the page of the explanation has all."""

VERDICT_COLOURS = {
    "passes all checks": COLOURS[2],
    "fails some checks": COLOURS[4],
    "not better than an edge detector": COLOURS[1],
}


@dataclass(frozen=True)
class ExplanationContent:
    """The content of the page of an explanation.

    Attributes:
        displayed: Which maps are displayed, and how.
        checks: The checks of the maps; None where they were not run.
        map_pictures: Methods side by side, or a grid of the only one.
        grid_pictures: A grid of each method, if there are several.
        mean_pictures: Mean maps.
        volume_pictures: Planes and montages of volumes.
        check_pictures: Figures of the checks.
        regions: Rows of the table of regions: method, region, and fractions as text.
        localisation: The maps against truth; None where it is not known.
        channels: The importance of the channels; None where samples have one file.
        channel_pictures: The attribution by channel.
    """

    displayed: DisplayedMaps
    checks: ExplanationChecks | None
    map_pictures: tuple[Picture, ...]
    grid_pictures: tuple[Picture, ...] = ()
    mean_pictures: tuple[Picture, ...] = ()
    volume_pictures: tuple[Picture, ...] = ()
    check_pictures: tuple[Picture, ...] = ()
    regions: tuple[tuple[str, ...], ...] = ()
    localisation: Localisation | None = None
    channels: ChannelReport | None = None
    channel_pictures: tuple[Picture, ...] = ()

    @property
    def methods(self) -> Mapping[str, MethodSpec]:
        """The table of methods, for their titles."""
        return METHODS

    @property
    def references(self) -> Mapping[str, str]:
        """Titles of the maps that need no network."""
        return REFERENCES

    @property
    def title(self) -> str:
        """Title of the page."""
        return f"{self.displayed.title}: explanation"

    @property
    def target(self) -> str:
        """The class that the maps are about, in words."""
        return _target_words(self.displayed)


def write_explanation(folder: ExplanationFolder) -> Path:
    """Draw the maps, means and checks in the folder of an explanation, and write and return its page."""
    displayed = folder.displayed
    colours = COLOUR_MAPS[displayed.colours]
    maps = {method: folder.attributions(method) for method in displayed.methods}
    save_images(folder, maps, colours)
    checks = ExplanationChecks.load(folder.checks) if folder.checks.is_file() else None
    grids = draw_grids(displayed, maps) if len(maps) > 1 and displayed.grid != "methods" else ()
    content = ExplanationContent(
        displayed=displayed,
        checks=checks,
        map_pictures=save_drawings([draw_maps(displayed, maps)], folder.figures),
        grid_pictures=save_drawings(grids, folder.figures),
        mean_pictures=save_drawings([draw_means(folder, displayed)], folder.figures),
        volume_pictures=save_drawings(draw_volumes(maps, colours), folder.figures),
        check_pictures=save_drawings(draw_checks(checks), folder.figures) if checks else (),
        regions=_regions(folder.regions),
        localisation=Localisation.load(folder.localisation) if folder.localisation.is_file() else None,
        channels=ChannelReport.load(folder.channels) if folder.channels.is_file() else None,
        channel_pictures=save_drawings(draw_channels(folder, colours), folder.figures),
    )
    return write_page(folder.report, "explanation.html.j2", content)


def explanation_section(path: Path) -> ExplanationContent | None:
    """The section of the report of a run on the explanation in this folder; None if it is not finished."""
    folder = ExplanationFolder(path)
    if not folder.is_finished:
        return None
    displayed = folder.displayed
    few = {method: folder.attributions(method)[:MOST_IN_SECTION] for method in displayed.methods}
    checks = ExplanationChecks.load(folder.checks) if folder.checks.is_file() else None
    picture = Picture.from_drawing(draw_maps(displayed, few), "explanation_")
    return ExplanationContent(displayed=displayed, checks=checks, map_pictures=(picture,))


def example_overlays(path: Path) -> Mapping[str, tuple[np.ndarray, float]]:
    """Images overlaid with their heat maps by the first method, by sample; empty if there is no explanation.

    See :func:`gyrus.reporting.heat_map_figures.middle_overlay` for the values.
    """
    folder = ExplanationFolder(path)
    if not folder.is_finished:
        return {}
    displayed = folder.displayed
    colours = COLOUR_MAPS[displayed.colours]
    return {each.sample: middle_overlay(each, colours) for each in folder.attributions(displayed.methods[0])}


def save_images(folder: ExplanationFolder, maps: Mapping[str, Sequence[Attribution]], colours: Colours) -> None:
    """Write a PNG of image and overlay beside each map."""
    for method, attributions in maps.items():
        for number, attribution in enumerate(attributions):
            save_png(image_figure(attribution, colours), folder.attribution(method, number, ".png"))
            if attribution.image.ndim == 3:
                save_png(montage_figure(attribution, colours), folder.attribution(method, number, "-montage.png"))


def draw_maps(displayed: DisplayedMaps, maps: Mapping[str, Sequence[Attribution]]) -> Drawing:
    """Methods side by side, or a grid of the only one."""
    if len(maps) == 1:
        return draw_grids(displayed, maps)[0]
    few = {method: attributions[:MOST_IN_SECTION] for method, attributions in maps.items()}
    figure = methods_figure(few, COLOUR_MAPS[displayed.colours])
    return Drawing("methods", f"{GRID_TITLES[displayed.grid]}, all methods", _caption(maps, displayed), figure)


def draw_grids(displayed: DisplayedMaps, maps: Mapping[str, Sequence[Attribution]]) -> tuple[Drawing, ...]:
    """A grid of each method."""
    return tuple(
        Drawing(
            f"grid_{method.replace('+', 'p').replace('-', '_')}",
            f"{GRID_TITLES[displayed.grid]}, {METHODS[method].title}",
            _caption({method: attributions}, displayed),
            grid_figure(attributions, COLOUR_MAPS[displayed.colours]),
        )
        for method, attributions in maps.items()
    )


def draw_means(folder: ExplanationFolder, displayed: DisplayedMaps) -> Drawing:
    """The mean map of each class."""
    means = {method: MeanMaps.load(folder.means(method)) for method in displayed.methods}
    caption = (
        f"Means over {displayed.averaged} images, each map scaled to the same maximum. In brackets: images of the "
        "class. Differences in head position blur the means."
    )
    return Drawing("means", "Mean map of each class", caption, means_figure(means, COLOUR_MAPS[displayed.colours]))


def draw_volumes(maps: Mapping[str, Sequence[Attribution]], colours: Colours) -> tuple[Drawing, ...]:
    """Three planes and a montage of the first volume; empty for 2D images."""
    method, attributions = next(iter(maps.items()))
    if attributions[0].image.ndim == 2:
        return ()
    title = METHODS[method].title
    planes = "Planes through the hottest voxel. The folder maps holds the other images, and all maps as NIfTI."
    montage = "Axial slices from bottom to top, with slice numbers."
    return (
        Drawing("planes", f"{title} in three planes", planes, image_figure(attributions[0], colours)),
        Drawing("montage", f"{title}, montage", montage, montage_figure(attributions[0], colours)),
    )


def draw_channels(folder: ExplanationFolder, colours: Colours) -> tuple[Drawing, ...]:
    """The attribution by channel of the first images; empty where samples have one file."""
    if not folder.channel_maps.is_file():
        return ()
    caption = (
        "Absolute integrated gradients from the image without any channel. The channels of an image share one scale. "
        "In brackets: share of the channel in the attribution. Volumes: slice with the hottest voxel."
    )
    figure = channels_figure(ChannelMaps.load(folder.channel_maps), colours, most=MOST_IN_SECTION)
    return (Drawing("channels", "Attribution by channel", caption, figure),)


def draw_checks(checks: ExplanationChecks) -> tuple[Drawing, ...]:
    """The figures behind the verdicts."""
    reports = checks.methods
    drawings = [
        Drawing(
            "faithfulness",
            "Faithfulness (deletion and insertion)",
            "Pixels are blurred, or restored, in the order of their heat. A method that finds the relevant pixels "
            f"scores above the edge detector. Lines: 95 % CI over {checks.subjects} subjects.",
            faithfulness_figure(reports),
        ),
        Drawing(
            "cascade",
            "Weight randomisation (sanity check)",
            "Weights are randomised from the head downwards. A map that stays in the shaded area does not depend on "
            "what the network has learned.",
            cascade_figure(reports),
        ),
        Drawing(
            "stability",
            "Stability",
            "Images are changed by noise of 2 % of their range, and shifted by 1/32 of their width. Shaded: the map "
            "changes.",
            stability_figure(reports),
        ),
    ]
    if len(reports) > 1:
        caption = "Rank correlation between maps of the same images. Methods that disagree cannot all be right."
        drawings.append(Drawing("agreement", "Agreement between methods", caption, agreement_figure(checks)))
    return tuple(drawings)


def faithfulness_figure(reports: Sequence[MethodReport]) -> Figure:
    """Insertion minus deletion of each method, relative to an edge detector and to random maps."""
    with figure_style():
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
        axes.set_xlabel("Insertion minus deletion, relative to an edge detector (dot)\nand to random maps (bar)")
        present = [verdict for verdict in VERDICT_COLOURS if any(report.verdict == verdict for report in reports)]
        for verdict in present:
            axes.plot([], [], "o", color=VERDICT_COLOURS[verdict], markersize=5, label=verdict)
        figure.legend(loc="outside upper left", ncols=3)
    return figure


def cascade_figure(reports: Sequence[MethodReport]) -> Figure:
    """Similarity of the maps while the weights are randomised, from the head down."""
    with figure_style():
        figure = new_figure(2 * COLUMN * 0.8, 2.5)
        axes = figure.subplots()
        axes.axhspan(SAME_MAP, 1.02, color=MUTED, alpha=0.12, linewidth=0)
        parts = ("none", *reports[0].weights.parts)
        for name, colour, dashes in line_styles([report.method for report in reports]):
            report = next(each for each in reports if each.method == name)
            values = (1.0, *report.weights.similarities)
            axes.plot(range(len(values)), values, color=colour, linestyle=dashes, label=METHODS[name].title)
        axes.set_xticks(range(len(parts)), parts, rotation=30 if len(parts) > 6 else 0)
        axes.set(ylim=(min(-0.1, axes.get_ylim()[0]), 1.02), ylabel="Rank correlation", xlabel="Randomised down to")
        figure.legend(loc="outside right upper")
    return figure


def agreement_figure(checks: ExplanationChecks) -> Figure:
    """Similarity of the maps of each pair of methods."""
    names = [METHODS[report.method].title for report in checks.methods]
    table = np.array(checks.agreement)
    with figure_style():
        size = max(2.2, 0.34 * len(names) + 0.6)
        figure = new_figure(size + 1.4, size + 1.0)
        axes = figure.subplots()
        axes.imshow(table, cmap="PuOr_r", vmin=-1, vmax=1)
        for row, line in enumerate(table):
            for column, value in enumerate(line):
                shade = "white" if abs(value) > 0.75 else INK
                text = f"{value:z.1f}".replace("-", "−")
                axes.text(column, row, text, ha="center", va="center", fontsize=6, color=shade)
        axes.set_xticks(range(len(names)), [escape_math(name) for name in names], rotation=45, ha="right")
        axes.set_yticks(range(len(names)), [escape_math(name) for name in names])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
    return figure


def stability_figure(reports: Sequence[MethodReport]) -> Figure:
    """Similarity of the maps of slightly changed images."""
    with figure_style():
        figure = new_figure(2 * COLUMN * 0.8, 0.24 * len(reports) + 0.85)
        axes = figure.subplots()
        lowest = min(-0.05, *(each.stability.shift for each in reports))
        axes.axvspan(lowest, STABLE, color=MUTED, alpha=0.12, linewidth=0)
        for row, report in enumerate(reports):
            axes.plot([report.stability.noise, report.stability.shift], [row, row], color=MUTED, linewidth=0.8)
            axes.plot(report.stability.noise, row, "o", color=COLOURS[0], markersize=5)
            axes.plot(report.stability.shift, row, "s", color=COLOURS[1], markersize=4.5)
        axes.plot([], [], "o", color=COLOURS[0], markersize=5, label="noise")
        axes.plot([], [], "s", color=COLOURS[1], markersize=4.5, label="shift")
        axes.set_yticks(range(len(reports)), [METHODS[report.method].title for report in reports])
        axes.set_ylim(len(reports) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("Rank correlation with the map of the unchanged image")
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def _target_words(displayed: DisplayedMaps) -> str:
    words = {"predicted": "the predicted class", "true": "the true class"}
    return words.get(displayed.target, f"'{displayed.target}'")


def _caption(maps: Mapping[str, Sequence[Attribution]], displayed: DisplayedMaps) -> str:
    sentences = [f"Maps for {_target_words(displayed)}. Each map is scaled to its own maximum."]
    if any(METHODS[method].is_signed for method in maps):
        both = "Orange: evidence for the class; blue: evidence against it."
        sentences.append(both if displayed.colours != "jet" else "Red: evidence for the class.")
    if any(attribution.image.ndim == 3 for attributions in maps.values() for attribution in attributions):
        sentences.append("Volumes: slice with the hottest voxel.")
    if displayed.emphasis:
        powers = ", ".join(f"{name} {power:g}" for name, power in displayed.emphasis.items())
        sentences.append(f"Emphasised: maps are raised to a power by class ({powers}).")
    return " ".join(sentences)


def _regions(path: Path) -> tuple[tuple[str, ...], ...]:
    if not path.is_file():
        return ()
    rows = []
    for method, regions in restored(pd.read_csv(path)).groupby("method", sort=False):
        for _, row in regions.head(REGIONS_SHOWN).iterrows():
            fractions = (f"{100 * row[name]:.1f} %" for name in ("map_fraction", "image_fraction"))
            rows.append((METHODS[str(method)].title, str(row["name"]), *fractions, f"{row['concentration']:.2f}"))
    return tuple(rows)
