"""The common style of all figures, and figures with title and caption: as PNG and SVG files and inside a page."""

from __future__ import annotations

import io
import re
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import cycle
from pathlib import Path
from typing import IO, Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import Formatter, FuncFormatter

from gyrus.evaluation.result import Estimate
from gyrus.files import atomic_path, write_text

COLUMN = 3.5
"""Width of a figure in inches: one column of a journal, 89 mm."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F6A00")
INK, MUTED, WARNING = "#1b1f23", "#767d86", "#c24a00"
"""The colours are those of Okabe and Ito 2008, "Color universal design"."""

WARNING_HEIGHT = 0.32
"""Height in inches of a warning above a figure."""

OTHER_FONTS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei"),
    *("Droid Sans Fallback", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB", "Malgun Gothic"),
    *("Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Noto Emoji"),
    *("Segoe UI Symbol", "Arial Unicode MS", "Unifont"),
)
"""Fonts of other scripts, tried in this order where DejaVu Sans has no glyph."""

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
    "figure.autolayout": False,
    "figure.constrained_layout.use": False,
    "svg.hashsalt": "gyrus",
    # What a browser without DejaVu Sans uses: Verdana has nearly the same widths.
    "font.sans-serif": ["DejaVu Sans", "Verdana"],
}

_settings = threading.RLock()
"""Held while the settings of matplotlib, which all threads share, are those of Gyrus: two threads that changed and
restored them in turn would leave one's settings to the other."""


@contextmanager
def figure_style() -> Iterator[None]:
    """The style of all figures, for the block in which one is made or drawn; other threads wait for its end."""
    with _settings, mpl.rc_context({**STYLE, "font.family": (*font_family(), "sans-serif")}):
        yield


def new_figure(width: float, height: float, warning: str = "") -> Figure:
    """An empty figure of this width and height in inches, with automatic layout; a warning goes above it."""
    size = (width, height + WARNING_HEIGHT * bool(warning))
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06))
    if warning:
        figure.suptitle(warning.replace(": ", ":\n", 1), color=WARNING, fontsize=7, x=0.02, ha="left")
    return figure


def line_styles(names: Sequence[str], colours: Sequence[str] = COLOURS) -> list[tuple[str, str, Any]]:
    """Name, colour and dashes of each line; the dashes change when the colours repeat."""
    dashes = ["-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1))]
    pairs = cycle([(colour, dash) for dash in dashes for colour in colours])
    return [(name, *pair) for name, pair in zip(names, pairs, strict=False)]


def escape_math(text: str) -> str:
    """Escape dollar signs, which matplotlib would read as mathematics."""
    return text.replace("$", r"\$")


def plot_estimate(axes: Axes, height: float, estimate: Estimate, colour: str) -> None:
    """A score as a dot with its interval, in a row of a figure."""
    if estimate.value is None:
        axes.text(0.02, height, "undefined", va="center", color=MUTED, fontsize=7)
        return
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [height] * 2, color=colour, linewidth=1.6, alpha=0.55)
    axes.plot(estimate.value, height, "o", color=colour, markersize=4.5, clip_on=False, zorder=3)


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
    def marks(self) -> dict[str, str]:
        """:func:`names_without_glyphs` of the figure."""
        return names_without_glyphs(self.figure)

    @cached_property
    def svg(self) -> str:
        """The figure as an SVG document without a background."""
        return draw_svg(self.figure)

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write as PNG and SVG."""
        png, svg = folder / f"{self.name}.png", folder / f"{self.name}.svg"
        save_png(self.figure, png, self.marks)
        start = self.svg.index(">", self.svg.index("<svg")) + 1
        white = '\n <rect width="100%" height="100%" fill="#ffffff"/>'
        write_text(svg, self.svg[:start] + white + self.svg[start:])
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
    """Write drawings into a folder and return them as pictures for a page, whose captions explain marks in the PNG."""
    drawings = tuple(drawings)
    for drawing in drawings:
        drawing.save(folder)
    pictures = ((Picture.from_drawing(drawing, prefix), key_to_marks(drawing.marks)) for drawing in drawings)
    return tuple(replace(picture, caption=f"{picture.caption} {key}".rstrip()) for picture, key in pictures)


def save_png(figure: Figure, path: Path, marks: Mapping[str, str] | None = None) -> None:
    """Write a figure at 150 dpi, atomically; the same figure gives the same bytes.

    Its field Description explains marks that stand for characters without a glyph: :func:`names_without_glyphs`, where
    they are known.
    """
    marks = names_without_glyphs(figure) if marks is None else marks
    about = {"Software": None, "Description": key_to_marks(marks) or None}
    with atomic_path(path) as temporary:
        _draw(figure, temporary, marks, dpi=150, metadata=about)


def draw_svg(figure: Figure) -> str:
    """The figure as an SVG document without a background; the same figure gives the same text."""
    text = io.StringIO()
    _draw(figure, text, {}, format="svg", transparent=True, metadata={"Date": None})
    return text.getvalue()


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


def names_without_glyphs(figure: Figure) -> dict[str, str]:
    """What a PNG shows instead of characters that no font of :func:`font_family` contains.

    Returns:
        By sequence of such characters a short mark, "[1]", "[2]" and so on.
    """
    texts = [each.get_text() for each in figure.findobj(Text)]
    for axis in _axes(figure):
        texts += axis.get_major_formatter().format_ticks(list(axis.get_majorticklocs()))
    found = {part for text in texts for part in _without_glyphs().findall(text)}
    return {part: f"[{number}]" for number, part in enumerate(sorted(found), 1)}


def key_to_marks(marks: Mapping[str, str]) -> str:
    """What the marks in the PNG of a figure stand for; empty if the fonts contain all characters."""
    pairs = ", ".join(f"{mark} for {name}" for name, mark in marks.items())
    return f"The PNG file shows {pairs}: no installed font contains these characters." if marks else ""


def _legible(marks: Mapping[str, str], text: str) -> str:
    """A text with marks for what has no glyph; a variation selector of an emoji is not drawn."""
    return _without_glyphs().sub(lambda match: marks[match[0]], text).replace("\ufe0f", "")


def _axes(figure: Figure) -> list[Axis]:
    return [axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)]


@cache
def font_family() -> tuple[str, ...]:
    """DejaVu Sans, which comes with matplotlib, and fonts for other scripts that are installed on this system."""
    installed = set(font_manager.get_font_names())
    return ("DejaVu Sans", *(name for name in OTHER_FONTS if name in installed))


@cache
def _without_glyphs() -> re.Pattern[str]:
    """Sequences of characters that the fonts do not contain."""
    paths = [font_manager.findfont(name) for name in font_family()]
    known = frozenset().union(*(font_manager.get_font(path).get_charmap() for path in paths))
    letters = "".join(re.escape(chr(code)) for code in sorted(known) if not 0xD800 <= code < 0xE000)
    return re.compile(f"[^{letters}\\s\ufe0f]+")


@contextmanager
def _legible_texts(figure: Figure, marks: Mapping[str, str]) -> Iterator[None]:
    """Texts of the figure with the marks of :func:`names_without_glyphs`, for the block.

    Tick labels are made anew by their formatter at each drawing.
    """
    texts = [(each, each.get_text()) for each in figure.findobj(Text)] if marks else []
    labels = [(axis, axis.get_major_formatter()) for axis in _axes(figure)] if marks else []
    try:
        for each, text in texts:
            if _legible(marks, text) != text:
                each.set_text(_legible(marks, text))
        for axis, formatter in labels:
            if any(_legible(marks, text) != text for text in formatter.format_ticks(list(axis.get_majorticklocs()))):
                axis.set_major_formatter(FuncFormatter(partial(_legible_tick, marks, formatter)))
        yield
    finally:
        for each, text in texts:
            if each.get_text() != text:
                each.set_text(text)
        for axis, formatter in labels:
            if axis.get_major_formatter() is not formatter:
                axis.set_major_formatter(formatter)


def _legible_tick(marks: Mapping[str, str], formatter: Formatter, value: float, position: int | None = None) -> str:
    return _legible(marks, formatter(value, position))


def _draw(figure: Figure, target: Path | IO[str], marks: Mapping[str, str], **how: Any) -> None:
    """Write a figure. In an SVG, names stay text, which the browser draws with its own fonts."""
    with figure_style(), warnings.catch_warnings(), _legible_texts(figure, marks):
        # The layout of an SVG needs the width of every character, also of those that only the browser can draw.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        # The layout is computed once, and here: savefig would draw the figure an additional time for it.
        if (layout := figure.get_layout_engine()) is not None:
            figure.set_dpi(how.get("dpi", 72))  # of an SVG: 72
            layout.execute(figure)
            figure.set_layout_engine(None)  # not "none", for which savefig draws the figure an additional time too
        figure.savefig(target, **how)
