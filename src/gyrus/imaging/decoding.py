"""From encoded bytes to pixels, and what may be wrong with them; the scan and the reader share it."""

from __future__ import annotations

import hashlib
import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from gyrus.errors import DataError

READABLE_FORMATS = ("BMP", "GIF", "ICO", "JPEG", "PNG", "PPM", "TGA", "TIFF", "WEBP")
"""What Pillow is allowed to try. Formats that run other programs or fetch other files are not among them."""

LARGEST_PIXEL_COUNT = 1024**3 // 12
"""The most pixels a slice may announce: a quarter of a gigabyte as RGB, Pillow's own limit."""

_CHANNELS = {"L": 1, "RGB": 3}
_MODE_WORDS = {
    "1": "1-bit black and white",
    "P": "a colour palette",
    "PA": "a colour palette with alpha",
    "LA": "gray with an alpha channel",
    "La": "gray with an alpha channel",
    "RGBA": "RGB with an alpha channel",
    "RGBa": "RGB with an alpha channel",
    "CMYK": "CMYK",
}
_DEEP_MODES = ("I", "F")


class UnusableImageError(DataError):
    """One image that cannot be used.

    Attributes:
        kind: One of the words in :data:`gyrus.datasets.manifest.PROBLEM_KINDS`.
        message: What is wrong, in words that help to mend it.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


@dataclass(frozen=True)
class Inspection:
    """What the check of one image found.

    Attributes:
        shape: Rows and columns; of a volume slices, rows and columns.
        digest: SHA-256 of the encoded bytes.
        spacing: Millimetres along each axis, where the file says so.
        notes: What had to be decided, or stands out.
    """

    shape: tuple[int, ...]
    digest: str
    spacing: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()


def inspect(data: bytes) -> Inspection:
    """Check one encoded image by decoding all of it.

    Raises:
        UnusableImageError: The image cannot be used; it says why.
    """
    pixels = decode(data)
    return Inspection(tuple(pixels.shape[1:]), hashlib.sha256(data).hexdigest())


def decode(data: bytes) -> np.ndarray:
    """Decode one encoded image.

    Returns:
        uint8, shape (C, rows, columns), C = 1 (gray) or 3 (RGB); exactly the values that Pillow decodes.

    Raises:
        UnusableImageError: The content is damaged, or needs a decision that only the user can make, such as how
            to bring 16 bits to 8; it says which.
    """
    if not data:
        raise UnusableImageError("empty", "there is nothing in it")
    with quiet_libraries():
        try:
            with Image.open(io.BytesIO(data), formats=READABLE_FORMATS) as image:
                return _pixels(image)
        except UnusableImageError:
            raise
        except Exception as error:  # damaged content makes Pillow's decoders raise errors of many types
            raise _explain(error) from error


def _pixels(image: Image.Image) -> np.ndarray:
    width, height = image.size
    if width * height > LARGEST_PIXEL_COUNT:
        raise UnusableImageError("decompression bomb", f"the header announces {width} x {height} pixels")
    # Both are gone after loading: Pillow turns a TIFF upright by itself and forgets how the samples were stored.
    bits, tiff_orientation = _bits_per_sample(image), _tiff_tag(image, 274)
    # Loading comes before anything else that may load: Pillow reports damage only once.
    image.load()
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise UnusableImageError("several frames", f"there are {frames} pictures in it; save each as a file")
    if bits > 8:
        raise UnusableImageError("16-bit", f"{bits} bits a sample; choose a window and save as 8 bits")
    _require_plain_mode(image)
    orientation = tiff_orientation or _exif_orientation(image)
    if orientation not in (None, 1):
        raise UnusableImageError(
            "rotated by EXIF", f"orientation {orientation}; turn the pixels themselves and drop the tag"
        )
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0))


def _require_plain_mode(image: Image.Image) -> None:
    if image.mode not in _CHANNELS:
        words = _MODE_WORDS.get(image.mode, f"mode {image.mode}")
        raise UnusableImageError("colour mode", f"{words}; save as 8-bit gray or RGB")
    if "transparency" in image.info:
        raise UnusableImageError("colour mode", "one colour is transparent; save as 8-bit gray or RGB")


def _bits_per_sample(image: Image.Image) -> int:
    if image.mode.startswith(_DEEP_MODES):
        return 32 if image.mode in _DEEP_MODES and image.format != "PPM" else 16
    if image.format == "TIFF":
        return max(_tiff_tag(image, 258) or (1,))
    # Deeper colour images come out as 8-bit RGB; only what the decoder was told says how they are stored.
    told = [image.tile[0].args] if isinstance(image, ImageFile.ImageFile) and image.tile else []
    if image.format == "PNG":
        return 16 if any(";16" in str(words) for words in told) else 8
    if image.format == "PPM":
        largest = [words[1] for words in told if isinstance(words, tuple) and isinstance(words[1], int)]
        return max([8, *(value.bit_length() for value in largest)])
    return 8


def _tiff_tag(image: Image.Image, number: int) -> Any:
    return image.tag_v2.get(number) if hasattr(image, "tag_v2") else None


def _exif_orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(274)
    except Exception:  # a damaged EXIF block says nothing about how to turn the pixels, and viewers skip it too
        return None


def _explain(error: Exception) -> UnusableImageError:
    if isinstance(error, Image.DecompressionBombError):
        return UnusableImageError("decompression bomb", str(error))
    if isinstance(error, UnidentifiedImageError):
        return UnusableImageError("not an image", f"the content is none of {', '.join(READABLE_FORMATS)}")
    words = str(error) or type(error).__name__
    return UnusableImageError("truncated" if "truncated" in words.lower() else "unreadable", words)


class _QuietLibraries:
    """Silences the decoders' warnings while any thread is decoding: what they warn of is checked and named by us."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._saved = warnings.catch_warnings()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        # warnings.catch_warnings is shared by all threads: the first one in silences, the last one out restores.
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.filterwarnings("ignore", module=r"(PIL|nibabel|pydicom)(\.|$)")
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if self._users == 0:
                    self._saved.__exit__(None, None, None)


quiet_libraries = _QuietLibraries()
"""A context in which Pillow, nibabel and pydicom do not warn; threads may share it."""
