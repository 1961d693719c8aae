"""The folder of an explanation: heat maps, mean maps, checks and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gyrus.errors import DataError
from gyrus.explanation.attribution import Attribution
from gyrus.explanation.channels import ChannelReport
from gyrus.explanation.checks import ExplanationChecks
from gyrus.explanation.localisation import Localisation
from gyrus.serialisation import Saved
from gyrus.text import one_per_line


@dataclass(frozen=True)
class DisplayedMaps(Saved):
    """Which maps are displayed, and how.

    Attributes:
        title: Name of the run.
        grid: How the images were selected: random, best, worst, class or methods.
        target: Description of the class that the maps are about.
        methods: Names of the methods.
        shown: Names of the images, in order.
        colours: Colour map.
        layer: Layer of class activation maps; None if no method uses one.
        emphasis: Power of each class's maps, if any.
        averaged: Number of images of the mean maps.
        notes: Notes for the reader.
    """

    SCHEMA = "gyrus.displayed-maps/1"
    FORMER_SCHEMAS = ("gyrus.album/1",)

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
    """The folder of an explanation and the names of its files."""

    folder: Path

    @property
    def report(self) -> Path:
        """The report, HTML."""
        return self.folder / "explanation.html"

    @property
    def checks(self) -> Path:
        """The checks, JSON; see :class:`gyrus.explanation.checks.ExplanationChecks`."""
        return self.folder / "checks.json"

    @property
    def regions(self) -> Path:
        """The attribution by region, CSV."""
        return self.folder / "regions.csv"

    @property
    def localisation(self) -> Path:
        """The maps against truth, JSON; see :class:`gyrus.explanation.localisation.Localisation`."""
        return self.folder / "localisation.json"

    @property
    def localisation_by_image(self) -> Path:
        """The same for each image, CSV; see :func:`gyrus.explanation.localisation.localisation_table`."""
        return self.folder / "localisation.csv"

    @property
    def channels(self) -> Path:
        """The importance of each channel, JSON; see :class:`gyrus.explanation.channels.ChannelReport`."""
        return self.folder / "channels.json"

    @property
    def channel_maps(self) -> Path:
        """The attribution by channel of the displayed images; see :class:`gyrus.explanation.channels.ChannelMaps`."""
        return self.folder / "channels.npz"

    @property
    def maps(self) -> Path:
        """Folder of the maps of the displayed images, one folder per method."""
        return self.folder / "maps"

    @property
    def figures(self) -> Path:
        """Folder of the figures, PNG and SVG."""
        return self.folder / "figures"

    @property
    def work(self) -> Path:
        """Folder of computed results, from which an interrupted call continues."""
        return self.folder / "work"

    def attribution(self, method: str, number: int, suffix: str = ".npz") -> Path:
        """The map of a displayed image; numbers start at 0."""
        return self.maps / method / f"{number + 1:02d}{suffix}"

    def means(self, method: str) -> Path:
        """The mean map of each class, NumPy: ``classes``, ``counts``, ``images`` and ``maps`` on the network's grid."""
        return self.folder / "means" / f"{method}.npz"

    def attributions(self, method: str) -> list[Attribution]:
        """The maps of the displayed images, in order."""
        return [Attribution.load(self.attribution(method, number)) for number in range(len(self.displayed.shown))]

    @property
    def displayed(self) -> DisplayedMaps:
        """Which maps are displayed, and how.

        Raises:
            DataError: The folder holds no explanation.
        """
        for path in self._descriptions:
            if path.is_file():
                return DisplayedMaps.load(path)
        raise DataError(f"There is no explanation in {self.folder}. Make one with: gyrus explain RUN.")

    def save_displayed(self, displayed: DisplayedMaps) -> None:
        """Write which maps are displayed. This comes last: it marks the explanation as finished."""
        displayed.save(self._descriptions[0])

    def remove_displayed(self) -> None:
        """Mark the explanation as unfinished."""
        for path in self._descriptions:
            path.unlink(missing_ok=True)

    @property
    def is_finished(self) -> bool:
        """Whether the folder holds a finished explanation."""
        return any(path.is_file() for path in self._descriptions)

    def text(self) -> str:
        """The findings, the notes, and where the maps and the report are."""
        lines = list(ExplanationChecks.load(self.checks).sentences) if self.checks.is_file() else []
        lines += Localisation.load(self.localisation).sentences if self.localisation.is_file() else ()
        lines += ChannelReport.load(self.channels).sentences if self.channels.is_file() else ()
        lines += [f"Note: {note}" for note in self.displayed.notes]
        return one_per_line([*lines, f"Maps: {self.maps}", f"Report: {self.report}"])

    @property
    def _descriptions(self) -> tuple[Path, Path]:
        """The file of :class:`DisplayedMaps`, and its name before version 0.2."""
        return self.folder / "explanation.json", self.folder / "album.json"
