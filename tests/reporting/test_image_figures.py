"""Figures of images: examples with true and predicted class, and the feature map."""

from __future__ import annotations

import numpy as np

from gyrus.reporting.image_figures import draw_images, examples_figure, map_figure
from tests.support.predictions import study
from tests.support.report_contents import words

PREDICTIONS = study()
RIGHT = np.flatnonzero(PREDICTIONS.predicted == PREDICTIONS.targets)[:3]
WRONG = np.flatnonzero(PREDICTIONS.predicted != PREDICTIONS.targets)[:2]
ROWS = np.concatenate([RIGHT, WRONG])
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8)).astype(np.uint8)


def test_examples_name_the_predicted_class_of_errors_only() -> None:
    text = words(examples_figure(PREDICTIONS, IMAGES, ROWS))
    assert text.count("→") == len(WRONG)
    assert f"→ {PREDICTIONS.predicted_classes[WRONG[0]]}" in text


def test_heat_maps_are_below_their_images() -> None:
    sample = str(PREDICTIONS.table["sample"].iloc[ROWS[0]])
    figure = examples_figure(PREDICTIONS, IMAGES, ROWS, {sample: (np.zeros((8, 8, 3)), 1.0)})
    shown = [len(axes.images) for axes in figure.axes]
    assert shown == [1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 1, 1, 0, 0, 0]


def test_the_feature_map_is_coloured_by_class_and_by_subject() -> None:
    points = np.random.default_rng(0).normal(size=(5, 2))
    text = words(map_figure(PREDICTIONS, points, ROWS))
    subjects = PREDICTIONS.table["subject"].iloc[ROWS].nunique()
    assert f"Subject (n = {subjects})" in text
    assert len(map_figure(study(subjects=None, split_unit="image"), points, ROWS).axes) == 1


def test_only_saved_figures_are_drawn(tmp_path) -> None:
    assert draw_images(PREDICTIONS, tmp_path / "examples.npz", tmp_path / "embeddings.npz") == ()
    np.savez(tmp_path / "examples.npz", images=IMAGES, rows=ROWS)
    drawings = draw_images(PREDICTIONS, tmp_path / "examples.npz", tmp_path / "embeddings.npz")
    assert [drawing.name for drawing in drawings] == ["examples"]
