"""The page of an explanation, and its section in the report of a run: maps, and what the checks say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gyrus.explanation.attribution import Attribution, MethodSpec
from gyrus.explanation.checks import ExplanationChecks
from gyrus.explanation.explanation_folder import DisplayedMaps, ExplanationFolder, MeanMaps
from gyrus.explanation.methods import METHODS
from gyrus.files import atomic_path, write_text
from gyrus.reporting.explanation_check_figures import (
    agreement_figure,
    cascade_figure,
    faithfulness_figure,
    stability_figure,
)
from gyrus.reporting.figure_style import STYLE
from gyrus.reporting.heat_map_figures import (
    COLOUR_MAPS,
    Colours,
    covered,
    grid_figure,
    image_figure,
    means_figure,
    methods_figure,
    montage_figure,
)
from gyrus.reporting.html import report_environment
from gyrus.reporting.report_content import Drawing, Picture

GRID_WORDS = {
    "random": "Images drawn by chance",
    "best": "Most surely right",
    "worst": "Most surely wrong",
    "class": "Images of each class",
    "methods": "Images of each class",
}
REGIONS_SHOWN = 12
MOST_IN_SECTION = 4
"""Images in the report of a run; the page has all."""


@dataclass(frozen=True)
class ExplanationContent:
    """What the page says.

    Attributes:
        showing: What is shown, and how.
        scrutiny: What the checks found out; None where they were not run.
        map_pictures: Methods side by side, or a grid of the only one.
        grid_pictures: A grid of each method, where there are several.
        mean_pictures: Mean maps.
        volume_pictures: Planes and montages of volumes.
        check_pictures: What goes with the checks.
        regions: Rows of the table of regions: method, name, and shares as texts.
    """

    showing: DisplayedMaps
    scrutiny: ExplanationChecks | None
    map_pictures: tuple[Picture, ...]
    grid_pictures: tuple[Picture, ...] = ()
    mean_pictures: tuple[Picture, ...] = ()
    volume_pictures: tuple[Picture, ...] = ()
    check_pictures: tuple[Picture, ...] = ()
    regions: tuple[tuple[str, ...], ...] = ()

    @property
    def methods(self) -> Mapping[str, MethodSpec]:
        """The table of methods, for their titles."""
        return METHODS

    @property
    def title(self) -> str:
        """Of the page."""
        return f"{self.showing.title}: where its answers come from"

    @property
    def about(self) -> str:
        """What was asked about, in words."""
        return _about(self.showing)


def write_explanation(album: ExplanationFolder) -> Path:
    """Draw everything that lies in the folder of an explanation, and write its page.

    Args:
        album: The folder, with its maps, means and checks.

    Returns:
        The page.
    """
    showing = album.showing
    colours = COLOUR_MAPS[showing.colours]
    maps = {method: album.attributions(method) for method in showing.methods}
    save_pictures(album, maps, colours)
    scrutiny = ExplanationChecks.load(album.checks) if album.checks.is_file() else None
    content = ExplanationContent(
        showing=showing,
        scrutiny=scrutiny,
        map_pictures=_saved(album, (draw_maps(showing, maps),)),
        grid_pictures=_saved(album, draw_grids(showing, maps)) if len(maps) > 1 and showing.grid != "methods" else (),
        mean_pictures=_saved(album, draw_means(album, showing)),
        volume_pictures=_saved(album, draw_volumes(maps, colours)),
        check_pictures=_saved(album, draw_checks(scrutiny)) if scrutiny else (),
        regions=_regions(album.regions),
    )
    write_text(album.page, report_environment().get_template("explanation.html.j2").render(content=content))
    return album.page


def section(folder: Path) -> ExplanationContent | None:
    """What the report of a run shows of an explanation; None where there is none.

    Args:
        folder: Of the explanation.
    """
    album = ExplanationFolder(folder)
    if not album.is_whole:
        return None
    showing = album.showing
    few = {method: album.attributions(method)[:MOST_IN_SECTION] for method in showing.methods}
    scrutiny = ExplanationChecks.load(album.checks) if album.checks.is_file() else None
    return ExplanationContent(
        showing=showing,
        scrutiny=scrutiny,
        map_pictures=(Picture.of(draw_maps(showing, few), "explanation_"),),
    )


def example_maps(folder: Path) -> Mapping[str, tuple[np.ndarray, float]]:
    """Images with their maps by the first method, by sample; none where there is no explanation.

    Args:
        folder: Of the explanation.

    Returns:
        As :func:`gyrus.reporting.heat_map_figures.covered` gives them.
    """
    album = ExplanationFolder(folder)
    if not album.is_whole:
        return {}
    showing = album.showing
    colours = COLOUR_MAPS[showing.colours]
    return {each.sample: covered(each, colours) for each in album.attributions(showing.methods[0])}


def save_pictures(album: ExplanationFolder, maps: Mapping[str, Sequence[Attribution]], colours: Colours) -> None:
    """Write a PNG beside each map: the image, and the map over it."""
    for method, attributions in maps.items():
        for number, attribution in enumerate(attributions):
            _save_png(image_figure(attribution, colours), album.attribution(method, number, ".png"))
            if attribution.image.ndim == 3:
                _save_png(montage_figure(attribution, colours), album.attribution(method, number, "-montage.png"))


def draw_maps(showing: DisplayedMaps, maps: Mapping[str, Sequence[Attribution]]) -> Drawing:
    """Methods side by side, or a grid of the only one."""
    if len(maps) == 1:
        return draw_grids(showing, maps)[0]
    few = {method: attributions[:MOST_IN_SECTION] for method, attributions in maps.items()}
    figure = methods_figure(few, COLOUR_MAPS[showing.colours])
    return Drawing("methods", f"{GRID_WORDS[showing.grid]}, by every method", _legend(maps, showing), figure)


def draw_grids(showing: DisplayedMaps, maps: Mapping[str, Sequence[Attribution]]) -> tuple[Drawing, ...]:
    """A grid of each method."""
    return tuple(
        Drawing(
            f"grid_{_file_name(method)}",
            f"{GRID_WORDS[showing.grid]}: {METHODS[method].title}",
            _legend({method: attributions}, showing),
            grid_figure(attributions, COLOUR_MAPS[showing.colours]),
        )
        for method, attributions in maps.items()
    )


def draw_means(album: ExplanationFolder, showing: DisplayedMaps) -> tuple[Drawing, ...]:
    """The mean map of each class."""
    means = {method: MeanMaps.load(album.means(method)) for method in showing.methods}
    caption = (
        f"Means over {showing.averaged} images; each map counts alike, whatever its size. In brackets: images of the "
        "class. Heads that lie differently blur a mean."
    )
    return (Drawing("means", "Mean map of each class", caption, means_figure(means, COLOUR_MAPS[showing.colours])),)


def draw_volumes(maps: Mapping[str, Sequence[Attribution]], colours: Colours) -> tuple[Drawing, ...]:
    """Of volumes, three planes and a montage of the first; nothing of slices."""
    method, attributions = next(iter(maps.items()))
    if attributions[0].image.ndim == 2:
        return ()
    planes = "Three planes through the hottest voxel. The others, and all maps as NIfTI, lie in the folder maps."
    return (
        Drawing("planes", f"{METHODS[method].title} in three planes", planes, image_figure(attributions[0], colours)),
        Drawing(
            "montage",
            f"{METHODS[method].title} from the bottom to the top",
            "Every so many slices; their numbers are in the corners.",
            montage_figure(attributions[0], colours),
        ),
    )


def draw_checks(scrutiny: ExplanationChecks) -> tuple[Drawing, ...]:
    """What goes with the verdicts."""
    reports = scrutiny.methods
    drawings = [
        Drawing(
            "faithfulness",
            "Does the answer hang on the pixels it names?",
            "The hottest pixels are blurred first, or put back first; a method that names what counts gains on both. "
            f"Lines: 95 % intervals over {scrutiny.people} people.",
            faithfulness_figure(reports),
        ),
        Drawing(
            "cascade",
            "Does the map hang on what was learnt?",
            "Weights are shuffled from the head downwards. A map that stays the same, in the shaded area, shows the "
            "image and not the network.",
            cascade_figure(reports),
        ),
        Drawing(
            "stability",
            "Is it the same map when the image hardly changes?",
            "Noise of 2 % of the image's range, and a shift by 1/32 of its length. Shaded: another map.",
            stability_figure(reports),
        ),
    ]
    if len(reports) > 1:
        caption = "Rank correlation of the maps of the same images. Methods that disagree cannot all be right."
        drawings.append(Drawing("agreement", "Do methods agree?", caption, agreement_figure(scrutiny)))
    return tuple(drawings)


def _about(showing: DisplayedMaps) -> str:
    words = {"predicted": "the class that was said", "true": "the true class"}
    return words.get(showing.target, showing.target)


def _legend(maps: Mapping[str, Sequence[Attribution]], showing: DisplayedMaps) -> str:
    sentences = [f"About {_about(showing)}. Each map is scaled by its own largest value."]
    if any(METHODS[method].is_signed for method in maps):
        sentences.append("Orange speaks for it, blue against it." if showing.colours != "jet" else "Red speaks for it.")
    if any(attribution.image.ndim == 3 for attributions in maps.values() for attribution in attributions):
        sentences.append("Of volumes the slice with the hottest voxel.")
    if showing.emphasis:
        powers = ", ".join(f"{name} {power:g}" for name, power in showing.emphasis.items())
        sentences.append(f"Emphasised: maps are raised to a power by class ({powers}).")
    return " ".join(sentences)


def _regions(path: Path) -> tuple[tuple[str, ...], ...]:
    if not path.is_file():
        return ()
    table = pd.read_csv(path)
    rows = []
    for method, regions in table.groupby("method", sort=False):
        for _, row in regions.head(REGIONS_SHOWN).iterrows():
            shares = (f"{row[name]:.1%}" for name in ("share", "voxels"))
            rows.append((METHODS[str(method)].title, str(row["name"]), *shares, f"{row['concentration']:.2f}"))
    return tuple(rows)


def _saved(album: ExplanationFolder, drawings: tuple[Drawing, ...]) -> tuple[Picture, ...]:
    for drawing in drawings:
        drawing.save(album.figures)
    return tuple(Picture.of(drawing) for drawing in drawings)


def _save_png(figure: Figure, path: Path) -> None:
    with mpl.rc_context(STYLE), atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, metadata={"Software": None})


def _file_name(method: str) -> str:
    return method.replace("+", "p").replace("-", "_")
