from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from gyrus.evaluation.added_value import AddedValue, LikelihoodRatio, added_value, likelihood_ratio_test
from gyrus.inference.predictions import Predictions


def drawn(count, effect, seed, images=1):
    """Class by age and, with an effect, by a sign that only the image shows; the image shows age too.

    Returns:
        Age and class of each person, and a score of each of their images.
    """
    random = np.random.default_rng(seed)
    age, sign = random.normal(size=(2, count))
    classes = (1.2 * age + effect * sign + random.logistic(size=count) > 0).astype(np.int64)
    return age, classes, np.repeat(0.9 * age + effect * sign, images) + 0.5 * random.normal(size=count * images)


def logits(scores):
    return np.column_stack([-scores / 2, scores / 2])


def people(count, effect, seed, *, images=1):
    """The rows with the column age, and predictions of the table, the image and both."""
    age, classes, image = drawn(count, effect, seed, images)
    names = np.repeat([f"s{number:03}" for number in range(count)], images)
    samples = [f"{name}/{number}" for number, name in enumerate(names)]
    targets = np.repeat(np.array(["a", "b"])[classes], images)
    repeated = np.repeat(age, images)

    def predictions(scores):
        about = {"classes": ("a", "b"), "split_unit": "subject", "subjects": list(names), "targets": list(targets)}
        return Predictions.from_logits(samples, logits(scores), **about)

    rows = pd.DataFrame({"sample": samples, "age": 60 + 10 * repeated})
    return rows, predictions(1.2 * repeated), predictions(image), predictions(0.6 * repeated + 0.6 * image)


def measured(count, effect, seed=0, **options):
    rows, table, image, both = people(count, effect, seed, **options)
    return added_value(both, image, table, rows, {"age": "auto"}, fusion="late", resamples=40, seed=0)


def p_values(effect, seeds):
    """Of the likelihood-ratio test, on 150 people each."""
    draws = (drawn(150, effect, seed) for seed in range(seeds))
    return np.array([likelihood_ratio_test(who, age[:, None], logits(image)).p_value for age, who, image in draws])


def test_an_image_that_shows_only_age_is_not_claimed_to_add_to_it():
    assert (p_values(0.0, 200) < 0.05).mean() <= 0.09  # 0.05 of 200 exceeds 0.09 in 1 of 200 seeds
    value = measured(150, 0.0)
    assert value.verdict()[0].startswith("It is not shown that the image adds to age (likelihood-ratio test, p = ")


def test_an_image_that_shows_more_is_found():
    assert (p_values(1.0, 50) < 0.05).mean() > 0.95
    value = measured(150, 2.0)
    assert value.verdict()[0].startswith("Yes: the image adds to age (likelihood-ratio test, p < 0.001)")
    assert value.parts.results["table"].gains["macro_roc_auc"].low > 0


def test_images_of_a_subject_count_once(tmp_path):
    value = measured(60, 2.0, images=4)
    assert (value.unit, value.count, value.test.subjects) == ("subject", 60, 60)
    value.save(tmp_path / "added_value.json")
    assert AddedValue.load(tmp_path / "added_value.json") == value
    assert "Table alone" in value.text()
    assert "Both minus image alone" in value.text()


def test_visits_are_counted_as_visits():
    rows, *three = people(30, 1.0, 0)
    visits = [f"s{number // 2:03}, visit {number % 2}" for number in range(30)]
    table, image, both = (
        replace(
            each,
            table=each.table.assign(subject=visits, subject_of_visit=[name[:4] for name in visits]),
            subject_kind="visit",
        )
        for each in three
    )
    value = added_value(both, image, table, rows, {"age": "auto"}, fusion="late", resamples=20, seed=0)
    assert value.units == "30 visits"
    assert "(30 visits, fusion: late)" in value.text()


def test_the_statistic_is_that_of_nested_logistic_models():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    random = np.random.default_rng(3)
    design = random.normal(size=(300, 2))
    scores = design[:, 0] + random.normal(size=300)
    targets = (scores + random.logistic(size=300) > 0).astype(np.int64)
    found = likelihood_ratio_test(targets, design, np.column_stack([-scores / 2, scores / 2]))

    def log_likelihood(features):
        model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000).fit(features, targets)
        return -log_loss(targets, model.predict_proba(features), normalize=False)

    expected = 2 * (log_likelihood(np.column_stack([design, scores])) - log_likelihood(design))
    assert found.statistic == pytest.approx(expected, rel=1e-4)
    assert found.method == "chi-squared"
    from scipy.stats import chi2

    assert found.p_value == pytest.approx(chi2.sf(expected, 1), rel=1e-3)


def test_with_few_subjects_simulated_data_decide(monkeypatch):
    random = np.random.default_rng(0)
    design = random.normal(size=(40, 3))
    targets = np.digitize(design[:, 0] + random.logistic(size=40), [-0.7, 0.7]).astype(np.int64)
    answers = np.outer(design[:, 0] + random.normal(size=40), [-1, 0, 1])
    found = likelihood_ratio_test(targets, design, answers, seed=1)
    assert found.method == "parametric bootstrap"
    assert found == likelihood_ratio_test(targets, design, answers, seed=1)
    monkeypatch.setattr("gyrus.evaluation.added_value.ENOUGH_FOR_CHI_SQUARED", 0)
    limit = likelihood_ratio_test(targets, design, answers)
    assert (limit.method, limit.statistic) == ("chi-squared", found.statistic)
    assert found.p_value == pytest.approx(limit.p_value, abs=0.1)


def test_the_words_tell_information_from_a_higher_score():
    value = measured(150, 2.0)
    gain = value.parts.results["table"].gains["macro_roc_auc"]

    def words(p_value, low, high):
        part = replace(
            value.parts.results["table"],
            gains={**value.parts.results["table"].gains, "macro_roc_auc": replace(gain, low=low, high=high)},
        )
        test = LikelihoodRatio(1.0, p_value, 150, ("age",), "chi-squared") if p_value is not None else None
        parts = replace(value.parts, results={**value.parts.results, "table": part})
        return replace(value, parts=parts, test=test).verdict()[0]

    assert words(0.001, 0.1, 0.2).startswith("Yes")
    assert "carries information beyond age" in words(0.001, -0.1, 0.2)
    assert "score lower than the table alone" in words(0.001, -0.2, -0.1)
    assert "not shown that the image adds" in words(0.4, 0.1, 0.2)
    assert words(0.4, -0.2, -0.1).startswith("No: both together score lower")
    assert words(None, 0.1, 0.2).startswith("The score of both is higher")


def test_too_few_subjects_for_the_columns_give_no_test_but_a_reason():
    rows, table, image, both = people(12, 0.0, 0)
    columns = dict.fromkeys("bcde", "auto")
    wide = rows.assign(**{name: np.random.default_rng(1).normal(size=12) for name in columns})
    value = added_value(both, image, table, wide, columns, fusion="late", resamples=0)
    assert value.test is None
    assert "No likelihood-ratio test: the rarest class has" in value.verdict()[-1]
