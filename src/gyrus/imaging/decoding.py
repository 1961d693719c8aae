"""Decode and check encoded images; the scan and the reader share this code."""

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

from gyrus.errors import UnusableImageError

READABLE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "ICO", "TGA", "TIFF", "WEBP")
"""Formats that Pillow may decode, in the order of trial. Formats that run programs or fetch files are excluded. The
first five need no import of all plugins of Pillow, which takes 0.3 s."""

LARGEST_PIXEL_COUNT = 1024**3 // 12
"""Most pixels that a header may announce: a quarter of a gigabyte as RGB, Pillow's own limit."""

_CHANNELS = {"L": 1, "RGB": 3}
_MODE_NAMES = {
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


@dataclass(frozen=True)
class Inspection:
    """The result of checking one image or volume.

    Attributes:
        shape: Rows, columns of an image; slices, rows, columns of a volume.
        digest: SHA-256 of the encoded bytes.
        spacing: Millimetres along each axis, if known.
        notes: Decisions and oddities of reading it.
    """

    shape: tuple[int, ...]
    digest: str
    spacing: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()


def inspect(data: bytes) -> Inspection:
    """Check one encoded image by decoding all of it.

    Raises:
        UnusableImageError: The image cannot be used; the message has the reason.
    """
    pixels = decode(data)
    return Inspection(tuple(pixels.shape[1:]), hashlib.sha256(data).hexdigest())


def decode(data: bytes) -> np.ndarray:
    """Decode one encoded image.

    Returns:
        uint8, shape (C, rows, columns), C = 1 (gray) or 3 (RGB); exactly the values that Pillow decodes.

    Raises:
        UnusableImageError: The content is damaged, or needs a decision by the user, such as how to convert 16 bits
            to 8.
    """
    if not data:
        raise UnusableImageError("empty", "the content is empty")
    with quiet_libraries():
        try:
            with Image.open(io.BytesIO(data), formats=READABLE_FORMATS) as image:
                return _pixels(image)
        except UnusableImageError:
            raise
        except Exception as error:  # Pillow raises many types of errors on damaged content
            raise _explain(error) from error


def _pixels(image: Image.Image) -> np.ndarray:
    width, height = image.size
    if width * height > LARGEST_PIXEL_COUNT:
        raise UnusableImageError("decompression bomb", f"the header announces {width} x {height} pixels")
    # Both are lost after loading: Pillow rotates a TIFF upright and forgets the stored sample depth.
    bits, tiff_orientation = _bits_per_sample(image), _tiff_tag(image, 274)
    # Load before anything else that may load: Pillow reports damage only once.
    image.load()
    frames = getattr(image, "n_frames", 1)
    if frames > 1:
        raise UnusableImageError("several frames", f"the file has {frames} images; save each as a file of its own")
    if bits > 8:
        raise UnusableImageError("16-bit", f"{bits} bits per sample; choose a window and save as 8 bits")
    _require_plain_mode(image)
    orientation = tiff_orientation or _exif_orientation(image)
    if orientation not in (None, 1):
        raise UnusableImageError("rotated by EXIF", f"orientation {orientation}; rotate the pixels and remove the tag")
    pixels = np.asarray(image)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0))


def _require_plain_mode(image: Image.Image) -> None:
    if image.mode not in _CHANNELS:
        name = _MODE_NAMES.get(image.mode, f"mode {image.mode}")
        raise UnusableImageError("colour mode", f"{name}; save as 8-bit gray or RGB")
    if "transparency" in image.info:
        raise UnusableImageError("colour mode", "one colour is transparent; save as 8-bit gray or RGB")


def _bits_per_sample(image: Image.Image) -> int:
    if image.mode.startswith(_DEEP_MODES):
        return 32 if image.mode in _DEEP_MODES and image.format != "PPM" else 16
    if image.format == "TIFF":
        return max(_tiff_tag(image, 258) or (1,))
    # Pillow converts deeper colour images to 8-bit RGB; only the decoder arguments keep the stored depth.
    arguments = [image.tile[0].args] if isinstance(image, ImageFile.ImageFile) and image.tile else []
    if image.format == "PNG":
        return 16 if any(";16" in str(argument) for argument in arguments) else 8
    if image.format == "PPM":
        largest = [one[1] for one in arguments if isinstance(one, tuple) and isinstance(one[1], int)]
        return max([8, *(value.bit_length() for value in largest)])
    return 8


def _tiff_tag(image: Image.Image, number: int) -> Any:
    return image.tag_v2.get(number) if hasattr(image, "tag_v2") else None


def _exif_orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(274)
    except Exception:  # a damaged EXIF block has no orientation, and viewers ignore it too
        return None


def _explain(error: Exception) -> UnusableImageError:
    if isinstance(error, Image.DecompressionBombError):
        return UnusableImageError("decompression bomb", str(error))
    if isinstance(error, UnidentifiedImageError):
        return UnusableImageError("not an image", f"the content has none of the formats {', '.join(READABLE_FORMATS)}")
    message = str(error) or type(error).__name__
    return UnusableImageError("truncated" if "truncated" in message.lower() else "unreadable", message)


class _QuietLibraries:
    """Silences warnings of the decoders while any thread is decoding; Gyrus checks for their causes itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._saved = warnings.catch_warnings()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        # warnings.catch_warnings affects all threads: the first to enter silences, the last to leave restores.
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
"""A context in which Pillow, nibabel and pydicom do not warn; thread-safe."""
