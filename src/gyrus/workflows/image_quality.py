"""Image quality of the test set, so that scores can be reported by quality."""

from __future__ import annotations

import numpy as np
import pandas as pd

from gyrus.audit.image_quality import measure_quality
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.datasets.store import Store
from gyrus.files import atomic_path
from gyrus.runs.run_folder import Run

QUALITY = ("sharpness", "foreground SNR")
"""Measures of :data:`gyrus.audit.image_quality.MEASURES` that distinguish good images from bad ones."""


def save_quality(run: Run, manifest: Manifest, split: Split, store: Store) -> None:
    """Measure each image of the test set; every image gets the mean over its subject.

    Args:
        run: Gets ``quality.csv``, one row per sample.
        manifest: The data.
        split: The split.
        store: The pixels, before steps that hide the head; of volumes, the middle slice is measured.
    """
    table = manifest.table
    tested = np.flatnonzero(table["sample"].isin(split.samples["test"]))
    measured = pd.DataFrame([measure_quality(_gray(store.pixels[row])) for row in tested.tolist()])[list(QUALITY)]
    subjects = table["subject"].fillna(table["sample"]).iloc[tested].to_numpy()
    quality = measured.groupby(subjects).transform("mean").set_index(table["sample"].iloc[tested])
    with atomic_path(run.quality) as temporary:
        quality.to_csv(temporary, float_format="%.3g", lineterminator="\n")


def load_quality(run: Run) -> pd.DataFrame:
    """One column per measure, indexed by sample; no columns in runs without measurements."""
    if not run.quality.is_file():
        return pd.DataFrame(index=pd.Index([], dtype="str", name="sample"))
    return pd.read_csv(run.quality, dtype={"sample": "str"}).set_index("sample")


def _gray(pixels: np.ndarray) -> np.ndarray:
    middle = pixels[len(pixels) // 2]
    return middle if middle.ndim == 2 else middle[len(middle) // 2]
