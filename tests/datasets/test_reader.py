from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.reader import Reader
from gyrus.errors import DataError
from gyrus.imaging.decoding import inspect
from tests.support import images


@pytest.fixture
def one_file(tmp_path: Path) -> tuple[Path, Manifest]:
    file = tmp_path / "a.png"
    file.write_bytes(images.gray())
    rows = pd.DataFrame({"sample": ["a.png"], "path": ["a.png"], "digest": [inspect(images.gray()).digest]})
    return file, Manifest.from_rows(rows, root=tmp_path)


def test_a_file_that_changed_since_the_scan_is_refused(one_file: tuple[Path, Manifest]) -> None:
    file, manifest = one_file
    file.write_bytes(images.gray(seed=1))

    with pytest.raises(DataError, match=r"a\.png .*changed since the scan"):
        Reader(manifest).read(0)


def test_a_file_removed_since_the_scan_is_named(one_file: tuple[Path, Manifest]) -> None:
    file, manifest = one_file
    file.unlink()

    with pytest.raises(DataError, match=r"a\.png .*does not exist"):
        Reader(manifest).read(0)


def test_a_parquet_file_damaged_since_the_scan_is_named(
    manifest_of_rows: Callable[[list[bytes], int], Manifest],
) -> None:
    manifest = manifest_of_rows([images.gray(seed) for seed in range(3)], 3)
    (manifest.root / "images.parquet").write_bytes(b"PAR1 and no more")

    with pytest.raises(DataError, match=r"images\.parquet#000 .*parquet file cannot be read"):
        Reader(manifest).read(0)
