"""Heat maps measured against truth: whether they lie where the finding is known to be, such as a lesion or a tumour.

A map can point to a lesion without any network, because the lesion is bright, large or in the middle of the image.
Every measure is therefore compared with that of maps that need no network: :func:`reference_maps`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy import ndimage

from gyrus.evaluation.bootstrap import BootstrapConfig, estimate_mean
from gyrus.evaluation.result import Estimate
from gyrus.explanation.deletion_insertion import edge_maps
from gyrus.explanation.methods import METHODS
from gyrus.explanation.regions import fraction_inside
from gyrus.serialisation import Saved

TOLERANCE = 0.03
"""Distance from the truth that counts as inside in the pointing game, as a fraction of the image along each axis."""

CENTRE_WIDTH = 1 / 4
"""Standard deviation of the map of the image centre, as a fraction of the image along each axis."""

REFERENCES = {
    "uniform": "Uniform map (chance)",
    "brain": "Brain, uniform",
    "centre": "Centre of the image",
    "image": "Image itself",
    "edges": "Edges of the image",
}
"""Maps that need no network, by name, with their titles."""


def pointing_game(maps: np.ndarray, truths: np.ndarray, tolerance: float = TOLERANCE) -> NDArray[np.float64]:
    """Whether the maximum of each map lies inside its truth.

    Zhang et al. 2018, https://arxiv.org/abs/1608.00507. Of several maxima, the fraction inside is returned: what one of
    them, drawn at random, reaches on average. A map without positive values therefore scores as chance.

    Args:
        maps: (N, *spatial). Negative values count as 0.
        truths: bool, of the same shape.
        tolerance: Distance from the truth that still counts as inside, as a fraction of the image along each axis.

    Returns:
        float64 (N,), 0 to 1; NaN where the truth is empty.

    Example:
        >>> pointing_game(np.array([[[0.0, 2.0], [1.0, -3.0]]]), np.array([[[False, True], [False, False]]]))
        array([1.])
    """
    return np.array([_maximum_inside(heat, truth, tolerance) for heat, truth in zip(maps, truths, strict=True)])


def energy_inside(maps: np.ndarray, truths: np.ndarray) -> NDArray[np.float64]:
    """The fraction of each map's positive values that lies inside its truth: the energy-based pointing game.

    Wang et al. 2020, https://arxiv.org/abs/1910.01279. A map without positive values scores as a uniform map: the
    fraction of the image that the truth covers.

    Args:
        maps: (N, *spatial). Negative values count as 0.
        truths: bool, of the same shape.

    Returns:
        float64 (N,), 0 to 1; NaN where the truth is empty.
    """
    inside = fraction_inside(np.asarray(maps).clip(min=0), truths)
    area = truths.reshape(len(truths), -1).mean(1)
    return np.where(area > 0, np.where(np.isnan(inside), area, inside), np.nan)


def reference_maps(images: np.ndarray, brains: np.ndarray) -> dict[str, np.ndarray]:
    """Maps that need no network, each (N, *spatial), by name in :data:`REFERENCES`.

    Args:
        images: Gray values (N, *spatial).
        brains: bool, of the same shape: the brain.
    """
    gray = images.astype(np.float32)
    axes = np.meshgrid(*(np.linspace(-0.5, 0.5, length) for length in gray.shape[1:]), indexing="ij")
    centre = np.exp(-0.5 * sum((axis / CENTRE_WIDTH) ** 2 for axis in axes)).astype(np.float32)
    return {
        "uniform": np.ones_like(gray),
        "brain": brains.astype(np.float32),
        "centre": np.broadcast_to(centre, gray.shape),
        "image": gray,
        "edges": edge_maps(torch.from_numpy(gray[:, None])),
    }


def localisation_table(
    maps: Mapping[str, np.ndarray], truths: np.ndarray, samples: Sequence[str], subjects: np.ndarray
) -> pd.DataFrame:
    """The localisation of each map in each image that has a truth.

    Args:
        maps: By name of the method or reference, (N, *spatial).
        truths: bool (N, *spatial); empty where there is nothing to find.
        samples: Names of the N images.
        subjects: (N,), the subject of each image.

    Returns:
        One row per map and image with a truth: ``map``, ``sample``, ``subject``, ``area`` (fraction of the image that
        the truth covers), ``pointing`` and ``energy``.
    """
    has_truth = truths.reshape(len(truths), -1).any(1)
    names, inside = np.array(samples)[has_truth], truths[has_truth]
    tables = [
        pd.DataFrame(
            {
                "map": name,
                "sample": names,
                "subject": subjects[has_truth],
                "area": inside.reshape(len(inside), -1).mean(1),
                "pointing": pointing_game(values[has_truth], inside),
                "energy": energy_inside(values[has_truth], inside),
            }
        )
        for name, values in maps.items()
    ]
    return pd.concat(tables, ignore_index=True)


@dataclass(frozen=True)
class LocalisationScore:
    """The localisation of one map, mean over images.

    Attributes:
        map: Name of the method, or of the reference.
        pointing: Pointing game: fraction of images whose maximum lies inside the truth.
        energy: Fraction of the positive values that lies inside the truth.
        pointing_gain: ``pointing`` minus that of the best reference on the same images; None for references.
        energy_gain: The same for ``energy``.
    """

    map: str
    pointing: Estimate
    energy: Estimate
    pointing_gain: Estimate | None = None
    energy_gain: Estimate | None = None


@dataclass(frozen=True)
class Localisation(Saved):
    """The heat maps of a network against truth.

    Attributes:
        target: Description of the class that the maps are about.
        images: Number of images with a truth.
        without_truth: Number of images without one; they are left out.
        unit: What the intervals resample; images where the subject of one is not known.
        units: Number of these.
        area: Mean fraction of the image that the truth covers.
        tolerance: Tolerance of the pointing game.
        methods: One score per method.
        references: One score per map of :data:`REFERENCES`.
    """

    SCHEMA = "gyrus.localisation/1"

    target: str
    images: int
    without_truth: int
    unit: Literal["subject", "image"]
    units: int
    area: float
    tolerance: float
    methods: tuple[LocalisationScore, ...]
    references: tuple[LocalisationScore, ...]

    @classmethod
    def from_table(
        cls,
        table: pd.DataFrame,
        *,
        target: str,
        without_truth: int,
        unit: Literal["subject", "image"],
        bootstrap: BootstrapConfig,
    ) -> Localisation:
        """Means with confidence intervals.

        The best reference is the one with the highest mean on these images, separately for both measures. This choice
        favours the references.

        Args:
            table: From :func:`localisation_table`, with the references.
            target: Description of the class that the maps are about.
            without_truth: Number of images that are not in the table.
            unit: What the column ``subject`` distinguishes.
            bootstrap: How intervals are computed.
        """
        rows = {str(name): part for name, part in table.groupby("map", sort=False)}
        groups = np.unique(rows["uniform"]["subject"], return_inverse=True)[1]
        best = {
            measure: max((rows[name][measure].to_numpy() for name in REFERENCES), key=lambda values: values.mean())
            for measure in ("pointing", "energy")
        }

        def score(name: str) -> LocalisationScore:
            found = [rows[name][measure].to_numpy() for measure in best]
            means = [estimate_mean(values, groups, bootstrap, (0.0, 1.0)) for values in found]
            gains = [
                None if name in REFERENCES else estimate_mean(values - least, groups, bootstrap)
                for values, least in zip(found, best.values(), strict=True)
            ]
            return LocalisationScore(name, means[0], means[1], gains[0], gains[1])

        return cls(
            target=target,
            images=len(rows["uniform"]),
            without_truth=without_truth,
            unit=unit,
            units=len(np.unique(groups)),
            area=float(rows["uniform"]["area"].mean()),
            tolerance=TOLERANCE,
            methods=tuple(score(name) for name in rows if name not in REFERENCES),
            references=tuple(score(name) for name in rows if name in REFERENCES),
        )

    @property
    def sentences(self) -> tuple[str, ...]:
        """Which methods localise better than every map that needs no network, by each measure."""
        energy = [METHODS[score.map].title for score in self.methods if _above(score.energy_gain)]
        pointing = [METHODS[score.map].title for score in self.methods if _above(score.pointing_gain)]
        return (
            f"Methods with more attribution inside the truth ({100 * self.area:.1f} % of the image, {self.images} "
            f"images) than every map that needs no network: {', '.join(energy) or 'none'}.",
            "Methods whose maximum lies inside more often than that of every such map: "
            f"{', '.join(pointing) or 'none'}.",
        )


def _above(gain: Estimate | None) -> bool:
    """Whether the interval of a gain lies above 0."""
    return gain is not None and gain.low is not None and gain.low > 0


def _maximum_inside(heat: np.ndarray, truth: np.ndarray, tolerance: float) -> float:
    if not truth.any():
        return np.nan
    distance = ndimage.distance_transform_edt(~truth, sampling=[1 / length for length in truth.shape])
    positive = np.clip(heat, 0, None)
    return float((distance <= tolerance)[positive == positive.max()].mean())
