"""The folder that an explanation leaves behind: maps, means, checks, and how they are to be shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gyrus.errors import DataError
from gyrus.explanation.attribution import Attribution
from gyrus.files import atomic_path, read_json, write_json

SCHEMA = "gyrus.album/1"


@dataclass(frozen=True)
class DisplayedMaps:
    """What is shown, and how.

    Attributes:
        title: Name of the run.
        grid: How the images were chosen: random, best, worst, class or methods.
        target: What was asked about, in words.
        methods: Names in the table of methods.
        shown: Names of the images, in their order.
        colours: Colour map.
        layer: The layer of class activation maps; None where no method looks at one.
        emphasis: Power of each class's maps, where there is any.
        averaged: How many images the mean maps are made of.
        notes: What a reader must know.
    """

    title: str
    grid: str
    target: str
    methods: tuple[str, ...]
    shown: tuple[str, ...]
    colours: str
    layer: str | None = None
    emphasis: Mapping[str, float] | None = None
    averaged: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExplanationFolder:
    """The folder and the names of what lies in it."""

    folder: Path

    @property
    def page(self) -> Path:
        """The page for people, HTML."""
        return self.folder / "explanation.html"

    @property
    def checks(self) -> Path:
        """What the checks found out, JSON; see :class:`gyrus.explanation.checks.ExplanationChecks`."""
        return self.folder / "checks.json"

    @property
    def regions(self) -> Path:
        """The attribution by region, CSV."""
        return self.folder / "regions.csv"

    @property
    def figures(self) -> Path:
        """Folder of the figures, PNG and SVG."""
        return self.folder / "figures"

    @property
    def work(self) -> Path:
        """Folder of what was computed already, so that a broken-off call goes on."""
        return self.folder / "work"

    def attribution(self, method: str, number: int, suffix: str = ".npz") -> Path:
        """The map of the shown image of that number."""
        return self.folder / "maps" / method / f"{number + 1:02d}{suffix}"

    def means(self, method: str) -> Path:
        """The mean map of each class, NumPy: ``classes``, ``counts``, ``images`` and ``maps`` on the network's grid."""
        return self.folder / "means" / f"{method}.npz"

    def attributions(self, method: str) -> list[Attribution]:
        """The maps of the shown images, in their order."""
        return [Attribution.load(self.attribution(method, number)) for number in range(len(self.showing.shown))]

    @property
    def showing(self) -> DisplayedMaps:
        """What is shown, and how.

        Raises:
            DataError: The folder holds no explanation.
        """
        path = self.folder / "album.json"
        document: Any = read_json(path) if path.is_file() else None
        if not isinstance(document, dict) or document.get("schema") != SCHEMA:
            raise DataError(f"There is no explanation in {self.folder}. Make one with: gyrus explain RUN.")
        fields = {name: document[name] for name in DisplayedMaps.__dataclass_fields__}
        lists = ("methods", "shown", "notes")
        return DisplayedMaps(**fields | {name: tuple(fields[name]) for name in lists})

    def save_showing(self, showing: DisplayedMaps) -> None:
        """Write what is shown; last of all, so that the folder is whole once it is there."""
        fields = {name: getattr(showing, name) for name in DisplayedMaps.__dataclass_fields__}
        write_json(self.folder / "album.json", {"schema": SCHEMA, **fields})

    @property
    def is_whole(self) -> bool:
        """Whether an explanation was finished here."""
        return (self.folder / "album.json").is_file()


@dataclass(frozen=True, eq=False)
class MeanMaps:
    """The mean map of each class.

    Attributes:
        classes: Names, of those that there are images of.
        counts: Images of each.
        images: float32 (K, *spatial), the mean image of each, 0 to 255.
        maps: float32 (K, *spatial), the mean of the scaled maps of each.
    """

    classes: tuple[str, ...]
    counts: tuple[int, ...]
    images: np.ndarray
    maps: np.ndarray

    def save(self, path: Path) -> None:
        """Write as .npz."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file, classes=np.array(self.classes), counts=np.array(self.counts), images=self.images, maps=self.maps
            )

    @classmethod
    def load(cls, path: Path) -> MeanMaps:
        """Read what :meth:`save` wrote."""
        with np.load(path, allow_pickle=False) as saved:
            names = tuple(str(name) for name in saved["classes"])
            return cls(names, tuple(map(int, saved["counts"])), saved["images"], saved["maps"])
