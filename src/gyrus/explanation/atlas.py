"""Regions to tell maps apart by: an atlas in the space of the scans, a mask, or a segmentation of each scan."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from gyrus.errors import DataError
from gyrus.explanation.coordinates import Matrix, Placement, slices_affine
from gyrus.imaging.volume_formats import is_volume, read_volume


@dataclass(frozen=True)
class Atlas:
    """Where regions are written down.

    Attributes:
        path: A label file for all images, or with {subject} or {sample} in it one for each: NIfTI or another format of
            volumes in the space of the scans; a PNG or .npy file on the images' own grid.
        names: A table with a column of numbers and a column of names (.csv, .tsv), if there is one.
    """

    path: str
    names: Path | None = None

    def labels(
        self, sample: str, subject: str | None, placement: Placement, network: tuple[int, ...], affine: Matrix | None
    ) -> np.ndarray:
        """The region of each of the network's pixels, int64; 0 outside of all.

        Args:
            sample: Name of the image.
            subject: Whose it is.
            placement: Where the network's pixels lie in the image's own.
            network: The network's pixels along each axis.
            affine: From the image's own (slice, row, column) to mm, where that is known.

        Raises:
            DataError: The file is missing, or is on another grid and says nothing of its place.
        """
        path = Path(self.path.replace("{sample}", Path(sample).stem).replace("{subject}", subject or ""))
        if not path.is_file():
            raise DataError(f"There are no regions for {sample}: {path} does not exist.")
        if is_volume(path.name):
            return _from_volume(path, placement, network, affine)
        labels = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.asarray(Image.open(path))
        if labels.shape != placement.shape:
            raise DataError(
                f"{path} has the shape {labels.shape}, but {sample} has {placement.shape}. Give it on that."
            )
        return placement.fetch(labels.astype(np.int64), network)

    def read_names(self) -> dict[int, str]:
        """Number to name.

        Raises:
            DataError: The table is missing, or has no two columns of numbers and names.
        """
        if self.names is None:
            return {}
        try:
            table = pd.read_csv(self.names, sep=None, engine="python", dtype=str)
            numbers = table.iloc[:, 0].astype(int)
            return dict(zip(numbers.tolist(), table.iloc[:, 1].astype(str).tolist(), strict=True))
        except (OSError, ValueError, IndexError) as error:
            raise DataError(
                f"{self.names} is no table of regions: its first column must hold numbers, its second names ({error})."
            ) from error


def _from_volume(path: Path, placement: Placement, network: tuple[int, ...], affine: Matrix | None) -> np.ndarray:
    if affine is None:
        raise DataError(
            f"{path} says where in the scanner its regions are, but the images do not. Give the regions as PNG or .npy "
            "on the images' own grid."
        )
    volume = read_volume(path)
    to_regions = np.linalg.inv(slices_affine(volume)) @ affine @ placement.matrix
    labels = np.rint(volume.slices()).astype(np.int64)
    return Placement(to_regions, labels.shape).fetch(labels, network)
