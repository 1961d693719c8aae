from __future__ import annotations

import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gyrus.datasets.manifest import PROBLEM_KINDS
from gyrus.errors import UnusableImageError
from gyrus.imaging import decoding
from gyrus.imaging.decoding import decode, inspect
from tests.support import images

BAD_IMAGES: dict[str, str | None] = {
    "12in16bit.tif": "16-bit",
    "16bit.cropped.tif": "16-bit",
    "1_trns.png": "colour mode",
    "badwidth.bmp": "decompression bomb",
    "broken.png": "not an image",
    "broken_data_stream.png": "unreadable",
    "broken_exif_dpi.jpg": None,
    "chunk_no_fdat.png": "several frames",
    "cross_scan_line_truncated.tga": "truncated",
    "decompression_bomb.gif": "decompression bomb",
    "decompression_bomb.ico": "decompression bomb",
    "empty_gps_ifd.jpg": "rotated by EXIF",
    "exif_imagemagick_orientation.png": "rotated by EXIF",
    "hopper.gif": "colour mode",
    "hopper.jpg": None,
    "hopper.png": None,
    "hopper.webp": None,
    "hopper_16bit.pgm": "16-bit",
    "hopper_bad_exif.jpg": None,
    "hopper_orientation_2.jpg": "rotated by EXIF",
    "hopper_orientation_3.jpg": "rotated by EXIF",
    "hopper_orientation_4.jpg": "rotated by EXIF",
    "hopper_orientation_5.jpg": "rotated by EXIF",
    "hopper_orientation_6.jpg": "rotated by EXIF",
    "hopper_orientation_7.jpg": "rotated by EXIF",
    "hopper_orientation_8.jpg": "rotated by EXIF",
    "i_trns.png": "16-bit",
    "l_trns.png": "colour mode",
    "mode_16bit.png": "several frames",
    "multipage.tiff": "several frames",
    "multiple_exif.jpg": None,
    "orientation_rectangle.jpg": "rotated by EXIF",
    "pil_sample_cmyk.jpg": "colour mode",
    "rgb_trns.png": "colour mode",
    "tRNS_null_1x1.png": "colour mode",
    "tiff_16bit_RGB.tiff": "16-bit",
    "truncated_app14.jpg": None,  # only a marker is short, the picture is whole
    "truncated_end_chunk.png": "truncated",
    "truncated_exif_dpi.jpg": None,  # only the EXIF block is short
    "truncated_image.png": "truncated",
    "truncated_jpeg.jpg": "truncated",
}
"""Expected kind of problem of each real bad image; None if the image is good."""


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("shape", [(13, 11), (13, 11, 3)])
def test_lossless_formats_are_decoded_exactly(kind: str, shape: tuple[int, ...]) -> None:
    pixels = images.pixels(1, shape)

    decoded = decode(images.encode(Image.fromarray(pixels), kind))

    assert decoded.dtype == np.uint8
    assert decoded.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(decoded, pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def test_a_jpeg_is_decoded_as_by_pillow() -> None:
    data = images.gray(kind="JPEG", quality=60)

    np.testing.assert_array_equal(decode(data)[0], np.asarray(Image.open(io.BytesIO(data))))


@pytest.mark.parametrize("name", images.BAD)
def test_bad_images_are_refused_with_their_kind(name: str) -> None:
    kind, data = images.BAD[name]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UnusableImageError) as error:
            inspect(data)

    assert error.value.kind == kind
    assert error.value.kind in PROBLEM_KINDS
    assert error.value.message


def test_an_upright_image_may_have_exif() -> None:
    assert decode(images.with_orientation(1)).shape == (1, 13, 11)


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_real_bad_images_are_refused_with_their_kind(shared_data: Path, name: str) -> None:
    data = (shared_data / "bad-images" / name).read_bytes()
    try:
        found = None
        inspect(data)
    except UnusableImageError as error:
        found = error.kind

    assert found == BAD_IMAGES[name]


def test_every_real_bad_image_is_in_the_table(shared_data: Path) -> None:
    assert {file.name for file in (shared_data / "bad-images").iterdir()} == set(BAD_IMAGES)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "PPM", "WEBP"])
def test_a_truncated_file_is_never_decoded_to_other_pixels(kind: str) -> None:
    whole = images.encode(Image.fromarray(images.pixels(0, (13, 11, 3))), kind)
    pixels = decode(whole)

    for end in range(1, len(whole)):
        try:
            cut = decode(whole[:end])
        except UnusableImageError:
            continue
        np.testing.assert_array_equal(cut, pixels, err_msg=f"the first {end} of {len(whole)} bytes")


@given(st.data())
def test_damaged_files_are_decoded_or_raise_unusable_image_error(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from([images.gray(kind=kind) for kind in ("PNG", "JPEG", "TIFF", "BMP")])))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(UnusableImageError):
        assert decode(bytes(content)).dtype == np.uint8


def test_a_decompression_bomb_is_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("the pixels were decoded"))

    for size in ((100_000, 100_000), (12_000, 9_000)):
        with pytest.raises(UnusableImageError, match="pixels"):
            decode(images.png_header(*size))


def test_warnings_of_others_pass_while_images_are_decoded() -> None:
    with decoding.quiet_libraries(), pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", UserWarning, stacklevel=1)


def test_warning_filters_are_restored_after_many_threads() -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, [images.gray(seed) for seed in range(64)]))

    assert list(warnings.filters) == before


def test_every_kind_of_problem_has_an_example() -> None:
    not_of_one_image = {"label missing", "two labels", "missing", "too few slices"}
    of_volumes = {"orientation unknown", "spacing unknown", "several volumes", "voxel type", "geometry"}
    assert {kind for kind, _ in images.BAD.values()} == set(PROBLEM_KINDS) - not_of_one_image - of_volumes
