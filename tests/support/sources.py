"""Small data sets on disk, for the tests of sources."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from tests.support import images


def write_images(root: Path, *names: str) -> Path:
    """A different gray image under each name, encoded by its extension."""
    kinds = {".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF"}
    for seed, name in enumerate(names):
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(images.gray(seed, kinds.get(file.suffix.lower(), "PNG")))
    return root


def write_table(file: Path, columns: Mapping[str, list[object]]) -> Path:
    """A CSV, TSV or parquet table, by the extension."""
    table = pd.DataFrame(columns)
    if file.suffix == ".parquet":
        table.to_parquet(file, index=False)
    else:
        table.to_csv(file, index=False, sep="\t" if file.suffix == ".tsv" else ",")
    return file
