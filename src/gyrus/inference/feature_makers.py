"""Features of subjects for classifiers without a network: makers that are fitted on the training set and saved.

A maker turns the samples of a manifest into numbers. What it fits (categories of a table, thresholds of random kernels)
it fits on the training set; it is saved as JSON and plain arrays, and gives the same numbers for new images.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from gyrus.datasets.manifest import VOLUME_FILES, Manifest
from gyrus.datasets.table_features import ColumnKind, HarmoniseConfig, TableEncoder, first_of_each
from gyrus.errors import ConfigError, DataError
from gyrus.inference.head_volumes import as_rows, measure_heads
from gyrus.models.options import FeatureKind, FeatureOptions, StemRule
from gyrus.registry import look_up
from gyrus.text import counted
from gyrus.transforms.normalisation import Normalisation
from gyrus.transforms.tissue_maps import TISSUES, tissue_table
from gyrus.volumetry.measure import FEATURE_NAMES
from gyrus.volumetry.tissue_mixture import PIXEL_FEATURES, pixel_features

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from gyrus.datasets.store import Store
    from gyrus.models.classifier import Backbone

Floats = npt.NDArray[np.float64]
Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]

BLOCK = 2**23
"""Voxels whose features are made at once."""

KERNELS_AT_ONCE = 32
"""Kernels whose responses to a few images are computed together."""

LONGEST_SIDE = {2: 64, 3: 32}
"""Random convolutions see images of at most so many voxels along each axis, by number of axes."""

NETWORK_SIDE = 128
"""A pretrained network sees slices whose shorter side has at least so many pixels."""

MOST_SLICES = 32
"""Slices of a volume that a pretrained network sees, at most; evenly spaced."""

WEIGHT = "weight:"
"""Prefix of the names of saved weights of a network."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the pixels that most pretrained networks of timm were trained on, in 0..1."""


@dataclass(frozen=True)
class Samples:
    """Some samples of a manifest, with their pixels where there are any.

    Attributes:
        manifest: N rows.
        store: The preprocessed pixels of the same rows; None if no maker needs them.
        rows: The rows that are meant, (n,).
        units: What each row belongs to, str (n,): the subject, its visit or the image itself.
        new: Whether they are new data, in which what the training set lacks (a category) is an error.
    """

    manifest: Manifest
    store: Store | None
    rows: npt.NDArray[np.int64]
    units: npt.NDArray[np.str_]
    new: bool = False

    @property
    def table(self) -> pd.DataFrame:
        """Their rows of the table of the manifest."""
        return self.manifest.table.iloc[self.rows]

    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """uint8 (n, C, *spatial)."""
        assert self.store is not None
        return np.asarray(self.store.pixels[self.rows])

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels and voxels along each axis of a sample."""
        assert self.store is not None
        return tuple(self.store.pixels.shape[1:])

    def scaled(self, normalisation: Normalisation) -> npt.NDArray[np.float32]:
        """The pixels after intensity scaling, float32 (n, C, *spatial)."""
        assert self.store is not None
        return normalisation.apply(self.pixels, self.store.statistics[self.rows])

    def take(self, places: npt.NDArray[np.int64]) -> Samples:
        """Some of these samples."""
        return replace(self, rows=self.rows[places], units=self.units[places])

    def blocks(self) -> Iterator[npt.NDArray[np.int64]]:
        """The places of samples whose pixels are loaded together."""
        size = int(np.prod(self.shape)) if self.store is not None else 1
        step = max(1, BLOCK // size)
        for start in range(0, len(self.rows), step):
            yield np.arange(start, min(start + step, len(self.rows)))


@dataclass(frozen=True)
class FitSettings:
    """What makers are fitted with.

    Attributes:
        options: The options of the model.
        columns: What each column of the table holds that is used.
        normalisation: The intensity scaling, fitted on the training set; None without pixels.
        weights: The pretrained weights: True for the published ones, or a path.
        stem: How the first layer of a pretrained network is adapted to another number of channels.
        seed: Seed of all draws.
        harmonise: Which columns are harmonised between sites; None: none.
    """

    options: FeatureOptions
    columns: Mapping[str, ColumnKind] = field(default_factory=dict)
    normalisation: Normalisation | None = None
    weights: bool | str = False
    stem: StemRule = "sum"
    seed: int = 0
    harmonise: HarmoniseConfig | None = None

    @property
    def scaling(self) -> Normalisation:
        """The intensity scaling."""
        assert self.normalisation is not None
        return self.normalisation


class FeatureMaker(ABC):
    """From samples to features. Subclasses are frozen dataclasses in :data:`FEATURE_MAKERS`.

    Attributes:
        kind: Its name in :data:`FEATURE_MAKERS`.
        needs_pixels: Whether it needs the store of preprocessed images; without, it sees the manifest and its files.
        standardised: Whether its features have their own scale already and are not scaled again.
    """

    kind: ClassVar[FeatureKind]
    needs_pixels: ClassVar[bool] = True
    standardised: ClassVar[bool] = False

    @property
    @abstractmethod
    def spatial_dims(self) -> int | None:
        """Axes of the images that it was fitted on; None if it takes any."""

    @classmethod
    @abstractmethod
    def fit(cls, samples: Samples, settings: FitSettings) -> FeatureMaker:
        """Fit on the training set.

        Args:
            samples: Those of the training set only.
            settings: The options, the seed and so on.

        Raises:
            GyrusError: The data do not have what the maker needs.
        """

    @abstractmethod
    def features(self, samples: Samples) -> Floats:
        """The features of each sample, (n, F); NaN where one is missing."""

    def of_units(self, samples: Samples) -> Floats | None:
        """The features of the sorted units, (U, F); None where those of the samples are pooled."""
        del samples
        return None

    @property
    @abstractmethod
    def names(self) -> tuple[str, ...]:
        """Names of the features, (F,)."""

    @property
    def poolings(self) -> tuple[Literal["mean", "max"], ...]:
        """How the samples of a subject become one row; each gives all features once."""
        return ("mean",)

    @property
    @abstractmethod
    def text(self) -> str:
        """What the features are, in a few words."""

    @abstractmethod
    def document(self) -> dict[str, Any]:
        """What was fitted, without arrays."""

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that were fitted."""
        return {}

    @classmethod
    @abstractmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> FeatureMaker:
        """The maker of which :meth:`document`, after JSON, and :meth:`arrays` together are given.

        Raises:
            LookupError, TypeError, ValueError: They are damaged.
        """


@dataclass(frozen=True)
class TableColumns(FeatureMaker):
    """The columns of a clinical table; see :mod:`gyrus.datasets.table_features`."""

    kind: ClassVar[FeatureKind] = "table"
    needs_pixels: ClassVar[bool] = False
    standardised: ClassVar[bool] = True

    encoder: TableEncoder

    @property
    def spatial_dims(self) -> None:
        """It takes any."""
        return

    @classmethod
    def fit(cls, samples: Samples, settings: FitSettings) -> TableColumns:
        """Fit on one row per unit."""
        table = first_of_each(samples.table, samples.units.tolist())
        return cls(TableEncoder.fit(table, settings.columns, settings.harmonise))

    def features(self, samples: Samples) -> Floats:
        """The encoded columns."""
        return self.encoder.encode(samples.table, unknown="error" if samples.new else "missing")

    def of_units(self, samples: Samples) -> Floats:
        """The encoded columns, of each the first cell of a unit that is not missing."""
        cells = first_of_each(samples.table, samples.units.tolist())
        return self.encoder.encode(cells, unknown="error" if samples.new else "missing")

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the encoder."""
        return self.encoder.names

    @property
    def text(self) -> str:
        """The columns and what they hold."""
        return self.encoder.text

    def document(self) -> dict[str, Any]:
        """That of the encoder."""
        return self.encoder.to_document()

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> TableColumns:
        """Load an encoder."""
        return cls(TableEncoder.from_document(dict(saved)))


@dataclass(frozen=True)
class Grid:
    """Blocks of voxels, whose means are the cells of an image.

    Attributes:
        image: Voxels of the images along each axis.
        cells: Blocks along each axis.
    """

    image: tuple[int, ...]
    cells: tuple[int, ...]

    @classmethod
    def for_images(cls, image: Sequence[int], most: int) -> Grid:
        """Blocks that are as cubic as possible, at most ``most`` of them, and none smaller than a voxel."""
        cells = np.array(image, dtype=np.float64)
        if cells.prod() <= most:
            return cls(tuple(image), tuple(image))
        low, high = 1.0, float(max(image))
        for _ in range(60):  # the edge of the blocks, by bisection: the number of blocks falls with it
            edge = (low + high) / 2
            low, high = (low, edge) if _divided(image, edge).prod() <= most else (edge, high)
        return cls(tuple(image), tuple(int(each) for each in _divided(image, high)))

    def means(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """The means of values (n, C, *image), float32 (n, C, *cells).

        Raises:
            DataError: The images have another size.
        """
        if values.shape[2:] != self.image:
            raise DataError(
                f"The images have {' x '.join(map(str, values.shape[2:]))} voxels after the preprocessing, and the "
                f"classifier was fitted on {' x '.join(map(str, self.image))}. Resize them in the preprocessing."
            )
        means: npt.NDArray[np.float32] = values.astype(np.float32, copy=False)
        for axis, (length, count) in enumerate(zip(self.image, self.cells, strict=True), 2):
            if count < length:
                ends = np.linspace(0, length, count + 1).astype(int)
                widths = np.diff(ends).reshape([-1 if each == axis else 1 for each in range(means.ndim)])
                means = (np.add.reduceat(means, ends[:-1], axis=axis) / widths).astype(np.float32)
        return means

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Grid:
        """Load what ``asdict`` gave."""
        return cls(tuple(map(int, document["image"])), tuple(map(int, document["cells"])))


def _divided(image: Sequence[int], edge: float) -> Floats:
    return np.maximum(np.floor(np.array(image, dtype=np.float64) / edge), 1)


class _OnGrid(FeatureMaker):
    """A maker whose images have the size of a grid."""

    grid: Grid

    @property
    def spatial_dims(self) -> int:
        """Those of the grid."""
        return len(self.grid.image)


@dataclass(frozen=True)
class Voxels(_OnGrid):
    """The preprocessed pixels, as means over blocks of them.

    Attributes:
        grid: The blocks.
        channels: Channels of an image.
        normalisation: The intensity scaling.
    """

    kind: ClassVar[FeatureKind] = "voxels"

    grid: Grid
    channels: int
    normalisation: Normalisation

    @classmethod
    def fit(cls, samples: Samples, settings: FitSettings) -> Voxels:
        """Only sizes are fitted."""
        channels, *image = samples.shape
        return cls(Grid.for_images(image, settings.options.cells // channels), channels, settings.scaling)

    def features(self, samples: Samples) -> Floats:
        """The means of the blocks."""
        means = self.grid.means(samples.scaled(self.normalisation))
        return means.reshape(len(means), -1).astype(np.float64)

    @property
    def names(self) -> tuple[str, ...]:
        """Numbers of the blocks."""
        return tuple(f"cell {number}" for number in range(self.channels * int(np.prod(self.grid.cells))))

    @property
    def text(self) -> str:
        """The number of blocks."""
        size = " x ".join(map(str, self.grid.cells))
        return f"voxels ({size} means of blocks{f', {self.channels} channels' if self.channels > 1 else ''})"

    def document(self) -> dict[str, Any]:
        """Sizes and intensity scaling."""
        return {"grid": asdict(self.grid), "channels": self.channels, "normalisation": asdict(self.normalisation)}

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> Voxels:
        """Load sizes and intensity scaling."""
        return cls(
            Grid.from_document(saved["grid"]),
            int(saved["channels"]),
            Normalisation.from_document(saved["normalisation"]),
        )


@dataclass(frozen=True)
class TissueMaps(_OnGrid):
    """Where fluid, gray and white matter are: their fraction in blocks of voxels, and in the whole head.

    The maps are those of :class:`gyrus.transforms.tissue_maps.Tissue`, for skull-stripped T1-weighted heads.

    Attributes:
        grid: The blocks.
        channels: Channels of an image.
    """

    kind: ClassVar[FeatureKind] = "tissue-maps"

    grid: Grid
    channels: int

    @classmethod
    def fit(cls, samples: Samples, settings: FitSettings) -> TissueMaps:
        """Only sizes are fitted."""
        channels, *image = samples.shape
        return cls(Grid.for_images(image, settings.options.cells // (channels * len(TISSUES))), channels)

    def features(self, samples: Samples) -> Floats:
        """The fractions, tissue by tissue, then those of the whole head."""
        tissues = np.stack([[tissue_table(channel)[channel] for channel in image] for image in samples.pixels])
        axes = tuple(range(2, tissues.ndim))
        found, totals = [], []
        for number in range(len(TISSUES)):
            inside = tissues == number
            found.append(self.grid.means(inside).reshape(len(inside), -1))
            totals.append(inside.sum(axis=axes, dtype=np.float64))
        head = np.maximum(np.sum(totals, axis=0), 1)
        return np.concatenate([*found, *(total / head for total in totals)], axis=1, dtype=np.float64)

    @property
    def names(self) -> tuple[str, ...]:
        """Tissues and numbers of the blocks, then the tissues."""
        cells = range(self.channels * int(np.prod(self.grid.cells)))
        whole = range(self.channels)
        return (
            *(f"{tissue} in cell {cell}" for tissue in TISSUES for cell in cells),
            *(
                f"fraction of {tissue}{f' in channel {number}' if number else ''}"
                for tissue in TISSUES
                for number in whole
            ),
        )

    @property
    def text(self) -> str:
        """The number of blocks."""
        return f"maps of {', '.join(TISSUES)} ({' x '.join(map(str, self.grid.cells))} fractions each) and totals"

    def document(self) -> dict[str, Any]:
        """The sizes."""
        return {"grid": asdict(self.grid), "channels": self.channels}

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> TissueMaps:
        """Load the sizes."""
        return cls(Grid.from_document(saved["grid"]), int(saved["channels"]))


@dataclass(frozen=True)
class RandomConvolutions(_OnGrid):
    """The responses of an image to random kernels: their maximum, and the proportion of voxels above a threshold.

    ROCKET (Dempster, Petitjean and Webb 2020, https://arxiv.org/abs/1910.13051) in two and three dimensions: kernels of
    3 voxels along each axis with normal, centred weights and a random dilation. As in MiniRocket (Dempster, Schmidt and
    Webb 2021, https://arxiv.org/abs/2012.08791) a threshold is a random quantile of the responses of a training image.

    Attributes:
        grid: Blocks of voxels that are averaged before the convolutions.
        normalisation: The intensity scaling.
        regions: The responses are summarised in so many regions along each axis.
        kernels: float32 (kernels, C, 3, ...), in order of dilation.
        dilations: Of each kernel, (kernels,).
        thresholds: Of each kernel, float32 (kernels,).
    """

    kind: ClassVar[FeatureKind] = "random-convolutions"

    grid: Grid
    normalisation: Normalisation
    regions: int
    kernels: npt.NDArray[np.float32]
    dilations: npt.NDArray[np.int64]
    thresholds: npt.NDArray[np.float32]

    @classmethod
    def fit(cls, samples: Samples, settings: FitSettings) -> RandomConvolutions:
        """Draw the kernels, and their thresholds from the responses of training images."""
        channels, *image = samples.shape
        count, random = settings.options.kernels, np.random.default_rng((settings.seed, 0x20C))
        side = LONGEST_SIDE[len(image)]
        grid = Grid(tuple(image), tuple(min(length, side) for length in image))
        if min(grid.cells) < 3:
            raise ConfigError(
                f"Random convolutions need at least 3 voxels along each axis; the images have {image} after the "
                "preprocessing."
            )
        weights = random.normal(size=(count, channels, *[3] * len(image))).astype(np.float32)
        weights -= weights.mean(axis=tuple(range(1, weights.ndim)), keepdims=True)
        # A kernel spans 1 + 2 x dilation voxels, at most the shortest axis; the logarithms of dilations are uniform.
        most = np.log2(max(1, (min(grid.cells) - 1) // 2))
        dilations = np.sort(np.floor(2 ** random.uniform(0, most, count)).astype(np.int64))
        maker = cls(
            grid, settings.scaling, settings.options.regions, weights, dilations, np.zeros(count, dtype=np.float32)
        )
        return cls(grid, settings.scaling, maker.regions, weights, dilations, maker._thresholds(samples, random))

    def _thresholds(self, samples: Samples, random: np.random.Generator) -> npt.NDArray[np.float32]:
        """A random quantile of the responses to each kernel, each of a random training image."""
        examples = random.permutation(len(samples.rows))[:8]
        images = self._images(samples.take(np.sort(examples)))
        quantiles, chosen = random.uniform(size=len(self.kernels)), random.integers(len(images), size=len(self.kernels))
        found = np.empty(len(self.kernels), dtype=np.float32)
        for numbers, responses in self._responses(images):
            values = responses.flatten(2).numpy()  # (n, k, voxels)
            for place, number in enumerate(numbers):
                found[number] = np.quantile(values[chosen[number], place], quantiles[number])
        return found

    def _images(self, samples: Samples) -> npt.NDArray[np.float32]:
        return self.grid.means(samples.scaled(self.normalisation))

    def _responses(self, images: npt.NDArray[np.float32]) -> Iterator[tuple[range, Tensor]]:
        """The numbers of some kernels and the responses to them, float32 (n, k, *cells)."""
        import torch
        from torch.nn import functional

        convolve = functional.conv2d if images.ndim == 4 else functional.conv3d
        batch = torch.from_numpy(images)
        with torch.inference_mode():
            for dilation in np.unique(self.dilations):
                ends = np.flatnonzero(self.dilations == dilation)
                for start in range(int(ends[0]), int(ends[-1]) + 1, KERNELS_AT_ONCE):
                    numbers = range(start, min(start + KERNELS_AT_ONCE, int(ends[-1]) + 1))
                    weights = torch.from_numpy(self.kernels[numbers.start : numbers.stop])
                    yield numbers, convolve(batch, weights, padding=int(dilation), dilation=int(dilation))

    def features(self, samples: Samples) -> Floats:
        """Maximum and proportion above the threshold, for each region and kernel."""
        images = self._images(samples)
        step = max(1, BLOCK // (KERNELS_AT_ONCE * int(np.prod(self.grid.cells))))
        return np.concatenate([self._summaries(images[start : start + step]) for start in range(0, len(images), step)])

    def _summaries(self, images: npt.NDArray[np.float32]) -> Floats:
        import torch
        from torch.nn import functional

        two = images.ndim == 4
        largest, mean = (
            (functional.adaptive_max_pool2d, functional.adaptive_avg_pool2d)
            if two
            else (functional.adaptive_max_pool3d, functional.adaptive_avg_pool3d)
        )
        pooled = np.empty((len(images), 2, len(self.kernels), self.regions ** (images.ndim - 2)), dtype=np.float64)
        for numbers, responses in self._responses(images):
            place = slice(numbers.start, numbers.stop)
            thresholds = torch.from_numpy(self.thresholds[place]).reshape(-1, *[1] * (images.ndim - 2))
            pooled[:, 0, place] = largest(responses, self.regions).flatten(2).numpy()
            pooled[:, 1, place] = mean((responses > thresholds).float(), self.regions).flatten(2).numpy()
        return pooled.reshape(len(images), -1)

    @property
    def names(self) -> tuple[str, ...]:
        """The summary, the kernel and the region."""
        regions = self.regions ** len(self.grid.cells)
        return tuple(
            f"{summary} of kernel {kernel}{f' in region {region}' if regions > 1 else ''}"
            for summary in ("maximum", "proportion")
            for kernel in range(len(self.kernels))
            for region in range(regions)
        )

    @property
    def text(self) -> str:
        """The number of kernels."""
        where = f", each in {self.regions ** len(self.grid.cells)} regions" if self.regions > 1 else ""
        return f"responses to {counted(len(self.kernels), 'random kernel')}{where}"

    def document(self) -> dict[str, Any]:
        """Sizes and intensity scaling."""
        return {
            "grid": asdict(self.grid),
            "normalisation": asdict(self.normalisation),
            "regions": self.regions,
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Kernels, dilations and thresholds."""
        return {"kernels": self.kernels, "dilations": self.dilations, "thresholds": self.thresholds}

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> RandomConvolutions:
        """Load the kernels."""
        kernels, dilations, thresholds = (saved[name] for name in ("kernels", "dilations", "thresholds"))
        if not len(kernels) == len(dilations) == len(thresholds):
            raise ValueError("kernels, dilations and thresholds differ in number")
        return cls(
            Grid.from_document(saved["grid"]),
            Normalisation.from_document(saved["normalisation"]),
            int(saved["regions"]),
            kernels,
            dilations,
            thresholds,
        )


@dataclass(frozen=True)
class PretrainedNetwork(FeatureMaker):
    """The last features of a frozen network of timm, before its classes.

    Of volumes and stacks the slices along the first axis are shown to it, and mean and maximum over them are used; of
    slices that are samples of their own, mean and maximum over those of a subject.

    Attributes:
        backbone: Its name in timm.
        channels: Channels of an image.
        axes: Axes of an image.
        width: Features of a slice.
        source: Where the weights come from.
        weights: The weights by name.
    """

    kind: ClassVar[FeatureKind] = "pretrained"

    backbone: str
    channels: int
    axes: int
    width: int
    source: Mapping[str, Any]
    weights: Arrays

    @property
    def spatial_dims(self) -> int:
        """Axes of an image."""
        return self.axes

    @classmethod
    def fit(cls, samples: Samples, settings: FitSettings) -> PretrainedNetwork:
        """Load the weights; nothing is fitted."""
        from gyrus.models.build import build
        from gyrus.models.config import ModelConfig

        if not settings.weights:
            raise ConfigError(
                "The features 'pretrained' need the weights of a network: model.pretrained=PATH of a file, or true for "
                "those that timm publishes (needs a connection once)."
            )
        channels, *image = samples.shape
        config = ModelConfig(
            name=f"timm:{settings.options.backbone}", pretrained=settings.weights, stem_weights=settings.stem
        )
        network = build(
            config,
            in_channels=_network_channels(channels),
            num_classes=2,
            image_size=(NETWORK_SIDE, NETWORK_SIDE),
        )
        assert network.pretrained is not None
        return cls(
            settings.options.backbone,
            channels,
            len(image),
            network.backbone.num_features,
            asdict(network.pretrained),
            {name: value.numpy() for name, value in network.backbone.state_dict().items()},
        )

    @cached_property
    def _network(self) -> Backbone:
        import torch

        from gyrus.models.classifier import Signature
        from gyrus.models.options import TimmOptions
        from gyrus.models.timm_backbone import TimmBackbone

        signature = Signature(_network_channels(self.channels), (NETWORK_SIDE, NETWORK_SIDE), 2)
        network = TimmBackbone(self.backbone, signature, TimmOptions())
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in self.weights.items()})
        return network.eval().float()

    def features(self, samples: Samples) -> Floats:
        """The features of each image; of volumes their mean and their maximum over slices."""
        pixels = samples.pixels
        if self.spatial_dims == 2:
            return self._of_slices(pixels)
        chosen = np.unique(np.linspace(0, pixels.shape[2] - 1, MOST_SLICES).round().astype(int))
        slices = np.moveaxis(pixels[:, :, chosen], 2, 1)  # (n, slices, C, rows, columns)
        found = self._of_slices(slices.reshape(-1, *slices.shape[2:])).reshape(len(pixels), len(chosen), -1)
        return np.concatenate([found.mean(axis=1), found.max(axis=1)], axis=1)

    def _of_slices(self, pixels: npt.NDArray[np.uint8], at_once: int = 32) -> Floats:
        """The features (n, width) of slices (n, C, rows, columns)."""
        import torch
        from torch.nn import functional

        network, found = self._network, []
        with torch.inference_mode():
            for start in range(0, len(pixels), at_once):
                images = torch.from_numpy(pixels[start : start + at_once]).float() / 255
                if images.shape[1] == 1:
                    images = images.expand(-1, 3, -1, -1)
                factor = NETWORK_SIDE / min(images.shape[2:])
                if factor > 1:
                    size = [round(length * factor) for length in images.shape[2:]]
                    images = functional.interpolate(images, size, mode="bilinear", align_corners=False)
                means, stds = (
                    torch.tensor(values if images.shape[1] == 3 else [sum(values) / 3] * images.shape[1])
                    for values in (IMAGENET_MEAN, IMAGENET_STD)
                )
                images = (images - means[:, None, None]) / stds[:, None, None]
                found.append(network.pool(network(images)).numpy())
        return np.concatenate(found).astype(np.float64)

    @property
    def names(self) -> tuple[str, ...]:
        """Numbers of the features, for volumes those of the means and of the maxima."""
        parts = ("feature",) if self.spatial_dims == 2 else ("mean of feature", "maximum of feature")
        return tuple(f"{part} {number}" for part in parts for number in range(self.width))

    @property
    def poolings(self) -> tuple[Literal["mean", "max"], ...]:
        """Slices are pooled by both; volumes are pooled already."""
        return ("mean", "max") if self.spatial_dims == 2 else ("mean",)

    @property
    def text(self) -> str:
        """The network and where its weights come from."""
        return f"features of a frozen {self.backbone} ({Path(str(self.source['source'])).name})"

    def document(self) -> dict[str, Any]:
        """The network and the record of its weights."""
        return {
            "backbone": self.backbone,
            "channels": self.channels,
            "axes": self.axes,
            "width": self.width,
            "source": dict(self.source),
        }

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The weights."""
        return {f"{WEIGHT}{name}": value for name, value in self.weights.items()}

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> PretrainedNetwork:
        """Load the network."""
        return cls(
            str(saved["backbone"]),
            int(saved["channels"]),
            int(saved["axes"]),
            int(saved["width"]),
            dict(saved["source"]),
            {name.removeprefix(WEIGHT): value for name, value in saved.items() if name.startswith(WEIGHT)},
        )


def _network_channels(channels: int) -> int:
    """Gray images are shown in three equal channels, as the network was trained on colours."""
    return 3 if channels == 1 else channels


@dataclass(frozen=True)
class Volumes(FeatureMaker):
    """Volumes of tissues and regions of T1-weighted heads; see docs/volumetry.md.

    Whole heads are read from their files and registered to a template. Of stacks and slices, the fractions of the
    tissues in the stored pixels of a subject are used. Nothing is fitted on other subjects.

    Attributes:
        registered: Whether whole heads are measured.
        columns: Names of the features.
        failed: Samples of the training set that could not be measured: they count as average.
    """

    kind: ClassVar[FeatureKind] = "volumes"

    registered: bool
    columns: tuple[str, ...]
    failed: tuple[str, ...] = ()

    @property
    def spatial_dims(self) -> int | None:
        """It takes slices and stacks alike, but whole heads only where it was fitted on them."""
        return 3 if self.registered else None

    @classmethod
    def fit(cls, samples: Samples, settings: FitSettings) -> Volumes:  # noqa: ARG003
        """Measure the training set, to name what fails; nothing is fitted."""
        if VOLUME_FILES not in samples.manifest.table:
            return cls(False, PIXEL_FEATURES)
        heads = measure_heads(samples.manifest.select(samples.table["sample"].tolist()))
        return cls(True, FEATURE_NAMES, tuple(sample for sample, head in heads.items() if head.reason))

    def features(self, samples: Samples) -> Floats:
        """The volumes of each head."""
        if VOLUME_FILES not in samples.manifest.table:
            raise DataError(
                "The classifier was fitted on volumes of whole heads, and these samples are images. Give volumes."
            )
        wanted = samples.table["sample"].tolist()
        heads = measure_heads(samples.manifest.select(wanted))
        return as_rows([heads[sample] for sample in wanted], self.columns)

    def of_units(self, samples: Samples) -> Floats | None:
        """The fractions of the tissues in all images of each unit; None for whole heads."""
        if self.registered:
            return None
        names, codes = np.unique(samples.units, return_inverse=True)
        places = [np.flatnonzero(codes == code) for code in range(len(names))]
        return np.stack([pixel_features(samples.take(each).pixels) for each in places])

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the volumes."""
        return self.columns

    @property
    def text(self) -> str:
        """Where the volumes come from."""
        if not self.registered:
            return "fractions of fluid, gray and white matter in the pixels"
        missing = f" ({counted(len(self.failed), 'training image')} could not be measured)" if self.failed else ""
        return f"volumes of tissues and regions{missing}"

    def document(self) -> dict[str, Any]:
        """The names of the features."""
        return {"registered": self.registered, "columns": list(self.columns), "failed": list(self.failed)}

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> Volumes:
        """Load the names."""
        return cls(bool(saved["registered"]), tuple(saved["columns"]), tuple(saved["failed"]))


FEATURE_MAKERS: dict[str, type[FeatureMaker]] = {
    maker.kind: maker for maker in (TableColumns, Voxels, TissueMaps, RandomConvolutions, PretrainedNetwork, Volumes)
}
"""The kinds of features by name; a new one is also a :data:`gyrus.models.options.FeatureKind`."""


@dataclass(frozen=True)
class SubjectFeatures:
    """The features of subjects by one or several makers, standardised.

    Each block of features but the standardised ones is divided by the standard deviations over the training units, and
    then scaled so that all blocks have the same total variance, whatever their number of features.

    Attributes:
        makers: The makers.
        mean: Of each feature over the training units, (F,); 0 for standardised ones.
        scale: What it is divided by, (F,).
    """

    makers: tuple[FeatureMaker, ...]
    mean: Floats
    scale: Floats

    @classmethod
    def fit(
        cls,
        samples: Samples,
        settings: FitSettings,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[SubjectFeatures, Floats]:
        """Fit on the training set.

        Args:
            samples: Those of the training set only.
            settings: The options and the seed.
            progress: Called with the number of finished samples and of all samples.

        Returns:
            The fitted features, and those of the sorted units (U, F).

        Raises:
            GyrusError: The data do not have what a maker needs.
        """
        makers = tuple(
            look_up(kind, FEATURE_MAKERS, "kind of features").fit(samples, settings)
            for kind in settings.options.features
        )
        _, blocks = _pooled(makers, samples, progress)
        mean, scale = zip(*(_scaling(maker, block) for maker, block in zip(makers, blocks, strict=True)), strict=True)
        fitted = cls(makers, np.concatenate(mean), np.concatenate(scale))
        return fitted, fitted._standardised(np.concatenate(blocks, axis=1))

    @classmethod
    def of_table(cls, encoder: TableEncoder) -> SubjectFeatures:
        """Only the columns of a table, which the encoder standardises."""
        maker = TableColumns(encoder)
        return cls((maker,), np.zeros(len(maker.names)), np.ones(len(maker.names)))

    @property
    def table_only(self) -> TableEncoder | None:
        """The encoder of the table, if there are no other features."""
        (first, *others) = self.makers
        return first.encoder if isinstance(first, TableColumns) and not others else None

    @property
    def needs_pixels(self) -> bool:
        """Whether a maker needs the store of preprocessed images."""
        return any(maker.needs_pixels for maker in self.makers)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all F features."""
        return tuple(
            f"{'maximum over slices of ' if pooling == 'max' else ''}{name}"
            for maker in self.makers
            for pooling in maker.poolings
            for name in maker.names
        )

    @property
    def text(self) -> str:
        """What the features are, in one line."""
        return "; ".join(maker.text for maker in self.makers)

    def of_units(
        self,
        samples: Samples,
        *,
        progress: Callable[[int, int], None] | None = None,
    ) -> tuple[npt.NDArray[np.str_], Floats]:
        """The sorted names of the U units of some samples, and their features (U, F).

        Raises:
            DataError: The samples do not have what a maker needs.
        """
        names, blocks = _pooled(self.makers, samples, progress)
        return names, self._standardised(np.concatenate(blocks, axis=1))

    def _standardised(self, features: Floats) -> Floats:
        return np.where(np.isnan(features), 0.0, (features - self.mean) / self.scale)

    def document(self) -> list[dict[str, Any]]:
        """What was fitted, without arrays: one entry per maker."""
        return [{"kind": maker.kind, **maker.document()} for maker in self.makers]

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays that were fitted, those of a maker below its kind."""
        own = {f"{maker.kind}/{name}": value for maker in self.makers for name, value in maker.arrays().items()}
        return {"mean": self.mean, "scale": self.scale, **own}

    @classmethod
    def from_saved(cls, documents: Sequence[Mapping[str, Any]], arrays: Arrays) -> SubjectFeatures:
        """What :meth:`document`, after JSON, and :meth:`arrays` were made from.

        Raises:
            LookupError, TypeError, ValueError: They are damaged.
        """
        makers = []
        for document in documents:
            kind = str(document["kind"])
            own = {
                name.removeprefix(f"{kind}/"): value for name, value in arrays.items() if name.startswith(f"{kind}/")
            }
            about = {name: value for name, value in document.items() if name != "kind"}
            makers.append(FEATURE_MAKERS[kind].from_saved({**about, **own}))
        found = cls(tuple(makers), arrays["mean"], arrays["scale"])
        if not len(found.mean) == len(found.scale) == len(found.names):
            raise ValueError(f"{len(found.mean)} means and {len(found.scale)} scales of {len(found.names)} features")
        return found


BLOCK_VARIANCE = 100.0
"""Total variance of a block of features of images: the values of C to choose from then reach from very strong to weak
penalties, whatever the number of features."""


def _scaling(maker: FeatureMaker, block: Floats) -> tuple[Floats, Floats]:
    """Mean and scale (F,) of a block of features (U, F)."""
    if maker.standardised:
        return np.zeros(block.shape[1]), np.ones(block.shape[1])
    known = ~np.isnan(block)
    counts = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, block, 0.0).sum(axis=0) / counts
    spread = np.sqrt(np.where(known, (block - mean) ** 2, 0.0).sum(axis=0) / counts)
    varies = spread > 1e-9 * np.maximum(np.abs(mean), 1.0)
    scale = np.where(varies, spread, 1.0) * np.sqrt(max(int(varies.sum()), 1) / BLOCK_VARIANCE)
    # A feature that is constant in the training set says nothing: it stays 0 for new subjects too.
    return mean, np.where(varies, scale, np.inf)


def _pooled(
    makers: Sequence[FeatureMaker], samples: Samples, progress: Callable[[int, int], None] | None
) -> tuple[npt.NDArray[np.str_], list[Floats]]:
    """The sorted names of the units, and for each maker the features of each, (U, F), over all poolings."""
    names, codes = np.unique(samples.units, return_inverse=True)
    whole = {number: maker.of_units(samples) for number, maker in enumerate(makers)}
    sums: dict[tuple[int, str], Floats] = {}
    pooled = [number for number, found in whole.items() if found is None]
    for places in samples.blocks() if pooled else ():
        part = samples.take(places)
        for number in pooled:
            found = makers[number].features(part)
            for pooling in makers[number].poolings:
                add, start = (np.add, 0.0) if pooling == "mean" else (np.maximum, -np.inf)
                total = sums.setdefault((number, pooling), np.full((len(names), found.shape[1]), start))
                add.at(total, codes[places], found)
        if progress:
            progress(int(places[-1]) + 1, len(samples.rows))
    counts = np.bincount(codes, minlength=len(names))[:, None]
    blocks = []
    for number, maker in enumerate(makers):
        own = whole[number]
        parts = (
            [own]
            if own is not None
            else [sums[number, pooling] / (counts if pooling == "mean" else 1) for pooling in maker.poolings]
        )
        blocks.append(np.concatenate(parts, axis=1))
    return names, blocks
