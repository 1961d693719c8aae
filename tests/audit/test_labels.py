from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from gyrus.audit.checks import audit, gather
from gyrus.audit.image_measurements import jpeg_quality, look_at
from gyrus.audit.labels import deal, out_of_fold, suspects
from gyrus.audit.shortcuts import association, predictability
from gyrus.datasets.scan import scan
from gyrus.synthetic.phantom import generate, write


def two_clouds(people: int = 60, each: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of people of two classes that can be told apart, their classes, their numbers."""
    generator = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(people), each)
    targets = numbers % 2
    return generator.normal(size=(len(numbers), 5)) + 3.0 * targets[:, None], targets, numbers


def test_wrong_labels_are_found() -> None:
    features, targets, people = two_clouds()
    wrong = np.isin(people, [3, 10])
    given = np.where(wrong, 1 - targets, targets)
    rows, guesses = suspects(out_of_fold(features, given, people), given)
    assert set(np.nonzero(wrong)[0]) <= set(rows[:8])
    assert (guesses[:8] == targets[rows[:8]]).all()
    assert len(rows) < 12


def test_people_stay_whole_and_classes_spread() -> None:
    _, targets, people = two_clouds(people=40)
    folds = deal(targets, people, seed=3)
    assert (pd.Series(folds).groupby(people).nunique() == 1).all()
    assert (pd.crosstab(folds, targets) > 0).all(axis=None)


def test_out_of_fold_knows_nothing_of_random_labels() -> None:
    generator = np.random.default_rng(1)
    people = np.repeat(np.arange(80), 5)
    faces = generator.normal(size=(80, 10))
    targets = generator.integers(0, 2, 80)[people]
    guess = np.argmax(out_of_fold(faces[people], targets, people), axis=1)
    assert abs((guess == targets).mean() - 0.5) < 0.2


def test_predictability_of_a_shortcut_and_of_noise() -> None:
    generator = np.random.default_rng(2)
    targets = np.arange(60) % 3
    reached, chance, p_value = predictability(targets[:, None] + generator.normal(0, 0.1, (60, 1)), targets)
    assert reached > 0.95
    assert chance < 0.5
    assert p_value < 0.03
    assert predictability(generator.normal(size=(60, 2)), targets)[2] > 0.05


def test_association_agrees_with_scipy() -> None:
    generator = np.random.default_rng(3)
    targets = np.arange(90) % 3
    age = pd.Series(60 + 5 * targets + generator.normal(0, 3, 90))
    name, strength, p_value = association(age, targets)
    assert name == "epsilon squared"
    assert p_value == pytest.approx(stats.kruskal(*[age[targets == label] for label in range(3)]).pvalue)
    assert strength > 0.3
    name, strength, _ = association(pd.Series(np.array(["F", "M", "F"])[targets]), targets)
    assert name == "Cramer's V"
    assert strength == pytest.approx(1.0)


@pytest.mark.parametrize("quality", [30, 50, 75, 92])
def test_jpeg_quality_is_read_from_the_tables(quality: int, tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8))
    image.save(tmp_path / "image.jpg", quality=quality)
    assert jpeg_quality((tmp_path / "image.jpg").read_bytes()) == pytest.approx(quality, abs=3)


def test_images_of_other_formats_have_no_jpeg_quality(tmp_path: Path) -> None:
    Image.new("L", (20, 30), 9).save(tmp_path / "image.png")
    data = (tmp_path / "image.png").read_bytes()
    thumbnail, _, around = look_at(np.full((1, 30, 20), 9, np.uint8), data)
    assert thumbnail.shape == (64, 64)
    assert around["JPEG quality"] == 0.0
    assert (around["rows"], around["columns"], around["background"]) == (30, 20, 9)


def test_a_class_with_a_mark_in_the_corner_is_a_shortcut(tmp_path: Path) -> None:
    phantom = generate(subjects=30, slices=2, classes=2, size=64, seed=8)
    phantom.volumes[phantom.labels == 1, :, :4, :4] = 90
    findings = audit(gather(scan(write(phantom, tmp_path / "data"))), title="phantom", checks=["shortcuts"])
    assert any(entry.numbers.get("what") == "corners" for entry in findings.entries if entry.severity == "warning")


def test_phantom_data_have_no_shortcut_but_confounding_is_looked_at(tmp_path: Path) -> None:
    phantom = generate(subjects=40, slices=2, classes=2, size=64, seed=9)
    findings = audit(gather(scan(write(phantom, tmp_path / "data", "csv"))), title="phantom", checks=["shortcuts"])
    assert not [entry for entry in findings.entries if "what" in entry.numbers]
    assert {entry.numbers["column"] for entry in findings.entries if "column" in entry.numbers} == {"age", "sex"}
