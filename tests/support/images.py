"""Encoded images for tests, good and bad, made by Pillow or by hand where Pillow cannot make them."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def pixels(seed: int = 0, shape: tuple[int, ...] = (13, 11)) -> np.ndarray:
    """Noise, so that all images differ."""
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a file of that kind."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gray(seed: int = 0, kind: str = "PNG", **options: Any) -> bytes:
    """A small gray image."""
    return encode(Image.fromarray(pixels(seed)), kind, **options)


def png_header(width: int, height: int, bits: int = 8, colour: int = 0, content: bytes = b"") -> bytes:
    """A PNG with the given header and zlib-compressed ``content`` behind it."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(content)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def with_orientation(number: int, kind: str = "JPEG") -> bytes:
    """A gray image with an EXIF orientation."""
    exif = Image.Exif()
    exif[274] = number
    return gray(kind=kind, exif=exif)


def _frames(kind: str) -> bytes:
    first, second = (Image.fromarray(pixels(seed)) for seed in (0, 1))
    return encode(first, kind, save_all=True, append_images=[second])


def _transparent(mode: str) -> bytes:
    image = Image.fromarray(pixels(0, (13, 11, 3))).convert(mode)
    image.putpixel((3, 4), (*image.getpixel((3, 4))[:-1], 200))
    return encode(image)


def signed_tiff(values: np.ndarray) -> bytes:
    """A gray TIFF of signed 16-bit integers, which Pillow can read and not write."""
    rows, columns = values.shape
    body = values.astype("<i2").tobytes()
    tags = [(256, columns), (257, rows), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, rows)]
    tags += [(279, len(body)), (339, 2)]
    entries = b"".join(struct.pack("<HHII", number, 4, 1, value) for number, value in tags)
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory


def _mode(name: str, kind: str = "PNG") -> bytes:
    return encode(Image.fromarray(pixels(0, (13, 11, 3))).convert(name), kind)


BAD: dict[str, tuple[str, bytes]] = {
    "nothing": ("empty", b""),
    "words": ("not an image", b"this is not an image at all"),
    "signature alone": ("not an image", b"\x89PNG\r\n\x1a\n"),
    "half a JPEG": ("truncated", gray(kind="JPEG")[:-90]),
    "half a PNG": ("truncated", gray()[:-60]),
    "half a BMP": ("truncated", gray(kind="BMP")[:-60]),
    "damaged stream": ("unreadable", gray().replace(b"IDAT\x78", b"IDAT\x00")),
    "huge": ("decompression bomb", png_header(100_000, 100_000)),
    "just too large": ("decompression bomb", png_header(12_000, 9_000)),
    "transparent gray": ("colour mode", _transparent("LA")),
    "transparent RGB": ("colour mode", _transparent("RGBA")),
    "CMYK": ("colour mode", _mode("CMYK", "JPEG")),
    "Lab": ("colour mode", encode(Image.new("LAB", (5, 4)), "TIFF")),
    "one value transparent": ("colour mode", encode(Image.fromarray(pixels()), transparency=0)),
    "16-bit gray PNG": ("16-bit", encode(Image.fromarray(pixels().astype(np.uint16) * 250))),
    "16-bit RGB PNG": ("16-bit", png_header(5, 4, bits=16, colour=2, content=bytes(4 * (1 + 5 * 6)))),
    "16-bit TIFF": ("16-bit", encode(Image.fromarray(pixels().astype(np.uint16) * 250), "TIFF")),
    "16-bit PGM": ("16-bit", b"P5 2 2 65535\n" + bytes(8)),
    "12-bit PGM": ("16-bit", b"P5 2 2 4095\n" + bytes(8)),
    "16-bit PPM": ("16-bit", b"P6 2 2 65535\n" + bytes(24)),
    "12-bit PPM": ("16-bit", b"P6 2 2 4095\n" + bytes(24)),
    "float TIFF": ("16-bit", encode(Image.fromarray(pixels().astype(np.float32)), "TIFF")),
    "16-bit TIFF with sign": ("16-bit", signed_tiff(pixels().astype(np.int16) - 100)),
    "12-bit JPEG": ("16-bit", gray(kind="JPEG").replace(b"\xff\xc0\x00\x0b\x08", b"\xff\xc1\x00\x0b\x0c")),
    "two pages": ("several frames", _frames("TIFF")),
    "animation": ("several frames", _frames("GIF")),
}
"""Kind of problem, as in gyrus.datasets.manifest.PROBLEM_KINDS, and content."""
