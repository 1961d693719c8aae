"""Layers that give maps: which there are, which is best looked at, and how to see what comes out of one."""

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
"""A map coarser than this along an axis cannot point to anything in a brain; networks for pictures of 224 pixels, which
the methods were published with, have as many."""

MOST_UNEVEN = 3.0
"""By how much more a layer may shrink one axis than another and still give a map of the image. Some networks put their
channels last, so that sizes alone do not tell what is an axis of the image."""


@dataclass(frozen=True)
class Layer:
    """A module whose output is a map of the image.

    Attributes:
        name: As in ``model.named_modules()``.
        channels: Of its output.
        grid: Voxels of its output along each axis.
        takes_grid: The same of its input; None where that is no map.
        takes_image: Whether its input is the image itself.
    """

    name: str
    channels: int
    grid: tuple[int, ...]
    takes_grid: tuple[int, ...] | None
    takes_image: bool

    def is_inside(self, other: str) -> bool:
        """Whether it is a part of another module."""
        return self.name.startswith(f"{other}.") if other else bool(self.name)


def find_layers(model: nn.Module, image: Tensor) -> dict[str, Layer]:
    """All modules whose output is a map of the image, in the order in which they finish; none that change nothing.

    Args:
        model: Any network.
        image: One image (1, C, *spatial), which is shown to it once.
    """
    found: dict[str, Layer] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
        def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            grid = _grid(output, image)
            given = inputs[0] if inputs else None
            if grid is None or output is given:
                return
            takes_image = isinstance(given, Tensor) and given.data_ptr() == image.data_ptr()
            found.pop(name, None)
            found[name] = Layer(name, output.shape[1], grid, _grid(given, image), takes_image)

        return hook

    handles = [module.register_forward_hook(note(name)) for name, module in model.named_modules()]
    try:
        with torch.no_grad():
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return found


def choose_layer(model: nn.Module, image: Tensor) -> str:
    """The layer to look at where none is named: the deepest whose map is fine enough to point to something.

    Whole stages are preferred to what is inside them, so it stands behind the activation of its stage. Where even the
    first layers are too coarse, it is the finest of all.

    Args:
        model: Any network.
        image: One image (1, C, *spatial).

    Raises:
        ConfigError: No layer gives a map.
    """
    layers = find_layers(model, image)
    if not layers:
        raise ConfigError(
            "No layer of this network gives a map of the image, so that class activation maps cannot be drawn. Use a "
            "method that needs no layer, such as integrated-gradients, occlusion or rise."
        )
    needed = tuple(min(MIN_CELLS, length) for length in image.shape[2:])
    chosen = _deepest(list(layers.values()), "", needed)
    return (chosen or max(layers.values(), key=lambda layer: min(layer.grid))).name


def require_layer(model: nn.Module, name: str, image: Tensor) -> str:
    """The name of a layer that gives maps.

    Raises:
        ConfigError: There is none of that name; the message has the list.
    """
    layers = find_layers(model, image)
    if name in dict(model.named_modules()) and name not in layers:
        raise ConfigError(
            f"The layer '{name}' gives no map of the image. Layers that do: {', '.join(filter(None, layers))}."
        )
    return look_up(name, layers, "layer with a map").name


@dataclass(eq=False)
class Captured:
    """What came out of a layer while the network ran."""

    outputs: list[Tensor] = field(default_factory=list)

    @property
    def output(self) -> Tensor:
        """What came out, (B, C, *grid).

        Raises:
            ConfigError: The layer did not run just once.
        """
        if len(self.outputs) != 1:
            raise ConfigError(f"The layer ran {len(self.outputs)} times for an image, so it has no map. Name another.")
        return self.outputs[0]


@contextmanager
def capture(model: nn.Module, name: str) -> Iterator[Captured]:
    """See what comes out of a layer, as the leaf of a graph that ends at the logits: what lies before is not tracked.

    Args:
        model: Any network.
        name: Of the layer.
    """
    captured = Captured()

    def hook(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        leaf = output.detach().requires_grad_(torch.is_grad_enabled())
        captured.outputs.append(leaf)
        return leaf.clone()  # the layer behind may work in place, which a leaf does not allow

    with _hooked(model, name, hook):
        yield captured


@contextmanager
def replaced(model: nn.Module, name: str, output: Tensor) -> Iterator[None]:
    """Let a layer give something else while the block runs, whatever it takes."""
    with _hooked(model, name, lambda _, __, ___: output):
        yield


@contextmanager
def still(model: nn.Module) -> Iterator[None]:
    """The network in evaluation mode and without gradients of its own weights; afterwards it is as it was."""
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
    """The voxels of an output along each axis, if it is a map of the image."""
    if not isinstance(output, Tensor) or output.ndim != image.ndim or len(output) != len(image):
        return None
    grid = tuple(output.shape[2:])
    shrinks = [before / after for before, after in zip(image.shape[2:], grid, strict=True) if after]
    in_plane = shrinks[-2:]
    even = len(in_plane) == 2 and max(in_plane) <= MOST_UNEVEN * min(in_plane)
    return grid if even and min(shrinks) > 0.8 and max(grid) > 1 else None


def _deepest(layers: list[Layer], parent: str, needed: tuple[int, ...]) -> Layer | None:
    """The deepest fine layer inside ``parent``, whole modules first.

    A module that takes a fine map and gives a coarse one is passed by: what is inside it is neither, and what it takes
    is what the module before it gives. One that takes the image is opened.
    """
    inside = [layer for layer in layers if layer.is_inside(parent)]
    outermost = [layer for layer in inside if not any(layer.is_inside(other.name) for other in inside)]
    for layer in reversed(outermost):
        if _is_fine(layer.grid, needed):
            return layer
        passes_by = layer.takes_grid is not None and _is_fine(layer.takes_grid, needed) and not layer.takes_image
        if not passes_by and (found := _deepest(layers, layer.name, needed)):
            return found
    return None


def _is_fine(grid: tuple[int, ...], needed: tuple[int, ...]) -> bool:
    return all(cells >= least for cells, least in zip(grid, needed, strict=True))
