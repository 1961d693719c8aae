"""A network in the format of ONNX, written byte by byte: the library onnx is not needed for it.

The numbers of the fields are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np


def write_linear(path: Path, weights: np.ndarray, image_shape: tuple[int, ...]) -> Path:
    """A linear layer from flattened images to logits; ``weights`` float32 (pixels, K)."""
    nodes = [("Flatten", ["images"], "flat"), ("MatMul", ["flat", "weights"], "logits")]
    tensor = b"".join(_number(1, length) for length in weights.shape)
    tensor += _number(2, 1) + _bytes(8, b"weights") + _bytes(9, weights.astype("<f4").tobytes())
    graph = b"".join(_bytes(1, _node(*node)) for node in nodes) + _bytes(2, b"linear") + _bytes(5, tensor)
    graph += _bytes(11, _value("images", image_shape)) + _bytes(12, _value("logits", (weights.shape[1],)))
    path.write_bytes(_number(1, 8) + _bytes(7, graph) + _bytes(8, _number(2, 13)))
    return path


def _node(kind: str, inputs: list[str], output: str) -> bytes:
    return b"".join(_bytes(1, name.encode()) for name in inputs) + _bytes(2, output.encode()) + _bytes(4, kind.encode())


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    axes = _bytes(1, _bytes(2, b"N")) + b"".join(_bytes(1, _number(1, length)) for length in shape)
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, _number(1, 1) + _bytes(2, axes)))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    digits = bytearray()
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])
