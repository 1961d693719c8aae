"""What every kind of features is: a maker that is fitted on samples of the training set, and their pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.table_features import ColumnKind, HarmoniseConfig
from gyrus.models.options import FeatureKind, FeatureOptions, Measure, StemRule
from gyrus.transforms.normalisation import Normalisation
from gyrus.transforms.preprocessing import AnyImageStep

if TYPE_CHECKING:
    import pandas as pd

    from gyrus.datasets.store import Store
    from gyrus.models.feature_layers import FeatureLayer

Floats = npt.NDArray[np.float64]
Arrays: TypeAlias = Mapping[str, npt.NDArray[Any]]

BLOCK = 2**23
"""Voxels whose features are made at once."""


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


@dataclass(frozen=True)
class NetworkInput:
    """How stored images become the input of a network.

    Attributes:
        normalisation: The intensity scaling.
        steps: Steps that follow those of the preprocessing.
        measure: What is measured in the image, where the features are no layer of a network; else None.
    """

    normalisation: Normalisation
    steps: tuple[AnyImageStep, ...] = ()
    measure: Measure | None = None


UNSCALED = Normalisation("fixed", (0.0,), (1.0,))
"""Pixels in 0..1 as they are."""


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

    @property
    def is_beside_image(self) -> bool:
        """Whether the features do not come from the stored image: a network takes them as numbers beside it."""
        return False

    def network_input(self) -> NetworkInput | None:
        """How images are prepared for :meth:`layer`, or what is measured in them; None if it is beside the image."""
        return None

    def layer(self, image: Sequence[int]) -> FeatureLayer:
        """The features as a layer of a network, in single precision.

        Args:
            image: Channels and voxels along each axis of a stored image.
        """
        raise NotImplementedError(image)

    @classmethod
    @abstractmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> FeatureMaker:
        """The maker of which :meth:`document`, after JSON, and :meth:`arrays` together are given.

        Raises:
            LookupError, TypeError, ValueError: They are damaged.
        """
