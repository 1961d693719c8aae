"""A data set of the Hugging Face Hub, through the ``datasets`` library."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gyrus.datasets.sources import parquet
from gyrus.datasets.sources.listing import Listing, ScanRequest
from gyrus.errors import ConfigError, DataError, GyrusError
from gyrus.extras import missing_dependency
from gyrus.files import cache_folder, digest, new_folder

PREFIX = "hf:"
"""Prefix of names of the Hub, as opposed to paths."""

_NAME = re.compile(r"(?P<name>\w[\w.-]*(?:/\w[\w.-]*)?)(?::(?P<config>\w[\w.-]*))?")
_ROWS_AT_A_TIME = 256


def list_samples(name: str | Path, request: ScanRequest) -> Listing:
    """List the images of a data set on the Hub, "hf:owner/name" or "hf:owner/name:config".

    Its subsets are written once to the cache folder as parquet files with the encoded images, where manifests find them
    in later processes. Later scans work offline if the ``datasets`` library does.

    Raises:
        ConfigError: The name is not of that form.
        MissingDependencyError: The ``datasets`` library is not installed.
        DataError: The data set cannot be found, reached or read.
    """
    match = _NAME.fullmatch(str(name).removeprefix(PREFIX))
    if match is None:
        raise ConfigError(f"'{name}' is not a valid name of a data set; use hf:owner/name or hf:owner/name:config.")
    return parquet.list_samples(_export(match["name"], _load(match["name"], match["config"])), request)


def _load(name: str, config: str | None) -> Mapping[str, Any]:
    if Path(name).exists():
        raise DataError(f"The folder {name} here hides the data set of that name. Run from another folder.")
    try:
        import datasets
    except ImportError as error:
        raise missing_dependency("Reading data sets of the Hugging Face Hub", "huggingface") from error
    try:
        return datasets.load_dataset(name, config)
    except Exception as error:  # the library and its dependencies have no common error
        reason = f"{type(error).__name__}: {str(error).rstrip('.')}"
        raise DataError(
            f"The data set '{name}' cannot be loaded from the Hugging Face Hub: {reason}. Check the name, "
            "the connection and, for gated data sets, that you are logged in to the Hub."
        ) from error


def _export(name: str, splits: Mapping[str, Any]) -> Path:
    version = digest({split: dataset._fingerprint for split, dataset in splits.items()})[:16]
    folder = cache_folder() / "huggingface" / f"{name.replace('/', '--')}-{version}"
    if not folder.is_dir():
        _write_all(folder, splits)
    return folder


def _write_all(folder: Path, splits: Mapping[str, Any]) -> None:
    """Write all subsets or nothing: the folder gets its name when it is complete."""
    try:
        with new_folder(folder) as temporary:
            for split, dataset in splits.items():
                _write_subset(temporary / f"{split}.parquet", dataset)
    except (GyrusError, pa.ArrowException) as error:
        if not folder.is_dir():  # another process may have written it meanwhile
            raise GyrusError(f"Cannot write the data set to {folder}: {error}") from error


def _write_subset(file: Path, dataset: Any) -> None:
    from datasets.table import embed_table_storage

    with pq.ParquetWriter(file, dataset.features.arrow_schema) as writer:
        # Images that the data set keeps in separate files are embedded in the rows.
        for content in dataset.with_format("arrow").iter(_ROWS_AT_A_TIME):
            writer.write_table(embed_table_storage(content))
