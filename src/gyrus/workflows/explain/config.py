"""The settings of an explanation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from gyrus.errors import ConfigError
from gyrus.explanation.method_input import MethodSettings
from gyrus.explanation.methods import METHODS
from gyrus.explanation.regions import Atlas
from gyrus.inference.engines import EngineName
from gyrus.registry import look_up
from gyrus.reporting.heat_map_figures import COLOUR_MAPS

Grid = Literal["random", "best", "worst", "class", "methods"]
"""Which images are displayed: drawn at random; the correct or the wrong predictions of highest confidence; some of each
class; or some of each class by every method."""

DEFAULT = "default"
"""Stands for the method that suits the classifier; see :func:`gyrus.workflows.explain.explain.suitable_methods`."""

DEMENTIA_STAGES = "dementia-stages"
"""The emphasis preset for the four stages of dementia: :data:`STAGE_POWERS`."""

STAGE_POWERS = {"very": 1.5, "mild": 1.3, "moderate": 1.2, "non": 1.0}
"""Power of the maps by the first word of the class name, as in "Very_Mild_Demented"."""

FORMER_PRESET = "system-d"
"""The name of :data:`DEMENTIA_STAGES` before version 0.2; still accepted."""


@dataclass(frozen=True)
class ExplainConfig:
    """The settings of an explanation.

    Attributes:
        methods: Names in :data:`gyrus.explanation.methods.METHODS`; ("all",) selects every method, ("default",) the one
            that suits the classifier: grad-cam for networks.
        target: "predicted", "true", a class name, or two of these joined by a minus sign.
        layer: Layer of class activation maps; by default the deepest layer of sufficient resolution.
        grid: Which images are displayed.
        shown: Number of displayed images.
        images: Number of images that the checks and the mean maps use; each of another subject as far as possible.
        checks: Whether the maps are checked. The checks take several times as long as the maps.
        emphasis: Power that the displayed maps of each class are raised to; {"dementia-stages": 1} is a preset.
        colours: Colour map.
        atlas: Regions by which the attribution is summarised.
        truth: Masks of what the maps should find, with values above 0 there: a file or pattern as that of an
            :class:`Atlas`. The maps of the images that have one are measured against it.
        settings: Numerical settings of the methods.
        device: "auto", "cpu", "cuda" or "mps".
        engine: What runs the network where no gradients are needed: "torch", "openvino" (on the CPU), or "auto".
        minutes: Time limit. Methods and checks whose forecast exceeds it are left out, with a note; None for none.

    Raises:
        ConfigError: A name is unknown, or a number is out of range.
    """

    methods: tuple[str, ...] = (DEFAULT,)
    target: str = "predicted"
    layer: str | None = None
    grid: Grid = "random"
    shown: int = 8
    images: int = 24
    checks: bool = True
    emphasis: Mapping[str, float] = field(default_factory=dict)
    colours: str = "inferno"
    atlas: Atlas | None = None
    truth: str | None = None
    settings: MethodSettings = field(default_factory=MethodSettings)
    device: str = "auto"
    engine: EngineName = "auto"
    minutes: float | None = None

    def __post_init__(self) -> None:
        if self.methods == ("all",):
            object.__setattr__(self, "methods", tuple(METHODS))
        for method in self.methods if self.methods != (DEFAULT,) else ():
            look_up(method, METHODS, "method")
        look_up(self.grid, dict.fromkeys(get_args(Grid)), "grid")
        look_up(self.engine, dict.fromkeys(get_args(EngineName)), "engine")
        if self.minutes is not None and not self.minutes > 0:
            raise ConfigError(f"`minutes` must be above 0, got {self.minutes:g}.")
        look_up(self.colours, COLOUR_MAPS, "colour map")
        if not self.methods:
            raise ConfigError(f"Name at least one method: {', '.join(METHODS)}.")
        if self.shown < 1 or self.images < 2:
            raise ConfigError(f"`shown` must be at least 1 and `images` at least 2, got {self.shown}, {self.images}.")


def parse_emphasis(text: str | None) -> dict[str, float]:
    """The emphasis that ``--emphasis`` states.

    Args:
        text: ``CLASS=POWER`` pairs separated by commas, or "dementia-stages".

    Raises:
        ConfigError: The text has another form.

    Example:
        >>> parse_emphasis("Mild=1.3,Moderate=1.2")
        {'Mild': 1.3, 'Moderate': 1.2}
    """
    powers = {}
    for pair in text.split(",") if text else []:
        name, equals, power = pair.rpartition("=")
        try:
            powers[name or power] = float(power) if equals else 1.0
        except ValueError:
            equals = ""
        if not equals and pair not in (DEMENTIA_STAGES, FORMER_PRESET):
            raise ConfigError(
                f"--emphasis '{pair}' must have the form CLASS=POWER, for example Mild=1.3, or be {DEMENTIA_STAGES}."
            )
    return powers


def emphasis_by_class(emphasis: Mapping[str, float], classes: Sequence[str]) -> dict[str, float]:
    """The power of each class's maps; empty without emphasis.

    Args:
        emphasis: Class to power, or {"dementia-stages": 1}, which assigns powers by the first word of the class name.
        classes: The class names.

    Raises:
        ConfigError: There is no such class, or a power is not above 0.
    """
    if DEMENTIA_STAGES in emphasis or FORMER_PRESET in emphasis:
        first_words = {name: name.lower().replace("-", "_").replace(" ", "_").split("_")[0] for name in classes}
        return {name: STAGE_POWERS.get(word, 1.0) for name, word in first_words.items()}
    for name, power in emphasis.items():
        look_up(name, dict.fromkeys([*classes, DEMENTIA_STAGES]), "class")
        if not power > 0:
            raise ConfigError(f"The emphasis of '{name}' must be a power above 0, got {power}.")
    return {name: emphasis.get(name, 1.0) for name in classes} if emphasis else {}
