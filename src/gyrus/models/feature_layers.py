"""Features of images as layers of a network, and classifiers on them as networks: what heat maps and bundles need.

A linear model on voxels is a network of one layer. As a network it has the same outputs as the features and the model
that were fitted, in single precision.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from gyrus.models.classifier import Backbone, Classifier, Signature
from gyrus.models.heads import Head
from gyrus.models.linear_model import LinearModel
from gyrus.models.options import HeadOptions
from gyrus.models.tree_ensemble import LEAF, TreeEnsemble

Floats = npt.NDArray[np.float64]

KERNELS_AT_ONCE = 32
"""Kernels whose responses to a few images are computed together."""


class FeatureLayer(nn.Module, ABC):
    """From images ``(B, C, *spatial)`` to features ``(B, F)``, in two steps.

    Attributes:
        differentiable: Whether all features have useful gradients.
        may_be_missing: Whether features can be NaN.
    """

    differentiable = True
    may_be_missing = False

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """A map of the images ``(B, D, *grid)``, or the features themselves as ``(B, F, 1, ...)``."""

    def features(self, maps: Tensor) -> Tensor:
        """The features ``(B, F)`` of what :meth:`forward` gives."""
        return maps.flatten(1)


class BlockMeans(FeatureLayer):
    """Means over blocks of voxels, as those of :class:`gyrus.inference.features.grid.Grid`.

    Args:
        image: Voxels along each axis.
        cells: Blocks along each axis.
    """

    def __init__(self, image: Sequence[int], cells: Sequence[int]) -> None:
        super().__init__()
        self.cells = tuple(cells)
        self.averaged = [axis for axis, (length, count) in enumerate(zip(image, cells, strict=True)) if count < length]
        sizes = torch.ones(tuple(cells))
        for axis, (length, count) in enumerate(zip(image, cells, strict=True)):
            ends = np.linspace(0, length, count + 1).astype(int)
            widths = torch.from_numpy(np.diff(ends)).float()
            sizes = sizes * widths.reshape([-1 if each == axis else 1 for each in range(len(cells))])
            if axis in self.averaged:
                block = torch.from_numpy(np.repeat(np.arange(count), np.diff(ends)))
                matrix = functional.one_hot(block, count).float() / widths
                self.register_buffer(f"axis_{axis}", matrix)  # (length, count)
        self.register_buffer("sizes", sizes.flatten())
        self.sizes: Tensor

    def channels(self, features: int) -> int:
        """Channels of the map that gives so many features."""
        return features // int(np.prod(self.cells))

    def forward(self, images: Tensor) -> Tensor:
        """``(B, C, *cells)``."""
        for axis in self.averaged:
            images = (images.movedim(axis + 2, -1) @ self.get_buffer(f"axis_{axis}")).movedim(-1, axis + 2)
        return images


class TissueFractions(BlockMeans):
    """Fractions of tissues in blocks of voxels and in the whole head, of maps of each tissue (0 to 1).

    Args:
        image: Voxels along each axis.
        cells: Blocks along each axis.
        tissues: The number of tissues; the maps ``(B, tissues * C, *spatial)`` are in order of tissue, then channel.
    """

    def __init__(self, image: Sequence[int], cells: Sequence[int], tissues: int) -> None:
        super().__init__(image, cells)
        self.tissues = tissues

    def channels(self, features: int) -> int:
        """Beside the blocks there is one feature of the whole head for each channel."""
        return features // (int(np.prod(self.cells)) + 1)

    def features(self, maps: Tensor) -> Tensor:
        """The fractions in the blocks, then those of the whole head."""
        totals = (maps.flatten(2) * self.sizes).sum(-1)  # (B, tissues * C)
        head = totals.unflatten(1, (self.tissues, -1)).sum(1).clamp(min=1).repeat(1, self.tissues)
        return torch.cat([maps.flatten(1), totals / head], 1)


class RandomKernels(FeatureLayer):
    """Maximum of the response to each kernel, and proportion of voxels above a threshold, by region.

    Args:
        means: The blocks of voxels that are averaged first.
        kernels: float32 (kernels, C, 3, ...), in order of dilation.
        dilations: Of each kernel.
        thresholds: Of each kernel.
        regions: Regions along each axis.
        ramp: Width of the step at a threshold, as a fraction of the norm of the kernel; 0 for a hard threshold.
    """

    differentiable = False

    def __init__(
        self,
        means: BlockMeans,
        kernels: npt.NDArray[np.float32],
        dilations: npt.NDArray[np.int64],
        thresholds: npt.NDArray[np.float32],
        regions: int,
        ramp: float = 0.0,
    ) -> None:
        super().__init__()
        self.means = means
        starts = np.flatnonzero(np.diff(dilations, prepend=-1))
        places = [
            np.arange(start, min(start + KERNELS_AT_ONCE, end))
            for first, end in zip(starts, [*starts[1:], len(kernels)], strict=True)
            for start in range(first, end, KERNELS_AT_ONCE)
        ]
        self.dilations = [int(dilations[group[0]]) for group in places]
        self.kernels = nn.ParameterList([nn.Parameter(torch.from_numpy(kernels[group])) for group in places])
        self.register_buffer("thresholds", torch.from_numpy(thresholds.copy()))
        self.thresholds: Tensor
        norms = np.sqrt((kernels.reshape(len(kernels), -1) ** 2).sum(axis=1))
        self.register_buffer("widths", torch.from_numpy((ramp * norms).astype(np.float32)))
        self.widths: Tensor
        self.is_hard = not ramp
        # Regions are those of adaptive pooling.
        self.regions = [
            [(number * length // regions, -(-(number + 1) * length // regions)) for number in range(regions)]
            for length in means.cells
        ]

    def forward(self, images: Tensor) -> Tensor:
        """The features as ``(B, F, 1, ...)``."""
        found = self.summaries(self.means(images))
        return found[(..., *[None] * (images.ndim - 2))]

    def responses(self, cells: Tensor) -> Iterator[tuple[range, Tensor]]:
        """The numbers of some kernels and the responses ``(B, k, *cells)`` of means of blocks to them."""
        convolve, done = functional.conv2d if cells.ndim == 4 else functional.conv3d, 0
        for dilation, kernels in zip(self.dilations, self.kernels, strict=True):
            yield range(done, done + len(kernels)), convolve(cells, kernels, padding=dilation, dilation=dilation)
            done += len(kernels)

    def summaries(self, cells: Tensor) -> Tensor:
        """The features ``(B, F)`` of means of blocks ``(B, C, *cells)``."""
        dims = tuple(range(2, cells.ndim))
        largest, proportions = [], []
        for numbers, responses in self.responses(cells):
            thresholds, widths = (
                each[numbers.start : numbers.stop].reshape(-1, *[1] * len(dims))
                for each in (self.thresholds, self.widths)
            )
            over = responses - thresholds
            above = (over > 0).to(responses.dtype) if self.is_hard else (over / widths + 0.5).clamp(0, 1)
            largest.append(torch.stack([each.amax(dims) for each in self._parts(responses)], 2))
            proportions.append(torch.stack([each.mean(dims) for each in self._parts(above)], 2))
        return torch.cat([torch.cat(largest, 1).flatten(1), torch.cat(proportions, 1).flatten(1)], 1)

    def _parts(self, values: Tensor) -> list[Tensor]:
        """The regions of values ``(B, kernels, *cells)``."""
        parts = [values]
        for axis, ends in enumerate(self.regions, 2):
            parts = [part.narrow(axis, start, end - start) for part in parts for start, end in ends]
        return parts


class FrozenFeatures(FeatureLayer):
    """The last features of a pretrained network, of volumes their mean and maximum over slices.

    Args:
        network: The network.
        mean: Mean of the pixels that it was trained on, one value per channel of the network.
        std: Their standard deviation.
        side: The shorter side of an image is at least so many pixels.
        slices: The slices that are used along the first axis of a volume; None for images.
    """

    def __init__(
        self,
        network: Backbone,
        mean: Sequence[float],
        std: Sequence[float],
        side: int,
        slices: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.network, self.side, self.slices = network, side, slices
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])
        self.mean: Tensor
        self.std: Tensor

    def of_slices(self, images: Tensor) -> Tensor:
        """The features ``(n, width)`` of pixels ``(n, C, rows, columns)`` in 0..1."""
        if images.shape[1] == 1 and len(self.mean) == 3:
            images = images.expand(-1, 3, -1, -1)
        factor = self.side / min(images.shape[2:])
        if factor > 1:
            size = [round(length * factor) for length in images.shape[2:]]
            images = functional.interpolate(images, size, mode="bilinear", align_corners=False)
        return self.network.pool(self.network((images - self.mean) / self.std))

    def forward(self, images: Tensor) -> Tensor:
        """The features as ``(B, F, 1, ...)``."""
        if self.slices is None:  # mean and maximum over the slices of a subject, here over one
            found = self.of_slices(images).repeat(1, 2)
        else:
            chosen = images[:, :, list(self.slices)].movedim(2, 1)  # (B, slices, C, rows, columns)
            each = self.of_slices(chosen.flatten(0, 1)).unflatten(0, (-1, len(self.slices)))
            found = torch.cat([each.mean(1), each.amax(1)], 1)
        return found[(..., *[None] * (images.ndim - 2))]


class Numbers(FeatureLayer):
    """Features that were computed before, without PyTorch: channels that are constant over space, NaN where missing.

    Args:
        channels: The channels that are meant.
    """

    may_be_missing = True

    def __init__(self, channels: range) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """The features as ``(B, F, 1, ...)``."""
        first, last = self.channels.start, self.channels.stop
        return images[(slice(None), slice(first, last), *[slice(1)] * (images.ndim - 2))]


class FeatureBackbone(Backbone):
    """Standardised features of images.

    Args:
        layers: One per kind of features.
        mean: What is subtracted from each feature, (F,).
        scale: What it is divided by, (F,).
        image_size: Voxels along each axis.
        channels: The channels of an image that are pixels, if :class:`Numbers` follow; None for all.
    """

    def __init__(
        self,
        layers: Sequence[FeatureLayer],
        mean: Floats,
        scale: Floats,
        image_size: Sequence[int],
        channels: int | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.layers = nn.ModuleList(layers)
        self.num_features = len(mean)
        self.fixed_size = tuple(image_size)
        self.smallest = (1,) * len(image_size)
        self.register_buffer("mean", torch.from_numpy(np.asarray(mean)).float())
        self.register_buffer("scale", torch.from_numpy(np.asarray(scale)).float())
        self.mean: Tensor
        self.scale: Tensor
        self.num_channels = self.num_features
        if (alone := self._alone) is not None:
            # A map of differences from the mean subject: a cell that is as usual adds nothing to the answer.
            cells = int(np.prod(alone.cells))
            self.num_channels = alone.channels(self.num_features)
            centre = self.mean[: self.num_channels * cells].reshape(1, self.num_channels, *alone.cells)
            self.register_buffer("centre", centre.clone())
            self.centre: Tensor

    @property
    def _alone(self) -> BlockMeans | None:
        """The only layer, if it gives means of blocks."""
        first = self.layers[0]
        return first if isinstance(first, BlockMeans) and len(self.layers) == 1 else None

    @property
    def differentiable(self) -> bool:
        """Whether all features have useful gradients."""
        return all(bool(layer.differentiable) for layer in self.layers)

    @property
    def cells(self) -> tuple[int, ...] | None:
        """Cells of the feature map along each axis; None if it has none."""
        return None if self._alone is None else self._alone.cells

    def forward(self, images: Tensor) -> Tensor:
        """Of means of blocks, their map less that of the mean subject; else all features as ``(B, F, 1, ...)``."""
        if self._alone is not None:
            maps: Tensor = self._alone(images)
            return maps - self.centre
        pixels = images[:, : self.channels]
        found = [
            layer.features(layer(images if isinstance(layer, Numbers) else pixels))  # type: ignore[operator]
            for layer in self.layers
        ]
        return torch.cat(found, 1)[(..., *[None] * (images.ndim - 2))]

    def pool(self, features: Tensor) -> Tensor:
        """The standardised features ``(B, F)``."""
        values = features.flatten(1) if self._alone is None else self._alone.features(features + self.centre)
        if any(layer.may_be_missing for layer in self.layers):  # counts as average
            values = torch.where(torch.isnan(values), self.mean, values)
        return (values - self.mean) / self.scale

    def stages(self) -> tuple[nn.Module, ...]:
        """The layers that have weights."""
        return tuple(layer for layer in self.layers if list(layer.parameters()))


class TreeSums(nn.Module):
    """Boosted trees as a layer: all trees are followed at once.

    Args:
        trees: The trees.
    """

    def __init__(self, trees: TreeEnsemble) -> None:
        super().__init__()
        leaf, nodes = trees.feature == LEAF, np.arange(len(trees.feature))
        # A single-precision feature is at most a threshold exactly if it is at most the next lower single one.
        single = trees.threshold.astype(np.float32)
        single = np.where(single > trees.threshold, np.nextafter(single, np.float32(-np.inf)), single)
        arrays = {
            "feature": np.where(leaf, 0, trees.feature),
            "left": np.where(leaf, nodes, trees.left),  # a leaf leads to itself
            "right": np.where(leaf, nodes, trees.right),
            "roots": trees.roots.astype(np.int64),
            "threshold": single,
            "base": trees.base.astype(np.float32),
        }
        for name, values in arrays.items():
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(values)))
        self.value = nn.Parameter(torch.from_numpy(trees.value.astype(np.float32)))
        outputs = functional.one_hot(torch.from_numpy(trees.outputs.astype(np.int64)), len(trees.base)).float()
        self.register_buffer("outputs", outputs)  # (trees, K)
        self.depth = _depth(trees)

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``(B, K)`` of features ``(B, F)``."""
        feature, threshold, left, right = (self.get_buffer(name) for name in ("feature", "threshold", "left", "right"))
        node = torch.zeros_like(features[:, :1], dtype=torch.int64) + self.get_buffer("roots")
        for _ in range(self.depth):
            goes_left = features.gather(1, feature[node]) <= threshold[node]
            node = torch.where(goes_left, left[node], right[node])
        return self.get_buffer("base") + self.value[node] @ self.get_buffer("outputs")


def _depth(trees: TreeEnsemble) -> int:
    """Splits from a root to the deepest leaf."""
    level, depth = trees.roots, 0
    while len(level := level[trees.feature[level] != LEAF]):
        level, depth = np.unique(np.concatenate([trees.left[level], trees.right[level]])), depth + 1
    return depth


def feature_network(backbone: FeatureBackbone, model: LinearModel | TreeEnsemble, signature: Signature) -> Classifier:
    """A classifier on features as a network, in evaluation mode.

    Args:
        backbone: From images to standardised features.
        model: From these to logits, or to a number.
        signature: Input and output.
    """
    head = Head(backbone.num_channels, backbone.num_features, signature.num_classes, HeadOptions())
    if isinstance(model, LinearModel):
        weights = np.asarray(model.weights).reshape(signature.num_classes, backbone.num_features)
        head.classify.weight.data = torch.from_numpy(weights).float()
        head.classify.bias.data = torch.from_numpy(np.asarray(model.intercept)).float()
    else:
        head.classify = TreeSums(model)  # type: ignore[assignment]
    return Classifier(signature, backbone, head).eval()
