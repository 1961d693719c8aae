"""Heat maps are overlaid on their images, with titles that name errors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gyrus.explanation.attribution import Attribution
from gyrus.reporting.heat_map_figures import COLOUR_MAPS, grid_figure, image_figure, methods_figure, overlay
from tests.support.report_contents import words

INFERNO = COLOUR_MAPS["inferno"]


def attribution(shape: tuple[int, ...] = (8, 8), **changes: object) -> Attribution:
    random = np.random.default_rng(0)
    made = Attribution(
        sample="s1",
        map=random.random(shape).astype(np.float32),
        image=random.integers(0, 256, shape).astype(np.float32),
        method="grad-cam",
        target="AD",
        classes=("CN", "AD"),
        probabilities=np.array([0.2, 0.8]),
        truth="AD",
    )
    return replace(made, **changes)


def test_cold_pixels_show_the_image_and_hot_pixels_the_map() -> None:
    image, heat = np.full((1, 2), 128.0), np.array([[0.0, 1.0]])
    shown = overlay(image, heat, INFERNO, is_signed=False)
    np.testing.assert_allclose(shown[0, 0], 128 / 255)
    assert np.abs(shown[0, 1] - 128 / 255).max() > 0.2


def test_titles_name_the_true_class_of_errors() -> None:
    assert "correct predicted AD 80 %" in words(grid_figure([attribution()], INFERNO))
    assert "true CN predicted AD 80 %" in words(grid_figure([attribution(truth="CN")], INFERNO))


@pytest.mark.parametrize(("shape", "panels"), [((8, 8), 2), ((6, 8, 8), 6)])
def test_volumes_are_shown_in_three_planes(shape: tuple[int, ...], panels: int) -> None:
    figure = image_figure(attribution(shape), INFERNO)
    assert sum(bool(axes.images) for axes in figure.axes) == panels
    assert "Grad-CAM for AD" in words(figure)


def test_each_method_has_its_panel() -> None:
    maps = {"grad-cam": [attribution()], "eigen-cam": [attribution(method="eigen-cam")]}
    text = words(methods_figure(maps, INFERNO))
    assert all(title in text for title in ("image", "Grad-CAM", "Eigen-CAM"))
