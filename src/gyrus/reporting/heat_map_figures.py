"""Figures of heat maps: single images, grids, methods side by side, mean maps, volumes."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure, SubFigure

from gyrus.evaluation.result import percent
from gyrus.explanation.attribution import SATURATED_FRACTION, Attribution, MeanMaps, scaled
from gyrus.explanation.channels import ChannelMaps, shares_of
from gyrus.explanation.methods import METHODS
from gyrus.imaging.orientation import PLANES, slices_along
from gyrus.reporting.figures import COLUMN, INK, WARNING, escape_math, figure_style, new_figure

SIGNED_COLOUR_MAP = LinearSegmentedColormap.from_list("signed", ["#9AD7FF", "#0072B2", "#000000", "#D55E00", "#FFE15A"])
"""Blue: evidence against; orange: evidence for; black in between, because white would brighten the background."""


@dataclass(frozen=True)
class Colours:
    """Colour maps, and how they are overlaid on an image.

    Attributes:
        hot: For maps from 0 to 1.
        signed: For maps from -1 to 1; None for :data:`SIGNED_COLOUR_MAP`.
        opacity: Opacity of the hottest pixels.
        fades: Whether cold pixels are transparent.
    """

    hot: str
    signed: str | None = None
    opacity: float = 0.8
    fades: bool = True


COLOUR_MAPS: dict[str, Colours] = {
    "inferno": Colours("inferno"),
    "magma": Colours("magma"),
    "viridis": Colours("viridis"),
    "cividis": Colours("cividis"),
    "jet": Colours("jet", "coolwarm", opacity=0.5, fades=False),
}
"""All except jet are readable for colour-blind readers and in greyscale."""

_FADE = 0.6
"""Opacity is heat to this power; below 1, so that warm pixels stay visible."""

_IN_A_ROW = 8
_MONTAGE = 16


def overlay(image: np.ndarray, heat: np.ndarray, colours: Colours, *, is_signed: bool) -> np.ndarray:
    """Overlay a map on its image.

    Args:
        image: 0 to 255, (rows, columns).
        heat: 0 to 1, or -1 to 1 where signed, (rows, columns).
        colours: Colour maps and opacity.
        is_signed: Whether the map has negative values.

    Returns:
        float (rows, columns, 3), 0 to 1.
    """
    gray = np.repeat(np.asarray(image, np.float64)[..., None] / 255, 3, axis=-1)
    shades = _colour_map(colours, is_signed=is_signed)((heat + 1) / 2 if is_signed else heat)
    strength = np.abs(heat) ** _FADE if colours.fades else np.ones_like(heat)
    opacity = (colours.opacity * strength)[..., None]
    return gray * (1 - opacity) + shades[..., :3] * opacity


def middle_overlay(attribution: Attribution, colours: Colours) -> tuple[np.ndarray, float]:
    """The image overlaid with its map; for a volume, the axial slice with the hottest voxel.

    Returns:
        float (rows, columns, 3), 0 to 1, and the ratio of pixel height to pixel width.
    """
    view = _planes(attribution)[0]
    return overlay(view.image, view.heat, colours, is_signed=attribution.is_signed), view.aspect


def image_figure(attribution: Attribution, colours: Colours) -> Figure:
    """One image beside its overlay, with colour bar, class and probability; for a volume, three planes."""
    planes = _planes(attribution)
    with figure_style():
        width = 1.55 * max(2, len(planes)) + 0.55
        rows = 2 if len(planes) > 1 else 1
        figure = new_figure(width, 1.55 * rows + 0.75)
        panels = figure.subplots(rows, max(2, len(planes)), squeeze=False)
        pairs = zip(panels[0], panels[1], strict=True) if rows == 2 else [(panels[0][0], panels[0][1])]
        for (left, right), plane in zip(pairs, planes, strict=True):
            _show(left, plane.image, plane.aspect)
            _show(right, overlay(plane.image, plane.heat, colours, is_signed=attribution.is_signed), plane.aspect)
            if len(planes) > 1:
                left.set_title(plane.name, fontsize=7, fontweight="normal", loc="center")
        _colour_bar(figure, list(panels.ravel()), attribution, colours)
        figure.suptitle(escape_math(_long_title(attribution)), fontsize=7.5, x=0.02, ha="left", color=_ink(attribution))
    return figure


def grid_figure(attributions: Sequence[Attribution], colours: Colours, columns: int = 4) -> Figure:
    """Images, each beside its overlay, with true and predicted class."""
    columns = min(columns, len(attributions))
    rows = -(-len(attributions) // columns)
    with figure_style():
        figure = new_figure(2 * COLUMN * columns / 4 + 0.55, rows * (COLUMN / 4 + 0.36))
        panels = figure.subplots(rows, 2 * columns, squeeze=False)
        for axes in panels.ravel():
            axes.set_axis_off()
        for number, attribution in enumerate(attributions):
            row, column = divmod(number, columns)
            left, right = panels[row, 2 * column : 2 * column + 2]
            view = _planes(attribution)[0]
            _show(left, view.image, view.aspect)
            _show(right, *middle_overlay(attribution, colours))
            left.set_title(
                escape_math(_short_title(attribution)),
                fontsize=6,
                fontweight="normal",
                loc="left",
                color=_ink(attribution),
            )
        _colour_bar(figure, list(panels.ravel()), attributions[0], colours)
    return figure


def methods_figure(maps: Mapping[str, Sequence[Attribution]], colours: Colours) -> Figure:
    """Each image beside its overlays by all methods."""
    images = len(next(iter(maps.values())))
    lines = -(-(len(maps) + 1) // _IN_A_ROW)
    columns = -(-(len(maps) + 1) // lines)
    across = min(images, max(1, _IN_A_ROW // columns))
    down = -(-images // across)
    size = 2 * COLUMN / max(columns * across, 5)
    with figure_style():
        figure = new_figure(size * columns * across + 0.1, ((size + 0.3) * lines + 0.2) * down)
        blocks = figure.subfigures(down, across, squeeze=False)
        for number, block in enumerate(blocks.ravel()[:images]):
            of_image = {method: attributions[number] for method, attributions in maps.items()}
            _methods_block(block, of_image, colours, (lines, columns))
    return figure


def means_figure(means: Mapping[str, MeanMaps], colours: Colours) -> Figure:
    """The mean image of each class above its mean maps, one row per method."""
    first = next(iter(means.values()))
    count = len(first.classes)
    size = min(1.5 if len(means) < 4 else 0.9, 2 * COLUMN / count)
    with figure_style():
        figure = new_figure(size * count + 1.1, (size + 0.12) * (len(means) + 1) + 0.25)
        panels = figure.subplots(len(means) + 1, count, squeeze=False)
        for column in range(count):
            middle = _middle(first.images[column], first.images[column])
            _show(panels[0, column], middle[0])
            _name(panels[0, column], f"{first.classes[column]} ({first.counts[column]:,})")
        panels[0, 0].set_ylabel("mean image", fontsize=6)
        for row, (method, mean) in enumerate(means.items(), 1):
            is_signed = METHODS[method].is_signed
            for column in range(count):
                heat = scaled(
                    mean.maps[column], is_signed=is_signed, saturated=SATURATED_FRACTION if is_signed else 0.0
                )
                image, hot = _middle(mean.images[column], heat)
                _show(panels[row, column], overlay(image, hot, colours, is_signed=is_signed))
            panels[row, 0].set_ylabel(_wrapped(METHODS[method].title), fontsize=6)
    return figure


def channels_figure(found: ChannelMaps, colours: Colours, *, most: int) -> Figure:
    """The channels of images, one row per image, overlaid with their absolute attribution on one scale per image."""
    count, channels = min(most, len(found.samples)), len(found.channels)
    size = min(1.7, 2 * COLUMN / channels)
    with figure_style():
        figure = new_figure(size * channels + 0.3, (size + 0.32) * count + 0.1)
        panels = figure.subplots(count, channels, squeeze=False)
        for row in range(count):
            heat = scaled(np.abs(found.maps[row]), is_signed=False, saturated=SATURATED_FRACTION / channels)
            shares = shares_of(found.maps[row : row + 1])[0]
            place = int(heat.max(axis=(0, 2, 3)).argmax()) if heat.ndim == 4 else 0
            for column, name in enumerate(found.channels):
                pixels, hot = found.pixels[row, column], heat[column]
                if hot.ndim == 3:
                    pixels, hot = pixels[place], hot[place]
                _show(panels[row, column], overlay(pixels, hot, colours, is_signed=False))
                there = percent(float(shares[column])) if found.pixels[row, column].any() else "missing"
                _name(panels[row, column], f"{name} ({there})")
            sample = found.samples[row]
            panels[row, 0].set_ylabel(escape_math(sample if len(sample) < 30 else f"…{sample[-28:]}"), fontsize=5.5)
    return figure


def montage_figure(attribution: Attribution, colours: Colours) -> Figure:
    """Axial slices of a volume with their maps, from bottom to top."""
    depth = len(attribution.image)
    chosen = np.unique(np.linspace(0, depth - 1, min(_MONTAGE, depth)).round().astype(int))
    columns = min(8, len(chosen))
    rows = -(-len(chosen) // columns)
    with figure_style():
        figure = new_figure(2 * COLUMN, rows * (2 * COLUMN / columns + 0.05) + 0.3)
        panels = figure.subplots(rows, columns, squeeze=False)
        for axes in panels.ravel():
            axes.set_axis_off()
        heat, aspect = attribution.heat, _aspects(attribution)["axial"]
        for axes, number in zip(panels.ravel(), chosen, strict=False):
            coloured = overlay(attribution.image[number], heat[number], colours, is_signed=attribution.is_signed)
            _show(axes, coloured, aspect)
            axes.text(0.04, 0.04, str(number + 1), transform=axes.transAxes, fontsize=5.5, color="white")
        figure.suptitle(escape_math(_long_title(attribution)), fontsize=7.5, x=0.02, ha="left", color=_ink(attribution))
    return figure


@dataclass(frozen=True, eq=False)
class _View:
    """A 2D view of an image and its map: the image itself, or a plane of a volume."""

    image: np.ndarray
    heat: np.ndarray
    name: str = ""
    aspect: float = 1.0


def _methods_block(block: SubFigure, maps: Mapping[str, Attribution], colours: Colours, shape: tuple[int, int]) -> None:
    """One image and its overlays by all methods, below a title."""
    panels = block.subplots(*shape, squeeze=False).ravel()
    for axes in panels:
        axes.set_axis_off()
    first = next(iter(maps.values()))
    view = _planes(first)[0]
    _show(panels[0], view.image, view.aspect)
    _name(panels[0], "image")
    words = _short_title(first).replace("\n", ", ")
    block.suptitle(escape_math(words), fontsize=7, fontweight="bold", x=0.01, ha="left", color=_ink(first))
    for axes, (method, attribution) in zip(panels[1:], maps.items(), strict=False):
        _show(axes, *middle_overlay(attribution, colours))
        _name(axes, _wrapped(METHODS[method].title))


def _colour_map(colours: Colours, *, is_signed: bool) -> Colormap:
    name = colours.signed if is_signed else colours.hot
    return SIGNED_COLOUR_MAP if name is None else mpl.colormaps[name]


def _planes(attribution: Attribution) -> list[_View]:
    """The image itself, or three planes of a volume through its hottest voxel, the axial one first."""
    image, heat = attribution.image, attribution.heat
    if image.ndim == 2:
        return [_View(image, heat)]
    hottest = np.unravel_index(np.abs(heat).argmax(), heat.shape)
    places = np.zeros(heat.shape, bool)
    places[hottest] = True
    views, aspects = [], _aspects(attribution)
    for plane in PLANES:
        number = int(slices_along(places, plane).any(axis=(1, 2)).argmax())
        count = len(slices_along(places, plane))
        name = f"{plane} {number + 1} of {count}"
        views.append(_View(slices_along(image, plane)[number], slices_along(heat, plane)[number], name, aspects[plane]))
    return views


def _aspects(attribution: Attribution) -> dict[str, float]:
    """Ratio of voxel height to voxel width in each plane."""
    if attribution.affine is None:
        return dict.fromkeys(PLANES, 1.0)
    slices, rows, columns = np.linalg.norm(attribution.affine[:3, :3], axis=0).tolist()
    return {"axial": rows / columns, "coronal": slices / columns, "sagittal": slices / rows}


def _middle(image: np.ndarray, heat: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The image itself, or the slice of a volume with the most heat."""
    if image.ndim == 2:
        return image, heat
    number = int(np.abs(heat).sum(axis=(1, 2)).argmax())
    return image[number], heat[number]


def _show(axes: Axes, picture: np.ndarray, aspect: float = 1.0) -> None:
    limits = {"cmap": "gray", "vmin": 0, "vmax": 255} if picture.ndim == 2 else {}
    axes.imshow(picture, interpolation="antialiased", aspect=aspect, **limits)  # type: ignore[arg-type]
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _wrapped(title: str) -> str:
    return "\n".join(textwrap.wrap(title, 15, break_long_words=False))


def _name(axes: Axes, text: str, colour: str = INK) -> None:
    axes.set_title(escape_math(text), fontsize=6, fontweight="normal", loc="center", color=colour)


def _colour_bar(figure: Figure, panels: list[Axes], attribution: Attribution, colours: Colours) -> None:
    low = -1 if attribution.is_signed else 0
    shades = ScalarMappable(Normalize(low, 1), _colour_map(colours, is_signed=attribution.is_signed))
    bar = figure.colorbar(shades, ax=panels, fraction=0.05, pad=0.02, shrink=0.9, aspect=22)
    bar.set_ticks([low, 1] if low == 0 else [-1, 0, 1])
    bar.set_ticklabels(["0", "max"] if low == 0 else ["against", "0", "for"], fontsize=6)
    if attribution.emphasis != 1:
        bar.set_label(f"emphasised (power {attribution.emphasis:g})", fontsize=6)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)


def _is_wrong(attribution: Attribution) -> bool:
    wrong = attribution.truth is not None and attribution.truth != attribution.predicted
    return wrong and attribution.number is None


def _ink(attribution: Attribution) -> str:
    return WARNING if _is_wrong(attribution) else INK


def _prediction(attribution: Attribution) -> str:
    if attribution.number is not None:
        return f"{attribution.predicted} {attribution.number:.1f}"
    return f"{attribution.predicted} {percent(float(attribution.probabilities.max()))}"


def _short_title(attribution: Attribution) -> str:
    lines = [f"predicted {_prediction(attribution)}"]
    if attribution.truth is not None:
        number = attribution.number is not None
        lines.insert(0, f"true {attribution.truth}" if number or _is_wrong(attribution) else "correct")
    if attribution.emphasis != 1:
        lines.append(f"power {attribution.emphasis:g}")
    return "\n".join(lines)


def _long_title(attribution: Attribution) -> str:
    kind = "true class" if attribution.number is None else "true"
    truth = f", {kind} {attribution.truth}" if attribution.truth is not None else ""
    about = f"{METHODS[attribution.method].title} for {attribution.target}"
    where = f", layer {attribution.layer}" if attribution.layer else ""
    name = attribution.sample if len(attribution.sample) < 48 else f"…{attribution.sample[-46:]}"
    return f"{name}\npredicted {_prediction(attribution)}{truth}\n{about}{where}"
