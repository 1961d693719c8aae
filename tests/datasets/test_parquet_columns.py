"""Parquet files whose dictionaries stand for more than fits into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gyrus.datasets import parquet_columns
from gyrus.datasets.parquet_columns import read_columns
from gyrus.datasets.scan import scan
from gyrus.errors import DataError
from gyrus.memory import MemoryBudget
from tests.support import images

_USUAL = pa.default_memory_pool()
_POOL = pa.proxy_memory_pool(_USUAL)  # must outlive all that is allocated in it


@contextmanager
def _own_pool() -> Iterator[pa.MemoryPool]:
    """A memory pool that counts what is allocated within the block."""
    pa.set_memory_pool(_POOL)
    try:
        yield _POOL
    finally:
        pa.set_memory_pool(_USUAL)


def test_columns_are_those_that_were_written(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": ["a", "b", None, "a"],
            "number": [1, 2, 3, 4],
            "category": pa.array(["x", "y", "x", None]).dictionary_encode(),
            "struct": [{"path": "p", "size": 1}] * 4,
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    found = read_columns(tmp_path / "t.parquet")
    assert found.to_pydict() == table.to_pydict()
    assert found.schema.field("text").type == pa.string()
    assert read_columns(tmp_path / "t.parquet", ["number"]).column_names == ["number"]


def test_a_small_file_of_large_cells_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_columns, "reading_memory", MemoryBudget(64 << 20))
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"path": ["a" * 1_000_000] * 200, "label": ["x", "y"] * 100}), file, compression="zstd")
    assert file.stat().st_size < 10_000
    with _own_pool() as pool, pytest.raises(DataError, match="need about 572 MiB of memory, and 64 MiB are set aside"):
        read_columns(file)
    assert 0 < pool.max_memory() < 50e6


@pytest.mark.parametrize("nested", [False, True])
def test_equal_images_are_in_memory_once(tmp_path: Path, nested: bool) -> None:
    one, other = (images.gray(seed, "PNG") + b"\0" * 1_000_000 for seed in (0, 1))
    cells = [one, other] * 100
    column = [{"bytes": cell, "path": f"{row}.png"} for row, cell in enumerate(cells)] if nested else cells
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"image": column, "label": ["x", "y"] * 100}), file, compression="zstd")
    with _own_pool() as pool:
        manifest = scan(file)
    assert len(manifest) == 200
    assert manifest.table["digest"].nunique() == 2
    assert 0 < pool.max_memory() < 50e6
