"""Layers for class activation maps: finding them, choosing one, and capturing its output."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gyrus.errors import ConfigError
from gyrus.registry import look_up

MIN_CELLS = 7
"""A map with fewer cells along an axis is too coarse to localise anything in a brain. The networks for 224 x 224 pixels
that the methods were published with have 7."""

MOST_UNEVEN = 3.0
"""Largest ratio of the downsampling of two axes. Some networks keep channels last, so the shape alone does not show
which axes are those of the image."""


@dataclass(frozen=True)
class Layer:
    """A module whose output is a map of the image.

    Attributes:
        name: As in ``model.named_modules()``.
        channels: Channels of its output.
        grid: Cells of its output along each axis.
        input_grid: Cells of its input along each axis; None if the input is not a map.
        is_first: Whether its input is the image itself.
    """

    name: str
    channels: int
    grid: tuple[int, ...]
    input_grid: tuple[int, ...] | None
    is_first: bool

    def is_inside(self, other: str) -> bool:
        """Whether it belongs to another module."""
        return self.name.startswith(f"{other}.") if other else bool(self.name)


def find_layers(model: nn.Module, image: Tensor) -> dict[str, Layer]:
    """All modules whose output is a map of the image, in order of execution; without modules that return their input.

    Args:
        model: Any network.
        image: One image (1, C, *spatial) for one forward pass.
    """
    found: dict[str, Layer] = {}

    def record(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            grid = _grid(output, image)
            source = inputs[0] if inputs else None
            if grid is None or output is source:
                return
            is_first = isinstance(source, Tensor) and source.data_ptr() == image.data_ptr()
            found.pop(name, None)
            found[name] = Layer(name, output.shape[1], grid, _grid(source, image), is_first)

        return hook

    handles = [module.register_forward_hook(record(name)) for name, module in model.named_modules()]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return found


def choose_layer(model: nn.Module, image: Tensor, name: str | None = None) -> str:
    """The layer of that name, or by default the deepest layer of at least :data:`MIN_CELLS` cells along each axis.

    Complete stages are preferred to modules inside them, so the layer ends with the activation of its stage. If all
    layers are too coarse, the finest one is used.

    Args:
        model: Any network, in evaluation mode.
        image: One image (1, C, *spatial).
        name: Name of a module in ``model.named_modules()``.

    Raises:
        ConfigError: There is no such layer, or it gives no map; the message lists the layers that do.
    """
    layers = find_layers(model, image)
    if name is not None:
        if name in dict(model.named_modules()) and name not in layers:
            raise ConfigError(
                f"The layer '{name}' gives no map of the image. Layers that do: {', '.join(filter(None, layers))}."
            )
        return look_up(name, layers, "layer with a map").name
    if not layers:
        raise ConfigError(
            "No layer of this network gives a map of the image, so class activation maps are not possible. Use a "
            "method that needs no layer, such as integrated-gradients, occlusion or rise."
        )
    needed = tuple(min(MIN_CELLS, length) for length in image.shape[2:])
    chosen = _deepest(list(layers.values()), "", needed)
    return (chosen or max(layers.values(), key=lambda layer: min(layer.grid))).name


@dataclass(eq=False)
class Captured:
    """The output of a layer during a forward pass."""

    outputs: list[Tensor] = field(default_factory=list)

    @property
    def output(self) -> Tensor:
        """The output, (B, C, *grid).

        Raises:
            ConfigError: The layer did not run exactly once.
        """
        if len(self.outputs) != 1:
            raise ConfigError(
                f"The layer ran {len(self.outputs)} times for an image, so it has no map. Name another layer."
            )
        return self.outputs[0]


@contextmanager
def capture(model: nn.Module, name: str) -> Iterator[Captured]:
    """Capture the output of a layer as a leaf of the graph; computations before the layer are not tracked.

    Args:
        model: Any network.
        name: Name of the layer.
    """
    captured = Captured()

    def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_(torch.is_grad_enabled())
        captured.outputs.append(leaf)
        return leaf.clone()  # the next layer may work in place, which a leaf does not allow

    with _hooked(model, name, hook):
        yield captured


@contextmanager
def replace_output(model: nn.Module, name: str, output: Tensor) -> Iterator[None]:
    """Replace the output of a layer inside this context."""
    with _hooked(model, name, lambda _, __, ___: output):
        yield


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Set the network to evaluation mode and freeze its weights inside this context; then restore it."""
    modes = {module: module.training for module in model.modules()}
    tracked = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    for parameter in tracked:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
        for parameter in tracked:
            parameter.requires_grad_(True)


@contextmanager
def _hooked(model: nn.Module, name: str, hook: Callable[..., Any]) -> Iterator[None]:
    handle = model.get_submodule(name).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _grid(output: Any, image: Tensor) -> tuple[int, ...] | None:
    """The cells of an output along each axis; None if it is not a map of the image."""
    if not isinstance(output, Tensor) or output.ndim != image.ndim or len(output) != len(image):
        return None
    grid = tuple(output.shape[2:])
    factors = [before / after for before, after in zip(image.shape[2:], grid, strict=True) if after]
    in_plane = factors[-2:]
    is_even = len(in_plane) == 2 and max(in_plane) <= MOST_UNEVEN * min(in_plane)
    return grid if is_even and min(factors) > 0.8 and max(grid) > 1 else None


def _deepest(layers: list[Layer], parent: str, needed: tuple[int, ...]) -> Layer | None:
    """The deepest sufficiently fine layer inside ``parent``; complete modules come before their children.

    A module with a fine input and a coarse output is skipped: the module before it has the fine map. The first module,
    whose input is the image, is searched inside.
    """
    inside = [layer for layer in layers if layer.is_inside(parent)]
    outermost = [layer for layer in inside if not any(layer.is_inside(other.name) for other in inside)]
    for layer in reversed(outermost):
        if _is_fine(layer.grid, needed):
            return layer
        is_skipped = layer.input_grid is not None and _is_fine(layer.input_grid, needed) and not layer.is_first
        if not is_skipped and (found := _deepest(layers, layer.name, needed)):
            return found
    return None


def _is_fine(grid: tuple[int, ...], needed: tuple[int, ...]) -> bool:
    return all(cells >= least for cells, least in zip(grid, needed, strict=True))
