"""Decode and check encoded images, which the scan and the reader share; encode them as PNG."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from gyrus.errors import ConfigError, UnusableImageError
from gyrus.imaging.quiet_libraries import quiet_libraries
from gyrus.memory import reading_memory

READABLE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "ICO", "TGA", "TIFF", "WEBP")
"""Formats that Pillow may decode, in the order of trial. Formats that run programs or fetch files are excluded. The
first five need no import of all plugins of Pillow, which takes 0.3 s."""

IMAGE_EXTENSIONS = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".bmp", ".tif", ".tiff", ".gif", ".webp"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".pfm", ".tga", ".icb", ".vda", ".vst", ".ico"),
)
"""Extensions of images in a folder, in any case: those of :data:`READABLE_FORMATS`."""

LARGEST_PIXEL_COUNT = 1024**3 // 12
"""Most pixels that a header may announce: a quarter of a gigabyte as RGB, Pillow's own limit."""

_CHANNELS = {"L": 1, "RGB": 3}
_MODE_NAMES = {"LAB": "CIE L*a*b*", "HSV": "hue, saturation and value"}
_DEEP_MODES = ("I", "F")
_TRANSPARENT_MODES = {"LA": "L", "La": "L", "RGBA": "RGB", "RGBa": "RGB", "PA": "RGB"}

_TRANSPARENT = "some pixels are transparent; put the image on a background and save as 8-bit gray or RGB"

_SIGNATURES = {b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG", b"GIF8": "GIF", b"II*\0": "TIFF", b"MM\0*": "TIFF"}
_SIGNATURES |= {b"RIFF": "WEBP", b"BM": "BMP"}

_BYTES_OF_GRAY, _BYTES_OF_COLOUR = 4, 16
"""Largest memory per pixel while an image is decoded and prepared, with the buffers of Pillow; see
benchmarks/reading_memory.py."""

# Tags of TIFF and EXIF.
_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION, _SAMPLE_FORMAT = 258, 262, 274, 339
_WHITE_IS_ZERO = 0
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIGNED = 2
_UNSIGNED = "integers"


@dataclass(frozen=True)
class GrayWindow:
    """The gray values that become 0 and 255 in images with more than 8 bits; values outside are clipped.

    Attributes:
        low: Becomes 0.
        high: Becomes 255.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.high]).all() and self.low < self.high):
            raise ConfigError(
                f"A window is two gray values, the lower one first, for example 0,4095; got {self.low:g},{self.high:g}."
            )

    def scale(self, values: np.ndarray) -> np.ndarray:
        """Gray values as uint8; values that are not numbers become 0."""
        scaled = np.nan_to_num(values.astype(np.float32), nan=self.low, posinf=self.high, neginf=self.low)
        scaled -= self.low
        scaled *= 255 / (self.high - self.low)
        return np.rint(np.clip(scaled, 0, 255, out=scaled), out=scaled).astype(np.uint8)


@dataclass(frozen=True)
class Inspection:
    """The result of checking one image or volume.

    Attributes:
        shape: Rows, columns of an image; slices, rows, columns of a volume.
        digest: SHA-256 of the encoded bytes.
        spacing: Millimetres along each axis, if known.
        notes: Decisions and oddities of reading it.
        constant: Whether every pixel has the same value.
        members: The digests of the images of a sample that has several; None where one is missing.
    """

    shape: tuple[int, ...]
    digest: str
    spacing: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()
    constant: bool = False
    members: tuple[str | None, ...] = ()


def is_image(name: str) -> bool:
    """Whether the extension is that of an image."""
    return PurePosixPath(name).suffix.lower() in IMAGE_EXTENSIONS


def inspect(data: bytes, window: GrayWindow | None = None) -> Inspection:
    """Check one encoded image by decoding all of it.

    Raises:
        UnusableImageError: The image cannot be used; the message has the reason.
    """
    with reading_memory.task():
        pixels, notes = decode_with_notes(data, window)
        constant = bool(all(channel.min() == channel.max() for channel in pixels))
    return Inspection(tuple(pixels.shape[1:]), hashlib.sha256(data).hexdigest(), notes=notes, constant=constant)


def decode(data: bytes, window: GrayWindow | None = None) -> np.ndarray:
    """Decode one encoded image; see :func:`decode_with_notes`."""
    return decode_with_notes(data, window)[0]


def decode_with_notes(data: bytes, window: GrayWindow | None = None) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode one encoded image.

    Args:
        data: The content of the file.
        window: For gray images with more than 8 bits per sample, which are refused without it.

    Returns:
        uint8, shape (C, rows, columns), C = 1 (gray) or 3 (RGB); exactly the values that Pillow decodes, upright. And
        notes on what was converted.

    Raises:
        UnusableImageError: The content is damaged, or needs a decision by the user, such as how to convert 16 bits
            to 8.
    """
    if not data:
        raise UnusableImageError("empty", "the content is empty")
    with quiet_libraries():
        try:
            with Image.open(io.BytesIO(data), formats=READABLE_FORMATS) as image:
                return _pixels(image, window)
        except UnusableImageError:
            raise
        except Exception as error:  # Pillow raises many types of errors on damaged content
            raise _explain(error, data) from error


def _pixels(image: Image.Image, window: GrayWindow | None) -> tuple[np.ndarray, tuple[str, ...]]:
    width, height = image.size
    if width * height > LARGEST_PIXEL_COUNT:
        raise UnusableImageError("decompression bomb", f"the header announces {width} x {height} pixels")
    per_pixel = _BYTES_OF_GRAY if image.mode in ("1", "L") else _BYTES_OF_COLOUR
    with reading_memory.reserve(width * height * per_pixel, f"{width} x {height} pixels"):
        # These are lost after loading: Pillow rotates a TIFF upright and forgets the stored sample depth.
        depth, tiff_orientation = _Depth.of(image), _tiff_tag(image, _ORIENTATION)
        # Load before anything else that may load: Pillow reports damage only once.
        image.load()
        frames = getattr(image, "n_frames", 1)
        if frames > 1:
            raise UnusableImageError("several frames", f"the file has {frames} images; save each as a file of its own")
        notes = []
        orientation, upright = tiff_orientation or _exif_orientation(image), image
        if orientation in _UPRIGHT:
            notes.append("the image was rotated or mirrored as its EXIF orientation states")
            upright = image if tiff_orientation else image.transpose(_UPRIGHT[orientation])
        if depth.bits > 8:
            pixels, note = _from_deep(upright, depth, window), _window_note(window)
        else:
            upright, note = _in_plain_mode(upright)
            pixels = np.asarray(upright)
        notes += [note] if note else []
        channels = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
        return np.ascontiguousarray(channels), tuple(notes)


@dataclass(frozen=True)
class _Depth:
    """How samples are stored.

    Attributes:
        bits: Per sample.
        kind: Integers or floating point.
        inverted: Whether 0 is white.
        largest: The largest value, if Pillow scales it to 65535.
    """

    bits: int
    kind: str = ""
    inverted: bool = False
    largest: int = 0

    @classmethod
    def of(cls, image: Image.Image) -> _Depth:
        if image.format == "TIFF":
            bits = max(_tiff_tag(image, _BITS_PER_SAMPLE) or (1,))
            sign = "signed " if _SIGNED in (_tiff_tag(image, _SAMPLE_FORMAT) or ()) else ""
            kind = "floating point" if image.mode == "F" else f"{sign}{_UNSIGNED}"
            return cls(bits, kind, _tiff_tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO)
        if image.mode in _DEEP_MODES and image.format != "PPM":
            return cls(32, "floating point" if image.mode == "F" else _UNSIGNED)
        # Pillow converts deeper colour images to 8-bit RGB; only the decoder arguments keep the stored depth.
        arguments = [image.tile[0].args] if isinstance(image, ImageFile.ImageFile) and image.tile else []
        if image.format == "PPM":
            largest = [one[1] for one in arguments if isinstance(one, tuple) and isinstance(one[1], int)]
            bits = max(
                [16 if image.mode in _DEEP_MODES and not largest else 8, *(value.bit_length() for value in largest)]
            )
            return cls(bits, _UNSIGNED, largest=max(largest, default=0))
        deep = image.mode.startswith(_DEEP_MODES) or any(";16" in str(argument) for argument in arguments)
        return cls(16 if deep else 8, _UNSIGNED)


def _from_deep(image: Image.Image, depth: _Depth, window: GrayWindow | None) -> np.ndarray:
    stored = f"{depth.bits} bits per sample ({depth.kind})"
    if not image.mode.startswith(_DEEP_MODES):
        raise UnusableImageError("16-bit", f"{stored} in colour; save as 8-bit gray or RGB")
    if window is None:
        raise UnusableImageError(
            "16-bit", f"{stored}; state the gray values that become black and white, for example --window 0,4095"
        )
    values = np.asarray(image)
    if (values == image.info.get("transparency")).any():
        raise UnusableImageError("colour mode", _TRANSPARENT)
    if values.dtype == np.int32 and depth.bits == 32 and depth.kind == _UNSIGNED:
        values = values.view(np.uint32)
    if depth.largest:
        values = np.rint(values * (depth.largest / 65535))
    pixels = window.scale(values)
    return 255 - pixels if depth.inverted else pixels


def _window_note(window: GrayWindow | None) -> str:
    return f"more than 8 bits were scaled from {window.low:g}..{window.high:g} to 0..255" if window else ""


def _in_plain_mode(image: Image.Image) -> tuple[Image.Image, str]:
    """An image with the same colours in 8-bit gray or RGB, and a note if it had another mode.

    Raises:
        UnusableImageError: It has no such image without a guess: transparent pixels, or colours for printing.
    """
    mode = image.mode
    if mode in _CHANNELS and "transparency" not in image.info:
        return image, ""
    if "transparency" in image.info or mode in _TRANSPARENT_MODES:
        target = _TRANSPARENT_MODES.get(mode) or ("L" if mode in ("1", "L") else "RGB")
        with_alpha = image if mode in ("LA", "RGBA") else image.convert("LA" if target == "L" else "RGBA")
        if with_alpha.getchannel("A").getextrema() != (255, 255):
            raise UnusableImageError("colour mode", _TRANSPARENT)
        opaque = with_alpha.convert(target)
        return (_gray_if_gray(opaque) if mode in ("P", "PA") else opaque), "an opaque alpha channel was left out"
    if mode == "1":
        return image.convert("L"), "1-bit pixels were read as gray 0 and 255"
    if mode == "P":
        return _gray_if_gray(image.convert("RGB")), "a colour palette was replaced by its colours"
    raise UnusableImageError("colour mode", f"the colours are {_MODE_NAMES.get(mode, mode)}; save as 8-bit gray or RGB")


def _gray_if_gray(image: Image.Image) -> Image.Image:
    """The image of a palette as gray if all its colours are: a gray image that a program saved with a palette."""
    red, green, blue = image.split()
    same = red.tobytes()
    return red if green.tobytes() == same and blue.tobytes() == same else image


def _tiff_tag(image: Image.Image, number: int) -> Any:
    return image.tag_v2.get(number) if hasattr(image, "tag_v2") else None


def _exif_orientation(image: Image.Image) -> int | None:
    try:
        return image.getexif().get(_ORIENTATION)
    except Exception:  # a damaged EXIF block has no orientation, and viewers ignore it too
        return None


def _explain(error: Exception, data: bytes) -> UnusableImageError:
    """The reason in words; messages of Pillow and its libraries, such as "decoder error -2", mean nothing to a user."""
    words = str(error).lower()
    name = next((name for start, name in _SIGNATURES.items() if data.startswith(start)), "")
    if isinstance(error, Image.DecompressionBombError):
        return UnusableImageError(
            "decompression bomb", f"the header announces more than {LARGEST_PIXEL_COUNT // 10**6} million pixels"
        )
    if isinstance(error, MemoryError):
        return UnusableImageError("too large", "there is not enough memory to decode it")
    precision = _jpeg_precision(data) if name == "JPEG" else 8
    if precision > 8:
        return UnusableImageError(
            "16-bit",
            f"a JPEG with {precision} bits per sample, which needs a special decoder; save as 8-bit gray or RGB",
        )
    if isinstance(error, UnidentifiedImageError):
        if name:
            return UnusableImageError(
                "not an image", f"the content begins like a {name} file, but its header is damaged or of a rare variant"
            )
        return UnusableImageError("not an image", f"the content has none of the formats {', '.join(READABLE_FORMATS)}")
    content = f"the {name} content" if name else "the content"
    if "truncated" in words or "not enough image data" in words:
        return UnusableImageError("truncated", f"{content} ends too early; copy the file again")
    if isinstance(error, NotImplementedError) or any(word in words for word in ("unsupported", "not supported")):
        return UnusableImageError(
            "unreadable", f"{content} is of a rare variant that cannot be read, or damaged; save it as PNG"
        )
    return UnusableImageError("unreadable", f"{content} is damaged; copy the file again")


def _jpeg_precision(data: bytes) -> int:
    """Bits per sample that the frame header of a JPEG states; 8 if there is none."""
    place = 2
    while place + 5 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[place + 4]
        place += 2 + length
    return 8


def encode_png(pixels: np.ndarray) -> bytes:
    """Pixels uint8 (C, rows, columns) of one or three channels as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)).save(buffer, "PNG")
    return buffer.getvalue()
