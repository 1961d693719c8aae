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
from gyrus.imaging.decoding import GrayWindow, decode, decode_with_notes, inspect
from gyrus.imaging.quiet_libraries import quiet_libraries
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
    "empty_gps_ifd.jpg": None,
    "exif_imagemagick_orientation.png": None,
    "hopper.gif": None,
    "hopper.jpg": None,
    "hopper.png": None,
    "hopper.webp": None,
    "hopper_16bit.pgm": "16-bit",
    "hopper_bad_exif.jpg": None,
    "hopper_orientation_2.jpg": None,
    "hopper_orientation_3.jpg": None,
    "hopper_orientation_4.jpg": None,
    "hopper_orientation_5.jpg": None,
    "hopper_orientation_6.jpg": None,
    "hopper_orientation_7.jpg": None,
    "hopper_orientation_8.jpg": None,
    "i_trns.png": "16-bit",
    "l_trns.png": "colour mode",
    "mode_16bit.png": "several frames",
    "multipage.tiff": "several frames",
    "multiple_exif.jpg": None,
    "orientation_rectangle.jpg": None,
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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
def test_an_image_is_shown_as_its_exif_orientation_states(kind: str) -> None:
    upright = decode(images.with_orientation(1, kind))[0]
    turned = {
        **{2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T},
        **{6: np.rot90(upright, -1), 7: upright[::-1, ::-1].T, 8: np.rot90(upright), 9: upright},
    }

    for number, expected in turned.items():
        found, notes = decode_with_notes(images.with_orientation(number, kind))
        np.testing.assert_array_equal(found[0], expected, err_msg=f"orientation {number}")
        assert bool(notes) == (number != 9)


def test_colours_that_need_no_guess_are_converted_with_a_note() -> None:
    colour, gray = Image.fromarray(images.pixels(0, (13, 11, 3))), Image.fromarray(images.pixels())
    few = colour.quantize(7)
    gray_palette = gray.copy()
    gray_palette.putpalette([value for level in range(256) for value in (level, level, level)])
    cases = [
        ("palette", few, few.convert("RGB"), "PNG", {}),
        ("palette", few, few.convert("RGB"), "GIF", {}),
        ("palette", gray_palette, gray, "PNG", {}),
        ("1-bit", gray.convert("1"), gray.convert("1").convert("L"), "PNG", {}),
        ("alpha", colour.convert("RGBA"), colour, "PNG", {}),
        ("alpha", gray.convert("LA"), gray, "PNG", {}),
        ("alpha", colour.convert("RGBA"), colour, "TIFF", {}),
        (
            "alpha",
            gray.point(lambda level: max(level, 1)),
            gray.point(lambda level: max(level, 1)),
            "PNG",
            {"transparency": 0},
        ),
        ("alpha", few, few.convert("RGB"), "PNG", {"transparency": 250}),
    ]
    for word, stored, plain, kind, options in cases:
        found, notes = decode_with_notes(images.encode(stored, kind, **options))
        expected = np.asarray(plain)
        np.testing.assert_array_equal(found, expected[None] if expected.ndim == 2 else expected.transpose(2, 0, 1))
        assert [word in note for note in notes] == [True], (word, kind, notes)


def test_more_than_8_bits_are_scaled_by_a_stated_window() -> None:
    values = np.array([[0, 100, 101], [2000, 4095, 60000]])
    window = GrayWindow(100, 4095)
    expected = np.array([[0, 0, 0], [121, 255, 255]], np.uint8)
    pgm = b"P5 3 2 65535\n" + values.astype(">u2").tobytes()
    for data in (
        images.encode(Image.fromarray(values.astype(np.uint16))),
        images.encode(Image.fromarray(values.astype(np.uint16)), "TIFF"),
        images.encode(Image.fromarray(values.astype(np.float32)), "TIFF"),
        pgm,
    ):
        found, notes = decode_with_notes(data, window)
        np.testing.assert_array_equal(found[0], expected)
        assert "100..4095" in notes[0]
    np.testing.assert_array_equal(
        decode(b"P5 3 1 4095\n" + values[1].clip(0, 4095).astype(">u2").tobytes(), window)[0, 0], [121, 255, 255]
    )
    np.testing.assert_array_equal(
        decode(images.signed_tiff(np.array([[-50, 0, 50]])), GrayWindow(-50, 50))[0, 0], [0, 128, 255]
    )
    np.testing.assert_array_equal(decode(images.gray(), window), decode(images.gray()), err_msg="8 bits need no window")
    deep = images.encode(Image.fromarray(np.array([[np.nan, np.inf, 300]], np.float32)), "TIFF")
    np.testing.assert_array_equal(decode(deep, GrayWindow(100, 300))[0, 0], [0, 255, 255])


@pytest.mark.parametrize("name", images.BAD)
def test_reasons_are_in_words_and_name_no_library(name: str) -> None:
    with pytest.raises(UnusableImageError) as error:
        inspect(images.BAD[name][1])

    message = error.value.message.lower()
    words = (
        "decoder error",
        "pillow",
        "pil.",
        "error -",
        "exception",
        "attribute",
        "libtiff",
        "codec configuration",
        "dos attack",
    )
    assert not [word for word in words if word in message]
    stated = {"16-bit TIFF with sign": "16 bits per sample (signed integers)", "12-bit JPEG": "jpeg with 12 bits"}
    assert stated.get(name, "") in message


def test_nothing_of_libtiff_reaches_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    whole = images.encode(Image.fromarray(images.pixels()), "TIFF", compression="tiff_adobe_deflate")
    seen = set()
    for place in range(8, len(whole), 7):
        try:
            decode(whole[:place] + b"\xff" + whole[place + 1 :])
        except UnusableImageError as error:
            seen.add(error.kind)

    assert "unreadable" in seen
    assert capfd.readouterr() == ("", "")


def test_a_constant_image_is_noticed() -> None:
    assert inspect(images.encode(Image.new("RGB", (5, 4), (1, 2, 3)))).constant
    assert not inspect(images.gray()).constant


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
    with quiet_libraries(), pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", UserWarning, stacklevel=1)


def test_warning_filters_are_restored_after_many_threads() -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(decode, [images.gray(seed) for seed in range(64)]))

    assert list(warnings.filters) == before


def test_every_kind_of_problem_has_an_example() -> None:
    not_of_one_image = {"label missing", "two labels", "missing", "too few slices", "constant", "too large"}
    not_of_one_image |= {"not prepared", "dimensions", "channel missing"}
    of_volumes = {"orientation unknown", "spacing unknown", "several volumes", "voxel type", "geometry"}
    assert {kind for kind, _ in images.BAD.values()} == set(PROBLEM_KINDS) - not_of_one_image - of_volumes
