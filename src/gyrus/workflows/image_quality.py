"""How good the images of the test set are, so that it is seen whether a classifier fails where they are bad."""

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
"""Measures of :data:`gyrus.audit.image_quality.MEASURES` that tell good images from bad ones."""


def save_quality(run: Run, manifest: Manifest, split: Split, store: Store) -> None:
    """Measure each image of the test set; people count by the mean of their images.

    Args:
        run: ``quality.csv`` is written into it, one row a sample.
        manifest: The data.
        split: Who is in the test set.
        store: Their pixels, with the head in them; of volumes the middle slice is measured.
    """
    table = manifest.table
    tested = np.flatnonzero(table["sample"].isin(split.samples["test"]))
    measured = pd.DataFrame([measure_quality(_gray(store.pixels[row])) for row in tested.tolist()])[list(QUALITY)]
    whose = table["subject"].fillna(table["sample"]).iloc[tested].to_numpy()
    quality = measured.groupby(whose).transform("mean").set_index(table["sample"].iloc[tested])
    with atomic_path(run.quality) as temporary:
        quality.to_csv(temporary, float_format="%.3g", lineterminator="\n")


def load_quality(run: Run) -> pd.DataFrame:
    """One column a measure, indexed by sample; no columns where nothing was measured."""
    if not run.quality.is_file():
        return pd.DataFrame(index=pd.Index([], dtype="str", name="sample"))
    return pd.read_csv(run.quality, dtype={"sample": "str"}).set_index("sample")


def _gray(pixels: np.ndarray) -> np.ndarray:
    middle = pixels[len(pixels) // 2]
    return middle if middle.ndim == 2 else middle[len(middle) // 2]
