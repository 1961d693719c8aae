"""HDF5 files as those of fastMRI."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <encoding>
    <encodedSpace><matrixSize><x>640</x><y>320</y><z>1</z></matrixSize></encodedSpace>
    <reconSpace>
      <matrixSize><x>{rows}</x><y>{columns}</y><z>1</z></matrixSize>
      <fieldOfView_mm><x>{height}</x><y>{width}</y><z>{thickness}</z></fieldOfView_mm>
    </reconSpace>
  </encoding>
</ismrmrdHeader>"""


def write_scan(
    path: Path,
    slices: np.ndarray,
    *,
    name: str = "reconstruction_rss",
    spacing: tuple[float, float, float] | None = (5.0, 2.0, 1.5),
    **attributes: str,
) -> Path:
    """A scan with k-space; ``slices`` (slices, rows, columns), and spacing along these axes in its header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count, rows, columns = slices.shape
    with h5py.File(path, "w") as file:
        file["kspace"] = np.zeros((count, 2, 2 * rows, columns), np.complex64)
        file[name] = slices
        if spacing:
            thickness, row, column = spacing
            file["ismrmrd_header"] = HEADER.format(
                rows=rows, columns=columns, height=rows * row, width=columns * column, thickness=thickness
            )
        file.attrs.update({"max": float(slices.max()), "norm": 1.0, **attributes})
    return path
