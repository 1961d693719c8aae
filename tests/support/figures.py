"""Figures that are left empty: drawing them takes half of the time of a small training with its report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from matplotlib.figure import Figure
from PIL import Image

from gyrus.reporting import figures

_DRAW = figures._draw


@contextmanager
def undrawn() -> Iterator[None]:
    """Figures are made, and saved under their names with their size, for the block, but nothing is drawn into them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "_draw", _draw_nothing)
        yield


@contextmanager
def drawn() -> Iterator[None]:
    """Figures are drawn, for the block within one of :func:`undrawn`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "_draw", _DRAW)
        yield


def _draw_nothing(figure: Figure, target: Path | IO[str], *_: Any, dpi: int = 72, **__: Any) -> None:
    if isinstance(target, Path):
        width, height = (round(inches * dpi) for inches in figure.get_size_inches())
        Image.new("1", (width, height)).save(target, format="png")
    else:
        target.write('<svg xmlns="http://www.w3.org/2000/svg"></svg>')
