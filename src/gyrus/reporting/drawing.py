"""Figures with title and caption: as files (PNG, SVG) and as inline SVG of a page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from gyrus.files import atomic_path, write_text
from gyrus.reporting.figure_style import COLUMN, INK, STYLE, WARNING


@dataclass(frozen=True)
class Drawing:
    """A figure with its title and caption.

    Attributes:
        name: File name without suffix, unique in a report: lower-case letters, digits and underscores.
        title: Title.
        caption: How to read the figure.
        figure: The matplotlib figure.
    """

    name: str
    title: str
    caption: str
    figure: Figure

    @cached_property
    def svg(self) -> str:
        """The figure as an SVG document without a background."""
        return draw_svg(self.figure)

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write as PNG and SVG."""
        png, svg = folder / f"{self.name}.png", folder / f"{self.name}.svg"
        save_png(self.figure, png)
        write_text(svg, _on_white(self.svg))
        return png, svg


@dataclass(frozen=True)
class Picture:
    """A drawing inside a page; ``svg`` is an SVG element, ``is_wide`` drawings take the whole width of the page."""

    title: str
    caption: str
    svg: str
    is_wide: bool = False

    @classmethod
    def from_drawing(cls, drawing: Drawing, prefix: str = "") -> Picture:
        """Embed a drawing; ``prefix`` keeps the element ids of several runs in one page apart."""
        is_wide = drawing.figure.get_figwidth() > 1.3 * COLUMN
        return cls(drawing.title, drawing.caption, _inline(drawing.svg, prefix + drawing.name), is_wide)


def save_drawings(drawings: Iterable[Drawing], folder: Path, prefix: str = "") -> tuple[Picture, ...]:
    """Write drawings into a folder and return them as pictures for a page."""
    drawings = tuple(drawings)
    for drawing in drawings:
        drawing.save(folder)
    return tuple(Picture.from_drawing(drawing, prefix) for drawing in drawings)


def save_png(figure: Figure, path: Path) -> None:
    """Write a figure at 150 dpi, atomically; the same figure gives the same bytes."""
    with atomic_path(path) as temporary:
        _draw(figure, temporary, dpi=150, metadata={"Software": None})


def draw_svg(figure: Figure) -> str:
    """The figure as an SVG document without a background; the same figure gives the same text."""
    text = io.StringIO()
    _draw(figure, text, format="svg", transparent=True, metadata={"Date": None})
    return text.getvalue()


def _on_white(svg: str) -> str:
    """An SVG document of :func:`draw_svg` with a white background, for a file."""
    start = svg.index(">", svg.index("<svg")) + 1
    return f'{svg[:start]}\n <rect width="100%" height="100%" fill="#ffffff"/>{svg[start:]}'


def _inline(svg: str, name: str) -> str:
    """An SVG document of :func:`draw_svg` as an element of a page, in the text and warning colours of the page.

    Args:
        svg: The document.
        name: Unique in the page; prefixes all ids, so that no two figures share any.
    """
    svg = re.sub(
        r"<metadata>.*?</metadata>|\s?xmlns(:xlink)?=\"[^\"]*\"", "", svg[svg.index("<svg") :], flags=re.DOTALL
    )
    svg = svg.replace(INK, "currentColor").replace(WARNING, "var(--warn)").replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", svg)


def _draw(figure: Figure, target: Path | IO[str], **how: Any) -> None:
    with mpl.rc_context(STYLE):
        figure.savefig(target, **how)
    # The layout is fixed after the first drawing; computing it again would take half of the time of each drawing.
    figure.set_layout_engine("none")
