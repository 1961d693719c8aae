"""Scans unlike the training data: distances, conformal p-values by subject, and the file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from gyrus.errors import DataError
from gyrus.inference.predictions import Predictions
from gyrus.inference.unlike_training import (
    PARTS,
    Measured,
    UnlikeTraining,
    coarse_pictures,
    likeness_columns,
    some_of_each,
    summarise_likeness,
)

NAMES = ("noise", "spacing")


def measured(generator: np.random.Generator, subjects: int, images: int = 1, spread: float = 0.5) -> Measured:
    """Images of subjects: what the images of one share, and what differs between them."""

    def values(columns: int) -> np.ndarray:
        shared = np.repeat(generator.normal(size=(subjects, columns)), images, axis=0)
        return shared + spread * generator.normal(size=shared.shape)

    return Measured(values(8), values(16), values(2), NAMES, values(6) + 1.0, values(80))


def numbers(subjects: int, images: int = 1) -> np.ndarray:
    return np.repeat(np.arange(subjects), images)


def fitted(seed: int, validation: int = 30, images: int = 1) -> UnlikeTraining:
    generator = np.random.default_rng(seed)
    train, val = measured(generator, 60, images), measured(generator, validation, images)
    return UnlikeTraining.fit(train, numbers(60, images), val, numbers(validation, images), by_subject=True)


def moved(one: Measured, part: str) -> Measured:
    """The same with one part far away."""
    name = "pictures" if part == "picture" else part
    if part == "sides":  # mirrored
        return replace(one, sides=-3 * one.sides)
    return replace(one, **{name: getattr(one, name) + 8.0})


@pytest.mark.parametrize("images", [1, 6])
def test_false_alarms_by_subject_are_as_frequent_as_stated(images):
    by_image, by_subject = [], []
    for seed in range(60):
        unlike = fitted(seed, 19, images)
        new = unlike.distances(measured(np.random.default_rng(1000 + seed), 40, images))
        by_image.append((unlike.p_values(new) <= 0.2).mean())
        by_subject.append((unlike.subject_p_values(new, numbers(40, images)) <= 0.2).mean())
    assert 0.15 < np.mean(by_image) < 0.25
    assert 0.15 < np.mean(by_subject) < 0.25


@pytest.mark.parametrize("part", PARTS)
def test_each_part_is_noticed_and_named(part):
    unlike = fitted(0)
    strange = unlike.distances(moved(measured(np.random.default_rng(1), 5), part))
    assert unlike.p_values(strange) == pytest.approx(unlike.smallest)
    assert unlike.smallest == pytest.approx(1 / 31)
    assert unlike.most_unlike(strange) == [part] * 5


def test_few_validation_subjects_limit_the_p_value_and_the_summary_says_so():
    unlike = fitted(0, validation=4)
    assert unlike.alarm == unlike.smallest == 0.2
    new = measured(np.random.default_rng(1), 3)
    columns = likeness_columns(unlike, unlike.distances(replace(new, facts=new.facts + 80)), ["a", "b", "c"])
    predictions = Predictions.from_logits(
        ["1", "2", "3"], np.zeros((3, 2)), classes=["x", "y"], split_unit="subject", subjects=["a", "b", "c"]
    )
    table = predictions.table.assign(**columns)
    summary = summarise_likeness(Predictions.from_table(table, classes=["x", "y"], split_unit="subject"), unlike.count)
    assert summary is not None
    assert (summary.unlike, summary.count, summary.parts["facts"]) == (3, 3, 3)
    assert "Unlike the training data: 3 of 3 subjects (p up to 0.2; about 0.6 expected by chance)" in summary.text()
    assert "With a validation set of 4 no p-value can be smaller than 0.2." in summary.text()


def test_a_subject_with_several_images_has_one_p_value_that_a_single_odd_image_does_not_decide():
    unlike = fitted(0, images=6)
    new = measured(np.random.default_rng(1), 2, 6)
    odd = replace(new, features=new.features.copy())
    odd.features[0] += 5.0
    distances = unlike.distances(odd)
    columns = likeness_columns(unlike, distances, [f"s{number}" for number in numbers(2, 6)])
    assert columns["p_like_training"][0] == pytest.approx(unlike.smallest, abs=0.02)
    by_subject = pd.Series(columns["subject_p_like_training"]).groupby(numbers(2, 6))
    assert by_subject.nunique().tolist() == [1, 1]
    assert "subject_p_like_training" not in likeness_columns(unlike, distances, [None] * 12)


def test_the_file_gives_the_same_p_values_and_a_damaged_one_is_refused(tmp_path):
    unlike = fitted(3)
    unlike.save(tmp_path / "unlike.npz")
    new = measured(np.random.default_rng(4), 20)
    again = UnlikeTraining.load(tmp_path / "unlike.npz")
    np.testing.assert_allclose(again.p_values(again.distances(new)), unlike.p_values(unlike.distances(new)), atol=0.04)
    (tmp_path / "unlike.npz").write_bytes(b"damaged")
    with pytest.raises(DataError, match="reference of training data"):
        UnlikeTraining.load(tmp_path / "unlike.npz")


def test_a_file_of_an_earlier_version_compares_three_parts(tmp_path):
    unlike = fitted(3)
    unlike.save(tmp_path / "new.npz")
    with np.load(tmp_path / "new.npz") as file:
        arrays = {name: file[name] for name in file.files if name.split()[0] not in ("sides", "places")}
    about = {**json.loads(str(arrays["about"])), "schema": "gyrus.unlike-training/1"}
    del about["parts"]
    arrays |= {"about": np.asarray(json.dumps(about)), "reference": arrays["reference"][:, :3]}
    np.savez(tmp_path / "old.npz", **arrays)
    old, new = UnlikeTraining.load(tmp_path / "old.npz"), measured(np.random.default_rng(4), 20)
    np.testing.assert_allclose(old.distances(new), unlike.distances(new)[:, :3], atol=1e-3)
    assert set(old.most_unlike(old.distances(new))) <= {"features", "picture", "facts"}


def pictures(seed: int, subjects: int) -> np.ndarray:
    """Smooth pictures (N, 1, 48, 48) of subjects, a little brighter on one side, with little noise."""
    generator = np.random.default_rng(seed)
    found = ndimage.gaussian_filter(generator.normal(size=(subjects, 48, 48)), (0, 8, 8))
    found = 120 + 30 * found / found.std() + generator.normal(0, 6, found.shape)
    found[:, 8:40, 4:20] += 6
    return np.clip(np.rint(found), 0, 255).astype(np.uint8)[:, None]


def with_spot(pixels: np.ndarray) -> np.ndarray:
    changed = pixels.copy()
    changed[..., 20:24, 28:32] = 200
    return changed


@pytest.mark.parametrize(("part", "change"), [("sides", lambda pixels: np.flip(pixels, -1)), ("places", with_spot)])
def test_mirrored_pictures_and_small_spots_are_noticed(part, change):
    """The network and the acquisition see nothing; the coarse picture as a whole sees too little."""

    def measure(pixels: np.ndarray) -> Measured:
        rest = np.random.default_rng(len(pixels)).normal(size=(len(pixels), 6))
        return Measured.from_pixels(rest[:, :4], pixels, rest[:, 4:], NAMES)

    train, val = measure(pictures(0, 120)), measure(pictures(1, 40))
    unlike = UnlikeTraining.fit(train, numbers(120), val, numbers(40), by_subject=True)
    new = pictures(2, 40)
    usual, odd = (unlike.p_values(unlike.distances(measure(each))) for each in (new, change(new)))
    assert np.mean(usual <= 0.05) <= 0.15
    assert np.mean(odd <= 0.05) > 0.5
    assert unlike.most_unlike(unlike.distances(measure(change(new)))).count(part) > 20


def test_facts_that_a_layout_lacks_do_not_count():
    unlike = fitted(0)
    new = measured(np.random.default_rng(1), 30)
    without = replace(new, facts=new.facts[:, :1], fact_names=NAMES[:1])
    assert np.isfinite(unlike.distances(without)).all()
    assert np.median(unlike.p_values(unlike.distances(without))) > 0.3


def test_coarse_pictures_are_means_of_blocks():
    pixels = np.arange(2 * 24 * 5, dtype=np.uint8).reshape(2, 1, 24, 5)
    pictures = coarse_pictures(pixels)
    assert pictures.shape == (2, 12 * 5)
    np.testing.assert_allclose(pictures[0].reshape(12, 5)[0], pixels[0, 0, :2].mean(axis=0))


def test_images_to_measure_are_spread_over_the_subjects():
    names = np.array(["a"] * 100 + ["b"] * 3 + ["c"], dtype=object)
    assert len(some_of_each(names, 3, 0)) == 16 + 3 + 1
    assert len(set(names[some_of_each(names, 2, 0)])) == 2
