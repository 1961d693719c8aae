from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gyrus.datasets.manifest import Manifest
from gyrus.imaging.decoding import inspect


@pytest.fixture
def manifest_of_rows(tmp_path: Path) -> Callable[[list[bytes], int], Manifest]:
    """A parquet file with the given images, in row groups of the given size."""

    def write(contents: list[bytes], group: int) -> Manifest:
        pq.write_table(pa.table({"image": contents}), tmp_path / "images.parquet", row_group_size=group)
        rows = pd.DataFrame(
            {
                "sample": [f"images.parquet#{row:03d}" for row in range(len(contents))],
                "path": "images.parquet",
                "row": range(len(contents)),
                "digest": [inspect(content).digest for content in contents],
            }
        )
        return Manifest.from_rows(rows, root=tmp_path)

    return write
