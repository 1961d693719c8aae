"""Columns of parquet files within the memory for reading.

A dictionary in the file holds each value once, so that a file of a kilobyte may stand for gigabytes. Columns are
therefore read as dictionaries, whose memory the file announces, and decoded only if the result fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gyrus.errors import DataError
from gyrus.memory import memory_text, reading_memory

_COPIES = 3
"""Copies of a table while it is read: dictionaries, decoded columns, and a table of pandas."""


def dictionary_leaves(file: pq.ParquetFile) -> list[str]:
    """The paths of columns of bytes or text that have a dictionary in some row group."""
    found: dict[str, None] = {}
    for group in range(file.num_row_groups):
        chunks = file.metadata.row_group(group)
        for number in range(chunks.num_columns):
            chunk = chunks.column(number)
            if chunk.physical_type == "BYTE_ARRAY" and any("DICTIONARY" in name for name in chunk.encodings):
                found[chunk.path_in_schema] = None
    return list(found)


def read_columns(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Columns of a parquet file, decoded.

    Args:
        path: The file.
        columns: Names, or paths of fields; by default all.

    Raises:
        OSError: The file cannot be read.
        pa.ArrowException: It is damaged.
        DataError: The columns need more memory than is set aside for reading.
    """
    with pq.ParquetFile(path) as file:
        named = file.schema_arrow.names
        leaves = [leaf for leaf in dictionary_leaves(file) if leaf in named]
    table = pq.read_table(path, columns=None if columns is None else list(columns), read_dictionary=leaves)
    needed = _COPIES * sum(_decoded_bytes(table.column(number)) for number in range(table.num_columns))
    if needed > reading_memory.total:
        raise DataError(
            f"The columns {', '.join(table.column_names)} of {path} need about {memory_text(needed)} of memory, and "
            f"{memory_text(reading_memory.total)} are set aside for reading. Remove columns that are not needed."
        )
    for number, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type) and field.name in leaves:
            decoded = table.column(number).cast(field.type.value_type)
            table = table.set_column(number, field.with_type(decoded.type), decoded)
    return table


def _decoded_bytes(column: pa.ChunkedArray) -> int:
    if not pa.types.is_dictionary(column.type) or pa.types.is_nested(column.type.value_type):
        return int(column.nbytes)
    lengths = (pc.binary_length(chunk.dictionary).take(chunk.indices) for chunk in column.chunks)
    return sum(pc.sum(pc.cast(each, pa.int64())).as_py() or 0 for each in lengths)
