"""Scores on matched subjects, on constructed predictions that show age alone or disease beyond it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gyrus.errors import ConfigError, DataError
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.matching import MatchedScores, inverse_probability_weights, match_pairs, matched_scores
from gyrus.inference.predictions import Predictions
from tests.support.predictions import repeated_visits


def people(disease: float, *, count: int = 400, seed: int = 0) -> tuple[Predictions, pd.DataFrame]:
    """The class depends on age, sex and a hidden sign; predictions show age and, if asked for, the sign."""
    random = np.random.default_rng(seed)
    age, sign, noise = random.normal(size=(3, count))
    sex = random.integers(0, 2, count)
    sick = 1.2 * age + sign + 0.5 * sex + random.logistic(size=count) > 0.25
    scores = age + disease * sign + 0.2 * noise
    names = [f"s{number:03}" for number in range(count)]
    predictions = Predictions.from_logits(
        names,
        np.column_stack([-scores / 2, scores / 2]),
        classes=("CN", "AD"),
        split_unit="subject",
        subjects=names,
        targets=np.array(["CN", "AD"])[sick.astype(int)].tolist(),
    )
    return predictions, pd.DataFrame({"sample": names, "age": 60 + 10 * age, "sex": np.where(sex, "M", "F")})


def scored(predictions, rows, columns=("age", "sex"), resamples=199):
    return matched_scores(predictions, rows, dict.fromkeys(columns, "auto"), bootstrap=BootstrapConfig(resamples))


def test_predictions_that_show_only_age_have_nothing_left_on_matched_people():
    found = scored(*people(0.0))
    (one,) = found.classes
    assert one.unmatched.roc_auc.low > 0.65
    for part in (one.matched, one.weighted):
        assert part.roc_auc.value == pytest.approx(0.5, abs=0.05)
        assert part.roc_auc.low < 0.52
        assert part.balanced_accuracy.value == pytest.approx(0.5, abs=0.06)
        assert abs(part.imbalance["age"]) < 0.15 < 0.7 < one.unmatched.imbalance["age"]
    assert one.p_value > 0.05
    assert one.permuted_auc == pytest.approx(one.unmatched.roc_auc.value, abs=0.03)
    assert found.verdict(one).startswith("It is not shown that the predictions tell 'AD' beyond age and sex (")


def test_the_permutation_within_strata_keeps_its_level():
    p_values = [scored(*people(0.0, count=150, seed=seed), resamples=39).classes[0].p_value for seed in range(20)]
    assert (np.array(p_values) <= 0.05).sum() <= 4  # 5 or more of 20 at 5 % have a chance of 0.3 %


def test_disease_beyond_age_stays(tmp_path):
    found = scored(*people(1.0))
    (one,) = found.classes
    assert one.matched.roc_auc.low > 0.6
    assert one.weighted.roc_auc.low > 0.5
    assert one.unmatched.roc_auc.value > one.matched.roc_auc.value
    assert one.p_value == 1 / 200
    assert one.matched.positive == one.matched.negative <= min(one.unmatched.positive, one.unmatched.negative)
    assert one.weighted.effective < 400 == one.unmatched.effective
    assert found.verdict(one).startswith("The predictions tell 'AD' beyond age and sex (")
    found.save(tmp_path / "matched_scores.json")
    assert MatchedScores.load(tmp_path / "matched_scores.json") == found
    assert "Largest imbalance" in found.text()


def test_unmatched_and_weighted_areas_are_those_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    predictions, rows = people(0.5)
    (one,) = scored(predictions, rows, columns=("age",), resamples=0).classes
    sick, scores = predictions.targets, predictions.logits[:, 1]
    age = (rows["age"] - rows["age"].mean()) / rows["age"].std(ddof=0)
    features = np.column_stack([age, age**2 - 1])
    chance = LogisticRegression(C=100, max_iter=5000).fit(features, sick).predict_proba(features)[:, 1].clip(0.05, 0.95)
    weights = np.where(sick, sick.mean() / chance, (1 - sick.mean()) / (1 - chance))
    for part, weight in ((one.unmatched, None), (one.weighted, weights)):
        assert part.roc_auc.value == pytest.approx(roc_auc_score(sick, scores, sample_weight=weight))
        expected = balanced_accuracy_score(sick, scores > 0, sample_weight=weight)
        assert part.balanced_accuracy.value == pytest.approx(expected)
        assert part.roc_auc.low is None
    assert one.weighted.effective == pytest.approx(weights.sum() ** 2 / (weights**2).sum())


def test_pairs_are_as_many_as_possible_and_obey_the_calipers():
    positive = np.array([True, True, False, False, False, True])
    numbers = np.array([[0.0], [0.1], [0.15], [-0.1], [0.2], [5.0]])
    sites = ["a", "a", "a", "a", "b", "b"]
    # Greedily 0.1 takes 0.15 either way; 0.0 then takes -0.1. The subject at 5.0 has no partner within the caliper.
    assert match_pairs(positive, numbers, sites, 0.2).tolist() == [[0, 3], [1, 2]]
    assert match_pairs(positive, numbers, sites, 0.05).tolist() == [[1, 2]]
    assert match_pairs(positive, numbers[:, :0], sites, 0.2).shape == (3, 2)
    assert match_pairs(positive, numbers, [*"aab", *"bcd"], 0.2).shape == (0, 2)


def test_weights_are_bounded_where_columns_separate_the_classes():
    positive = np.arange(40) >= 20
    weights = inverse_probability_weights(positive, np.where(positive, 1.0, -1.0)[:, None])
    assert weights.max() <= 0.5 / 0.05
    assert np.isfinite(weights).all()


def test_each_of_several_classes_is_scored_against_the_others():
    predictions, rows = people(1.0, count=90)
    logits = np.column_stack([predictions.logits, predictions.logits.mean(axis=1)])
    targets = [("CN", "AD", "MCI")[number % 3] for number in range(90)]
    samples = predictions.table["sample"].tolist()
    three = Predictions.from_logits(
        samples, logits, classes=("CN", "AD", "MCI"), split_unit="subject", subjects=samples, targets=targets
    )
    assert [one.positive for one in scored(three, rows, resamples=20).classes] == ["CN", "AD", "MCI"]


def test_images_of_a_subject_and_its_visits_count_once():
    predictions, rows = people(1.0, count=60)
    twice = pd.concat([predictions.table, predictions.table.assign(sample=predictions.table["sample"] + "b")])
    images = Predictions.from_table(twice, classes=predictions.classes, split_unit="subject")
    both = pd.concat([rows, rows.assign(sample=rows["sample"] + "b")])
    found, expected = scored(images, both, resamples=20), scored(predictions, rows, resamples=20)
    assert (found.unit, found.count) == ("subject", 60)
    assert found.classes[0].p_value == expected.classes[0].p_value
    visits = repeated_visits(predictions, np.full(60, 3))
    of_visits = pd.DataFrame({"sample": visits.table["sample"], "age": np.repeat(rows["age"].to_numpy(), 3)})
    seen = scored(visits, of_visits, columns=("age",), resamples=20)
    assert seen.count == 60
    assert "first" in seen.notes[0]


def test_missing_cells_and_columns_are_reported():
    predictions, rows = people(1.0, count=60)
    rows.loc[:9, "age"] = np.nan
    found = scored(predictions, rows, resamples=0)
    assert (found.count, found.left_out) == (50, 10)
    assert "10 subjects left out" in found.text()
    assert "without resamples" in found.text()
    with pytest.raises(ConfigError, match=r"no column 'agee'. Did you mean 'age'"):
        scored(predictions, rows, columns=("agee",))
    with pytest.raises(ConfigError, match="at least one column"):
        scored(predictions, rows, columns=())
    rows["age"] = None
    with pytest.raises(DataError, match="0 have a value in all of age"):
        scored(predictions, rows, columns=("age",))


def test_classes_without_alike_people_are_not_scored():
    predictions, rows = people(1.0, count=60)
    rows["site"] = predictions.table["target"].to_numpy()
    (one,) = scored(predictions, rows, columns=("site",), resamples=20).classes
    assert (one.matched, one.p_value, one.permuted) == (None, None, 0)
    text = scored(predictions, rows, columns=("site",), resamples=20).text()
    assert "no two subjects of different classes are alike in site" in text
    assert "weighted subjects of the two classes still differ in site" in text
