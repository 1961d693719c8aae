from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.parquet as pq
import pytest

from gyrus.datasets import sample_files
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.reader import Reader
from gyrus.imaging.decoding import decode
from tests.support import images


@pytest.mark.parametrize("group", [1, 7, 40, 1000])
def test_rows_may_be_read_in_any_order_and_by_threads(
    manifest_of_rows: Callable[[list[bytes], int], Manifest], group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So small a budget that almost every row group is thrown out again.
    monkeypatch.setattr(sample_files, "ROW_CACHE_BYTES", 2000)
    contents = [images.gray(seed) for seed in range(40)]
    reader = Reader(manifest_of_rows(contents, group))
    order = np.random.default_rng(0).permutation(np.tile(np.arange(40), 3))

    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(reader.read, order.tolist()))

    for position, pixels in zip(order, read, strict=True):
        np.testing.assert_array_equal(pixels, decode(contents[position]))


def test_rows_in_order_open_each_row_group_once(
    manifest_of_rows: Callable[[list[bytes], int], Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_files, "ROW_CACHE_BYTES", 2000)
    reader = Reader(manifest_of_rows([images.gray(seed) for seed in range(40)], 8))
    opened = []
    read_row_group = pq.ParquetFile.read_row_group
    monkeypatch.setattr(
        pq.ParquetFile,
        "read_row_group",
        lambda self, number, columns: opened.append(number) or read_row_group(self, number, columns),
    )

    for position in range(40):
        reader.read(position)

    assert opened == [0, 1, 2, 3, 4]
