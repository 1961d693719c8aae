"""Regions to summarise attribution by: an atlas in the space of the scans, a mask, or a segmentation of each scan."""

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
    """The files of an atlas.

    Attributes:
        path: A label file for all images, or a pattern with {subject} or {sample} for one file per image: a volume
            (NIfTI or another format) in the space of the scans, or a PNG or .npy file on the images' original grid.
        names: A table (.csv, .tsv) with region numbers in the first column and names in the second, if there is one.
    """

    path: str
    names: Path | None = None

    def labels(
        self, sample: str, subject: str | None, placement: Placement, network: tuple[int, ...], affine: Matrix | None
    ) -> np.ndarray:
        """The region of each of the network's pixels, int64; 0 outside all regions.

        Args:
            sample: Name of the image.
            subject: Its subject, where known.
            placement: Where the network's pixels lie on the original grid.
            network: Pixels of the network's input along each axis.
            affine: From (slice, row, column) of the original image to mm, where known.

        Raises:
            DataError: The file is missing, or its grid does not fit the image.
        """
        path = Path(self.path.replace("{sample}", Path(sample).stem).replace("{subject}", subject or ""))
        if not path.is_file():
            raise DataError(f"No regions for {sample}: {path} does not exist.")
        if is_volume(path.name):
            return _from_volume(path, placement, network, affine)
        labels = np.load(path, allow_pickle=False) if path.suffix == ".npy" else np.asarray(Image.open(path))
        if labels.shape != placement.shape:
            raise DataError(
                f"{path} has the shape {labels.shape}, but {sample} has {placement.shape}. Both must share a grid."
            )
        return placement.to_network(labels.astype(np.int64), network)

    def read_names(self) -> dict[int, str]:
        """Region number to name.

        Raises:
            DataError: The table is missing, or does not hold numbers and names.
        """
        if self.names is None:
            return {}
        try:
            table = pd.read_csv(self.names, sep=None, engine="python", dtype=str)
            numbers = table.iloc[:, 0].astype(int)
            return dict(zip(numbers.tolist(), table.iloc[:, 1].astype(str).tolist(), strict=True))
        except (OSError, ValueError, IndexError) as error:
            raise DataError(
                f"{self.names} is not a table of regions: its columns must be numbers, then names ({error})."
            ) from error


def _from_volume(path: Path, placement: Placement, network: tuple[int, ...], affine: Matrix | None) -> np.ndarray:
    if affine is None:
        raise DataError(
            f"{path} is in scanner coordinates, but those of the images are not known. Give the regions as PNG or .npy "
            "on the images' original grid."
        )
    volume = read_volume(path)
    to_regions = np.linalg.inv(slices_affine(volume)) @ affine @ placement.matrix
    labels = np.rint(volume.slices()).astype(np.int64)
    return Placement(to_regions, labels.shape).to_network(labels, network)
