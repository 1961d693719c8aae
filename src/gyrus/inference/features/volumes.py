"""Volumes of tissues and regions as features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from gyrus.datasets.manifest import VOLUME_FILES
from gyrus.errors import DataError
from gyrus.inference.features.base import UNSCALED, FeatureMaker, FitSettings, Floats, NetworkInput, Samples
from gyrus.inference.head_volumes import as_rows, measure_heads
from gyrus.inference.measures import measure_images
from gyrus.models.options import FeatureKind
from gyrus.text import counted
from gyrus.volumetry.measure import FEATURE_NAMES
from gyrus.volumetry.tissue_mixture import PIXEL_FEATURES, pixel_features

if TYPE_CHECKING:
    from gyrus.models.feature_layers import Measured


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

    def network_input(self) -> NetworkInput | None:
        """The pixels as they are, which are measured; None for whole heads, which are read from their files."""
        return None if self.registered else NetworkInput(UNSCALED, measure="volumes")

    def layer(self, image: Sequence[int]) -> Measured:  # noqa: ARG002
        """The fractions of the tissues."""
        from gyrus.models.feature_layers import Measured

        return Measured("volumes", partial(measure_images, "volumes"))

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
