"""Image quality: measures of each image, and the images that stand out by one of them.

Whole-image mean, contrast, signal-to-noise ratio and entropy are those in common use for sets of slices, though
they mostly measure how much of the head is in the slice. The others look at the head and at the background apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from gyrus.audit.findings import Finding, Flag
from gyrus.transforms.contrast_enhancement import estimate_noise

if TYPE_CHECKING:
    from gyrus.audit.checks import AuditContext

Gray = NDArray[np.uint8]


@dataclass(frozen=True)
class Measure:
    """One number of an image.

    Attributes:
        unit: Of what, for tables.
        grain: Differences that mean nothing: the least that a robust deviation is taken for.
        low: What an image with an unusually low value may be; empty where a low value is no fault.
        high: Likewise for a high one.
    """

    unit: str
    grain: float
    low: str
    high: str


MEASURES: dict[str, Measure] = {
    "intensity": Measure("mean gray value", 1.0, "dark", "bright"),
    "contrast": Measure("standard deviation of the gray values", 1.0, "flat", "harsh"),
    "SNR": Measure("mean over standard deviation", 0.01, "", ""),
    "entropy": Measure("bits, of 256 gray values", 0.05, "few gray values", "noisy"),
    "foreground": Measure("share of the image", 0.01, "empty, or hardly any head", "head fills the image"),
    "foreground SNR": Measure("mean of the head over noise", 0.5, "noisy", ""),
    "sharpness": Measure("mean gradient over contrast, in the head", 0.01, "blurred", "oversharp or noisy"),
    "ghosting": Measure(
        "background beside the head less corners, over the head", 0.01, "", "ghosts, or bright background"
    ),
    "clipping": Measure("share of the head at the largest value", 0.01, "", "clipped"),
    "bias field": Measure(
        "spread of a smooth quadratic surface fitted to log intensity", 0.01, "", "uneven brightness"
    ),
    "cropped": Measure("share of the border that is head", 0.02, "", "head cut off at the border"),
}
"""What is measured on each image."""

OUTLIER_Z = 5.0
"""Robust z-score from which an image is named; 3.5 (Iglewicz and Hoaglin 1993) names too many in heavy tails."""

CLASSIC_Z = 2.0
"""Plain z-score of the four whole-image measures that is often used to call an image an outlier."""

CLASSIC = ("intensity", "contrast", "SNR", "entropy")
EMPTY, CROPPED = 0.02, 0.25
"""Foreground share below which an image is empty; border share above which a head is cut off."""


def measure_quality(gray: Gray) -> dict[str, float]:
    """The measures of one gray image (rows, columns), 8 bits; NaN where a measure is not defined."""
    values = gray.astype(np.float64)
    counts = np.bincount(gray.ravel(), minlength=256)
    contrast = float(values.std())
    head = gray > otsu(counts)
    border = np.concatenate([head[0], head[-1], head[1:-1, 0], head[1:-1, -1]])
    return {
        "intensity": float(values.mean()),
        "contrast": contrast,
        "SNR": float(values.mean() / contrast) if contrast > 0 else 0.0,
        "entropy": entropy(counts),
        "foreground": float(head.mean()),
        **_of_head(values, head),
        "cropped": float(border.mean()),
    }


def entropy(counts: NDArray[np.integer]) -> float:
    """Shannon entropy in bits of a histogram."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def otsu(counts: NDArray[np.integer]) -> int:
    """The gray value that best parts a histogram into dark and bright (Otsu 1979); bright is above it."""
    shares = counts / counts.sum()
    below, moment = np.cumsum(shares), np.cumsum(shares * np.arange(len(counts)))
    spread = below * (1 - below)
    between = np.divide((moment[-1] * below - moment) ** 2, spread, out=np.zeros(len(counts)), where=spread > 1e-12)
    # In an empty stretch between the humps all values part alike: its middle is taken.
    return int(np.flatnonzero(between >= between.max() * (1 - 1e-9)).mean())


def outliers(quality: pd.DataFrame) -> pd.DataFrame:
    """Robust z-scores, one column a measure: distance from the median in units of 1.4826 median deviations.

    Where more than half of the images share one value, the mean deviation stands in for the median one.
    """
    centre = quality.median()
    deviation = (quality - centre).abs()
    scale = 1.4826 * deviation.median()
    grain = pd.Series({name: measure.grain for name, measure in MEASURES.items()})
    scale = scale.where(scale > 1e-9, 1.2533 * deviation.mean()).clip(lower=grain[quality.columns])
    return ((quality - centre) / scale).fillna(0.0)


def classic_scores(quality: pd.DataFrame) -> pd.DataFrame:
    """Plain z-scores of the four whole-image measures."""
    part = quality[list(CLASSIC)]
    scale = part.std(ddof=0)
    return (part - part.mean()) / scale.where(scale > 1e-9, 1.0)


def classic_outliers(quality: pd.DataFrame) -> pd.Series:
    """The largest plain z-score of the four whole-image measures, without its sign, one an image."""
    return classic_scores(quality).abs().max(axis=1)


def faults(quality: pd.DataFrame) -> pd.DataFrame:
    """How far each measure lies on a side that is a fault, as a robust z-score; 0 on one that is none."""
    scores = outliers(quality)
    return pd.DataFrame({name: _faulty(scores[name], measure) for name, measure in MEASURES.items()})


def fault_in_words(quality: pd.DataFrame, row: int, name: str, height: float) -> str:
    """What is wrong with an image: the fault, the measure and how far it is out."""
    measure, number = MEASURES[name], float(quality[name].iloc[row])
    what = measure.high if number > float(quality[name].median()) else measure.low
    return f"{what}: {name} {number:.3g}, robust z {height:.1f}"


def flag_outliers(quality: pd.DataFrame, samples: pd.Series) -> tuple[Flag, ...]:
    """The images whose quality stands out, the worst first, each with its worst measure in words."""
    found = faults(quality)
    worst, height = found.idxmax(axis=1).astype(str), found.max(axis=1)
    named = height[height >= OUTLIER_Z].sort_values(ascending=False, kind="stable")
    return tuple(
        Flag(str(samples.iloc[row]), fault_in_words(quality, row, name, value))
        for row, name, value in zip(named.index.to_list(), worst[named.index], named, strict=True)
    )


def check(material: AuditContext) -> tuple[Finding, ...]:
    """Images whose quality stands out, and images that show no whole head."""
    quality, samples = material.images.quality, material.manifest.table["sample"]
    flags = flag_outliers(quality, samples)
    empty, cropped = int((quality["foreground"] < EMPTY).sum()), int((quality["cropped"] > CROPPED).sum())
    share = len(flags) / len(quality)
    numbers = {
        "outliers": len(flags),
        "classic outliers": int((classic_outliers(quality) > CLASSIC_Z).sum()),
        "empty": empty,
        "cropped": cropped,
        **{f"median {name}": float(quality[name].median()) for name in MEASURES},
    }
    if not flags and not empty and not cropped:
        return (Finding("quality", "ok", "No image stands out by its quality.", numbers),)
    words = f"{len(flags):,} of {len(quality):,} images stand out by their quality"
    words += f"; {empty:,} show hardly any head" if empty else ""
    words += f"; in {cropped:,} the head is cut off" if cropped else ""
    severity: Literal["warning", "note"] = (
        "warning" if share > 0.02 or empty or cropped > 0.02 * len(quality) else "note"
    )
    return (Finding("quality", severity, f"{words}.", numbers, flags),)


def _faulty(scores: pd.Series, measure: Measure) -> pd.Series:
    """How far a score lies on a side that is a fault; 0 on one that is none."""
    high = scores.clip(lower=0) if measure.high else scores * 0
    low = (-scores).clip(lower=0) if measure.low else scores * 0
    return high + low


def _of_head(values: NDArray[np.float64], head: NDArray[np.bool_]) -> dict[str, float]:
    names = ("foreground SNR", "sharpness", "ghosting", "clipping", "bias field")
    inside = values[head]
    if len(inside) < 16 or head.all():
        return dict.fromkeys(names, float("nan"))
    noise, spread = estimate_noise(values), float(inside.std())
    gradient = np.hypot(*np.gradient(values))[head]
    return {
        "foreground SNR": float(inside.mean() / max(noise, 0.1)),
        "sharpness": float(gradient.mean() / max(spread, 1e-6)),
        "ghosting": _ghosting(values, head),
        "clipping": float((inside >= 255).mean()),
        "bias field": _bias_field(values, head),
    }


def _ghosting(values: NDArray[np.float64], head: NDArray[np.bool_]) -> float:
    """Brightness of the background beside the head along rows and columns, less that of the rest, over the head."""
    background = ~ndimage.binary_dilation(head, iterations=3)
    beside_rows = background & np.asarray(head.any(axis=1))[:, None]
    beside_columns = background & np.asarray(head.any(axis=0))[None]
    rest = background & ~(beside_rows | beside_columns)
    base = float(values[rest].mean()) if rest.any() else 0.0
    bands = [float(values[band].mean()) - base for band in (beside_rows, beside_columns) if band.any()]
    return max([0.0, *bands]) / float(values[head].mean())


def _bias_field(values: NDArray[np.float64], head: NDArray[np.bool_]) -> float:
    rows, columns = np.nonzero(head)
    step = max(1, len(rows) // 500)
    rows, columns = rows[::step], columns[::step]
    y, x = rows / values.shape[0] - 0.5, columns / values.shape[1] - 0.5
    terms = np.stack([np.ones(len(x)), x, y, x * y, x**2, y**2], axis=1)
    logs = np.log(values[rows, columns] + 1)
    normal = terms.T @ terms + 1e-9 * np.eye(6)
    return float((terms @ np.linalg.solve(normal, terms.T @ logs)).std())
