"""The features of subjects by several makers, standardised as input of one classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gyrus.datasets.table_features import TableEncoder
from gyrus.inference.features.base import Arrays, FeatureMaker, FitSettings, Floats, Samples
from gyrus.inference.features.pretrained_network import PretrainedNetwork
from gyrus.inference.features.random_convolutions import RandomConvolutions
from gyrus.inference.features.shape import Shape
from gyrus.inference.features.table_columns import TableColumns
from gyrus.inference.features.tissue_fractions import TissueFractions
from gyrus.inference.features.tissue_maps import TissueMaps
from gyrus.inference.features.volumes import Volumes
from gyrus.inference.features.voxels import Voxels
from gyrus.registry import look_up

FEATURE_MAKERS: dict[str, type[FeatureMaker]] = {
    maker.kind: maker
    for maker in (
        TableColumns,
        Voxels,
        TissueMaps,
        TissueFractions,
        RandomConvolutions,
        PretrainedNetwork,
        Volumes,
        Shape,
    )
}
"""The kinds of features by name; a new one is also a :data:`gyrus.models.options.FeatureKind`."""


BLOCK_VARIANCE = 100.0
"""Total variance of a block of features of images: the values of C to choose from then reach from very strong to weak
penalties, whatever the number of features."""


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
