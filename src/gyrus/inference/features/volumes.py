"""Volumes of tissues and regions as features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from gyrus.datasets.manifest import VOLUME_FILES
from gyrus.errors import DataError
from gyrus.inference.features.base import FeatureMaker, FitSettings, Floats, Samples
from gyrus.inference.features.tissue_fractions import TissueFractions
from gyrus.inference.head_volumes import as_rows, measure_heads
from gyrus.models.options import FeatureKind
from gyrus.text import counted
from gyrus.volumetry.measure import FEATURE_NAMES


@dataclass(frozen=True)
class Volumes(FeatureMaker):
    """Volumes of tissues and regions of T1-weighted heads; see docs/volumetry.md.

    Whole heads are read from their files and registered to a template. Nothing is fitted on other subjects. Of stacks
    and slices, :class:`TissueFractions` are used.

    Attributes:
        columns: Names of the features.
        failed: Samples of the training set that could not be measured: they count as average.
    """

    kind: ClassVar[FeatureKind] = "volumes"

    columns: tuple[str, ...]
    failed: tuple[str, ...] = ()

    @property
    def spatial_dims(self) -> int:
        """It takes whole heads only."""
        return 3

    @classmethod
    def fit(cls, samples: Samples, settings: FitSettings) -> Volumes | TissueFractions:
        """Measure the training set, to name what fails; nothing is fitted."""
        if VOLUME_FILES not in samples.manifest.table:
            return TissueFractions.fit(samples, settings)
        heads = measure_heads(samples.manifest.select(samples.table["sample"].tolist()))
        return cls(FEATURE_NAMES, tuple(sample for sample, head in heads.items() if head.reason))

    def features(self, samples: Samples) -> Floats:
        """The volumes of each head."""
        if VOLUME_FILES not in samples.manifest.table:
            raise DataError(
                "The classifier was fitted on volumes of whole heads, and these samples are images. Give volumes."
            )
        wanted = samples.table["sample"].tolist()
        heads = measure_heads(samples.manifest.select(wanted))
        return as_rows([heads[sample] for sample in wanted], self.columns)

    @property
    def is_beside_image(self) -> bool:
        """Heads are measured in their files."""
        return True

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the volumes."""
        return self.columns

    @property
    def text(self) -> str:
        """How many heads failed."""
        missing = f" ({counted(len(self.failed), 'training image')} could not be measured)" if self.failed else ""
        return f"volumes of tissues and regions{missing}"

    def document(self) -> dict[str, Any]:
        """The names of the features."""
        return {"columns": list(self.columns), "failed": list(self.failed)}

    @classmethod
    def from_saved(cls, saved: Mapping[str, Any]) -> Volumes | TissueFractions:
        """Load the names."""
        if not saved.get("registered", True):  # of stacks, by an earlier version
            return TissueFractions()
        return cls(tuple(saved["columns"]), tuple(saved["failed"]))
