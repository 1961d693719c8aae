"""The columns of a clinical table as features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from gyrus.datasets.table_features import TableEncoder, first_of_each
from gyrus.inference.features.base import FeatureMaker, FitSettings, Floats, Samples
from gyrus.models.options import FeatureKind


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

    @property
    def is_beside_image(self) -> bool:
        """The columns are."""
        return True

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
