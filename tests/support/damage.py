"""Ways in which a file of a run folder is damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors.numpy import load_file, save_file


def _other_shape(path: Path) -> None:
    """The same kind of file with other fields, rows or axes."""
    if path.suffix == ".json":
        document = json.loads(path.read_text())
        path.write_text(json.dumps({"schema": document.get("schema"), "strange": [1]}))
    elif path.suffix == ".parquet":
        pq.write_table(pq.read_table(path).slice(0, 1), path)
    elif path.suffix == ".npz":
        with np.load(path) as saved:
            arrays = {name: saved[name][1:, ..., None] for name in saved.files}
        np.savez(path, **arrays)
    elif path.suffix == ".safetensors":
        save_file({name: np.zeros(np.array(value.shape) + 1) for name, value in load_file(path).items()}, path)
    elif path.suffix == ".ckpt":
        torch.save({"format": 1, "model": {}}, path)
    else:
        path.write_text("model: [1, 2]\n" if path.suffix == ".yaml" else "a,b\n1,2\n")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "zeroed": lambda path: path.write_bytes(b"\0" * path.stat().st_size),
    "other shape": _other_shape,
    "other kind": lambda path: path.write_text('{"schema": "other", "x": [1]}'),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}
