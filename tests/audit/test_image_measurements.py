from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gyrus.audit.image_measurements import jpeg_quality, measure_image


@pytest.mark.parametrize("quality", [30, 50, 75, 92])
def test_jpeg_quality_is_read_from_the_tables(quality: int, tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8))
    image.save(tmp_path / "image.jpg", quality=quality)
    assert jpeg_quality((tmp_path / "image.jpg").read_bytes()) == pytest.approx(quality, abs=3)


def test_images_of_other_formats_have_no_jpeg_quality(tmp_path: Path) -> None:
    Image.new("L", (20, 30), 9).save(tmp_path / "image.png")
    data = (tmp_path / "image.png").read_bytes()
    thumbnail, _, around = measure_image(np.full((1, 30, 20), 9, np.uint8), data)
    assert thumbnail.shape == (64, 64)
    assert around["JPEG quality"] == 0.0
    assert (around["rows"], around["columns"], around["background"]) == (30, 20, 9)
