"""What is asked of an explanation, and what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from gyrus.errors import ConfigError
from gyrus.explanation.atlas import Atlas
from gyrus.explanation.attribution import MethodSettings
from gyrus.explanation.methods import METHODS
from gyrus.registry import look_up
from gyrus.reporting.heat_map_figures import COLOUR_MAPS

Grid = Literal["random", "best", "worst", "class", "methods"]
"""Which images are shown: by chance, most surely right, most surely wrong, of each class, or few by every method."""

SYSTEM_D = {"very": 1.5, "mild": 1.3, "moderate": 1.2, "non": 1.0}
"""How system D emphasises its classes, by the first word of their names."""


@dataclass(frozen=True)
class ExplainConfig:
    """What is asked, and what is shown.

    Attributes:
        methods: Names in :data:`gyrus.explanation.methods.METHODS`.
        target: "predicted", "true", a class, or two of them with a minus sign between.
        layer: Of class activation maps; by default the deepest that is fine enough.
        grid: Which images are shown.
        shown: How many of them.
        images: How many the checks and the mean maps are made of, as far as possible each of another person.
        checks: Whether maps are checked, which takes several times as long as to make them.
        emphasis: Power of the maps of each class, for show; {"system-d": 1} for system D's.
        colours: Colour map.
        atlas: Regions to tell maps apart by.
        settings: The numbers that methods leave open.
        device: Where to compute.

    Raises:
        ConfigError: A name is not in its table, or a number is out of its range.
    """

    methods: tuple[str, ...] = ("grad-cam",)
    target: str = "predicted"
    layer: str | None = None
    grid: Grid = "random"
    shown: int = 8
    images: int = 24
    checks: bool = True
    emphasis: Mapping[str, float] = field(default_factory=dict)
    colours: str = "inferno"
    atlas: Atlas | None = None
    settings: MethodSettings = field(default_factory=MethodSettings)
    device: str = "auto"

    def __post_init__(self) -> None:
        for method in self.methods:
            look_up(method, METHODS, "method")
        look_up(self.grid, dict.fromkeys(get_args(Grid)), "grid")
        look_up(self.colours, COLOUR_MAPS, "colour map")
        if not self.methods:
            raise ConfigError(f"Name at least one method: {', '.join(METHODS)}.")
        if self.shown < 1 or self.images < 2:
            raise ConfigError(f"`shown` must be at least 1 and `images` at least 2, got {self.shown}, {self.images}.")


def emphasis_of(asked: Mapping[str, float], classes: Sequence[str]) -> dict[str, float]:
    """The power of each class's maps.

    Args:
        asked: Class to power, or {"system-d": 1} for the powers of that system, which goes by the classes' first words.
        classes: The names.

    Raises:
        ConfigError: There is no such class, or a power is not above 0.
    """
    if "system-d" in asked:
        first = {name: name.lower().replace("-", "_").replace(" ", "_").split("_")[0] for name in classes}
        return {name: SYSTEM_D.get(word, 1.0) for name, word in first.items()}
    for name, power in asked.items():
        look_up(name, dict.fromkeys([*classes, "system-d"]), "class")
        if not power > 0:
            raise ConfigError(f"The emphasis of '{name}' must be a power above 0, got {power}.")
    return {name: asked.get(name, 1.0) for name in classes} if asked else {}
