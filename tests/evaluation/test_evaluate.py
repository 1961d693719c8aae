"""Evaluation of predictions: against scikit-learn, what must not change it, its notes, and the baselines."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics

from gyrus.errors import ConfigError, DataError, LeakageError, UnknownNameError
from gyrus.evaluation.assessment import assess
from gyrus.evaluation.calibrators import fit_calibrator
from gyrus.evaluation.comparison import compare
from gyrus.evaluation.evaluate import evaluate, evaluate_baselines
from gyrus.evaluation.metrics import HEADLINE_METRICS, METRICS
from gyrus.evaluation.result import Baselines, Evaluation, verdict
from gyrus.inference.pooling import pool_by_subject
from gyrus.inference.predictions import Predictions
from tests.support.predictions import CLASSES, PEOPLE, as_predictions, study


def test_both_units_are_scored_as_scikit_learn_scores_them() -> None:
    predictions = study()
    evaluation = evaluate(predictions, resamples=20)
    assert list(evaluation.scores) == ["subject", "image"]
    for unit, rows in (("subject", pool_by_subject(predictions)), ("image", predictions)):
        scores = evaluation.scores[unit]
        truth, called = rows.table["target"].tolist(), rows.predicted_classes.tolist()
        report = sklearn_metrics.classification_report(truth, called, output_dict=True, zero_division=0)
        assert scores.metrics["accuracy"].value == pytest.approx(report["accuracy"], abs=1e-12)
        for name in CLASSES:
            for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
                assert scores.by_class[name][ours].value == pytest.approx(report[name][theirs], abs=1e-12)
        auc = sklearn_metrics.roc_auc_score(rows.targets, rows.probabilities, multi_class="ovr")
        assert scores.metrics["macro_roc_auc"].value == pytest.approx(auc, abs=1e-12)
        confusion = sklearn_metrics.confusion_matrix(truth, called, labels=CLASSES)
        np.testing.assert_array_equal(scores.confusion, confusion)
    assert evaluation.scores["subject"].class_counts == dict(zip(CLASSES, PEOPLE, strict=True))
    assert evaluation.scores["subject"].majority_fraction == 20 / 42
    assert evaluation.headline.unit == "subject"


def test_the_order_of_the_rows_changes_nothing() -> None:
    predictions = study()
    order = np.random.default_rng(1).permutation(len(predictions))
    assert evaluate(predictions.select(order), resamples=50) == evaluate(predictions, resamples=50)


def test_slices_that_are_there_twice_change_no_score_of_a_subject() -> None:
    predictions = study()
    twice = pd.concat([predictions.table, predictions.table.assign(sample=predictions.table["sample"] + " again")])
    doubled = Predictions.from_table(twice, classes=CLASSES, split_unit="subject")
    one, two = evaluate(predictions, resamples=200), evaluate(doubled, resamples=200)
    for name in METRICS:
        for unit in ("subject", "image"):  # images too: not more certain for having been counted twice
            first, second = one.scores[unit].metrics[name], two.scores[unit].metrics[name]
            assert (second.value, second.low, second.high) == pytest.approx((first.value, first.low, first.high))


def test_the_interval_holds_the_score_and_is_decided_by_the_seed() -> None:
    predictions = study((30, 30, 30, 30))
    first, again, other = (evaluate(predictions, resamples=300, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first.scores["subject"].metrics != other.scores["subject"].metrics
    for scores in first.scores.values():
        for estimate in scores.metrics.values():
            assert estimate.low < estimate.value < estimate.high
    narrow = evaluate(predictions, resamples=300, level=0.5).headline.metrics["accuracy"]
    assert first.headline.metrics["accuracy"].low < narrow.low < narrow.high < first.headline.metrics["accuracy"].high


def test_by_image_the_interval_resamples_subjects_or_a_note_says_otherwise() -> None:
    predictions = study((20, 20, 20, 20), slices=20)
    known = evaluate(predictions, resamples=300)
    unknown = evaluate(
        Predictions.from_table(predictions.table.drop(columns="subject"), classes=CLASSES, split_unit="image"),
        resamples=300,
    )
    assert list(unknown.scores) == ["image"]
    assert unknown.group == "image"
    assert "resample images: they are too narrow" in unknown.text()
    clustered, naive = known.scores["image"].metrics["accuracy"], unknown.scores["image"].metrics["accuracy"]
    assert clustered.value == naive.value
    assert clustered.high - clustered.low > 2 * (naive.high - naive.low)


@pytest.mark.parametrize(
    ("people", "words"),
    [
        (
            (20, 10, 6, 1),
            "averages over the classes, class 'Moderate' (Precision, F1, ROC AUC, PR AUC): resampled within",
        ),
        ((20, 10, 6, 2), "Few subjects per class ('Mild' 6, 'Moderate' 2): scores of these are unreliable."),
        ((20, 10, 6, 0), "No subject of class 'Moderate': it could not be evaluated."),
        ((20, 0, 0, 0), "all are of class 'Non'"),
        ((1, 0, 0, 0), "Only 1 subject"),
    ],
)
def test_too_few_subjects_get_notes_not_nan(people: tuple[int, ...], words: str, tmp_path) -> None:
    evaluation = evaluate(study(people), resamples=200)
    text = evaluation.text()
    assert words in text
    assert "nan" not in text.lower()
    evaluation.save(tmp_path / "metrics.json")
    assert Evaluation.load(tmp_path / "metrics.json") == evaluation
    for scores in evaluation.scores.values():
        estimates = [*scores.metrics.values(), *(one for each in scores.by_class.values() for one in each.values())]
        assert all(estimate.note for estimate in estimates if estimate.value is None or estimate.low is None)


def test_an_absent_class_is_left_out_of_the_averages_with_a_note() -> None:
    scores = evaluate(study((20, 10, 6, 0)), resamples=100).headline
    assert scores.by_class["Moderate"]["roc_auc"].value is None
    areas = [scores.by_class[name]["roc_auc"].value for name in CLASSES[:3]]
    assert scores.metrics["macro_roc_auc"].value == pytest.approx(np.mean(areas))
    assert "averaged without 'Moderate': no subjects" in scores.metrics["macro_roc_auc"].note
    assert not scores.metrics["accuracy"].note


def test_scans_are_not_called_subjects() -> None:
    evaluation = evaluate(study(split_unit="scan"), resamples=10)
    assert evaluation.group == "scan"
    assert "By scan (42 scans)" in evaluation.text()


def test_rows_without_a_class_are_left_out_and_counted() -> None:
    predictions = study()
    table = predictions.table.copy()
    table.loc[:4, "target"] = pd.NA
    evaluation = evaluate(Predictions.from_table(table, classes=CLASSES, split_unit="subject"), resamples=10)
    assert evaluation.unlabelled == 5
    assert evaluation.scores["image"].count == len(predictions) - 5
    assert "5 images of unknown class were left out" in evaluation.text()


def test_a_classifier_that_does_not_depend_on_the_image_is_called_collapsed() -> None:
    alive, dead = as_predictions(np.eye(4), np.arange(4)), as_predictions(np.ones((4, 4)), np.arange(4))
    assert not [note for note in evaluate(alive, resamples=0).notes if "collapsed" in note]
    [note] = [note for note in evaluate(dead, resamples=0).notes if "collapsed" in note]
    assert "All 4 images have the same predicted probabilities" in note


def test_what_cannot_be_evaluated_is_refused() -> None:
    with pytest.raises(DataError, match="nothing to evaluate"):
        evaluate(study(targets=None))
    with pytest.raises(DataError, match="more than one class"):
        evaluate(study(subjects=["p"] * 210))
    with pytest.raises(ConfigError, match="level"):
        evaluate(study(), level=95)
    with pytest.raises(ConfigError, match="resamples"):
        evaluate(study(), resamples=-1)


def test_without_resamples_there_are_scores_and_notes() -> None:
    evaluation = evaluate(study(), resamples=0)
    assert "No confidence intervals: no resamples were requested." in evaluation.text()
    assert evaluation.headline.metrics["macro_f1"].note == "no interval: no resamples were requested"


def test_bca_moves_the_interval_and_is_named(tmp_path: Path) -> None:
    percentile, bca = (evaluate(study(skill=2.5), resamples=300, interval=kind) for kind in ("percentile", "bca"))
    one, other = (each.headline.metrics["accuracy"] for each in (percentile, bca))
    assert one.value == other.value
    assert (one.low, one.high) != (other.low, other.high)
    assert "bias-corrected and accelerated" in bca.text()
    bca.save(tmp_path / "metrics.json")
    assert Evaluation.load(tmp_path / "metrics.json") == bca


def test_a_kind_of_interval_that_is_not_known_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="percentile, bca"):
        evaluate(study(), interval="wald")


def classifiers() -> tuple[Predictions, Predictions]:
    """A strong and a weak classifier of the same 40 subjects."""
    strong, weak = (
        study((20, 20), classes=("A", "B"), skill=skill, seed=seed) for seed, skill in ((0, 8.0), (1, -1.0))
    )
    return strong, weak


def test_a_strong_classifier_beats_a_weak_baseline() -> None:
    strong, weak = classifiers()
    found = evaluate_baselines(strong, {"linear-svm": ("", weak)}, unit="subject", resamples=300)
    sentence, *_ = verdict(evaluate(strong, resamples=300), found)
    assert sentence.startswith("Better than always predicting the majority class 'A' (accuracy 0.50) and linear SVM")
    assert sentence.endswith("on these 40 subjects.")
    gain = found.results["linear-svm"].gains["accuracy"]
    assert gain.low is not None
    assert gain.low > 0
    assert set(found.results["linear-svm"].scores) == set(HEADLINE_METRICS)


def test_the_verdict_starts_with_the_baselines_that_are_better() -> None:
    strong, weak = classifiers()
    found = evaluate_baselines(weak, {"linear-svm": ("", strong)}, unit="subject", resamples=300)
    sentences = verdict(evaluate(weak, resamples=300), found)
    assert sentences[0].startswith("Worse than")
    assert "linear SVM on raw pixels (accuracy 1.00)" in sentences[0]


def test_a_baseline_that_is_not_beaten_is_named() -> None:
    _, weak = classifiers()
    found = evaluate_baselines(weak, {"nearest-neighbour": ("", weak)}, unit="subject", resamples=100)
    assert "nearest neighbour on raw pixels" in " ".join(
        sentence for sentence in verdict(evaluate(weak, resamples=100), found) if "Not better than" in sentence
    )


def test_saved_baselines_load_again(tmp_path) -> None:
    found = evaluate_baselines(study(), {"linear-svm": ("about", study(seed=1))}, unit="subject", resamples=30)
    found.save(tmp_path / "baselines.json")
    assert Baselines.load(tmp_path / "baselines.json") == found
    document = found.to_document()
    document.pop("schema")  # files written before version 0.2 have none
    (tmp_path / "baselines.json").write_text(json.dumps(document))
    assert Baselines.load(tmp_path / "baselines.json") == found


@pytest.mark.parametrize("people", [(4, 4), (20, 10, 6, 1), (1, 1)])
def test_a_perfect_score_has_an_interval_and_the_text_names_its_kind(people: tuple[int, ...]) -> None:
    evaluation = evaluate(study(people, classes=CLASSES[: len(people)], skill=50), resamples=50)
    for scores in evaluation.scores.values():
        estimates = [*scores.metrics.values(), *(one for each in scores.by_class.values() for one in each.values())]
        for each in estimates:
            assert each.low is not None
            assert each.method != "bootstrap" or each is scores.metrics["accuracy_gain"]
            assert 0 <= each.low < each.value == each.high == 1 or each is scores.metrics["accuracy_gain"]
        number = sum(people)
        assert scores.metrics["accuracy"].low == pytest.approx(0.025 ** (1 / number))
        assert scores.metrics["accuracy"].method == "exact"
        assert scores.metrics["macro_roc_auc"].method == "bound"
    text = evaluation.text()
    assert "Accuracy" in text.split("exact interval of Clopper and Pearson, because the fraction is 0 or 1")[0]
    assert "conservative bound" in text
    if people == (4, 4):
        assert "Accuracy on 8 unseen subjects: 100 % (95 % CI 63 % to 100 %)." in text


def test_a_perfect_precision_is_uncertain_although_some_resamples_lack_a_prediction_of_the_class() -> None:
    targets = np.repeat([0, 1], [6, 18])
    predicted = np.where(np.arange(24) == 0, 1, targets)  # the first class is predicted 5 times, always rightly
    evaluation = evaluate(as_predictions(np.eye(2)[predicted], targets), resamples=300)
    precision = evaluation.headline.by_class["class 0"]["precision"]
    assert (precision.value, precision.high, precision.method) == (1, 1, "exact")
    assert precision.low == pytest.approx(0.025 ** (1 / 5))


def test_a_classifier_that_always_answers_the_majority_is_not_better_than_it() -> None:
    logits = np.tile([1.0, 0.0], (30, 1))
    predictions = as_predictions(logits, np.repeat([0, 1], [20, 10]))
    metrics = evaluate(predictions, resamples=50).headline.metrics
    assert metrics["accuracy_gain"].value == 0
    assert metrics["accuracy_gain"].high == pytest.approx(1 - 0.025 ** (1 / 30))
    assert metrics["balanced_accuracy"].low == pytest.approx(0.025 ** (1 / 20) / 2)
    assert metrics["balanced_accuracy"].high == pytest.approx((1 + 1 - 0.025 ** (1 / 10)) / 2)
    assert verdict(evaluate(predictions, resamples=50))[0].startswith("Not better than always predicting")


def test_a_class_of_one_subject_gets_wide_intervals_by_resampling_within_the_classes() -> None:
    predictions = study((20, 10, 6, 1))
    for scores in evaluate(predictions, resamples=300).scores.values():
        macro = scores.metrics["macro_roc_auc"]
        assert macro.method == "stratified"
        assert macro.low < macro.value < macro.high
        assert macro.high - macro.low > 0.25, "the class of one subject may have any score"
        assert "class 'Moderate' has 1 subject" in macro.note
        assert scores.metrics["accuracy"].method == "bootstrap"
    two = evaluate(study((20, 10, 6, 3)), resamples=300).headline.metrics["macro_roc_auc"]
    assert two.method == "bootstrap"


def _visits(*, by_subject: bool, shift: float = 0.0) -> Predictions:
    """24 subjects with 5 visits of two images each, all predicted alike; the last visits of two subjects are AD."""
    rows = [(subject, visit, image) for subject in range(24) for visit in range(5) for image in range(2)]
    names = [f"s{subject:02d}" for subject, _, _ in rows]
    targets = ["AD" if subject % 2 or (subject < 4 and visit == 4) else "NC" for subject, visit, _ in rows]
    margins = np.random.default_rng(3).normal(0.8, 1.5, 24) + shift * np.random.default_rng(4).normal(0.8, 1, 24)
    logits = [[margins[subject] * (1 if subject % 2 else -1), 0.0] for subject, _, _ in rows]
    return Predictions.from_logits(
        [f"{subject}/{visit}/{image}.png" for subject, visit, image in rows],
        logits,
        classes=("AD", "NC"),
        split_unit="subject",
        subjects=[f"{name}, visit {visit}" for name, (_, visit, _) in zip(names, rows, strict=True)],
        targets=targets,
        subjects_of_visits=names if by_subject else None,
    )


def test_visits_with_labels_of_their_own_are_resampled_by_subject(tmp_path: Path) -> None:
    visits, naive = _visits(by_subject=True), _visits(by_subject=False)
    found, too_narrow = evaluate(visits, resamples=400), evaluate(naive, resamples=400)

    assert found.group == "visit"
    assert found.headline.count == 120
    assert "resamples of subjects, each with all its visits" in found.text()
    for unit, least in (("subject", 1.7), ("image", 1.7)):
        for name in ("accuracy", "balanced_accuracy", "macro_roc_auc"):
            ours, theirs = (each.scores[unit].metrics[name] for each in (found, too_narrow))
            assert ours.value == pytest.approx(theirs.value)
            # Five visits that are predicted alike are one observation: the interval is wider by the root of five.
            assert (ours.high - ours.low) > least * (theirs.high - theirs.low), name

    better = [_visits(by_subject=by_subject, shift=1.0) for by_subject in (True, False)]
    ours, theirs = (
        compare(one, other, metric="accuracy", resamples=400)
        for one, other in zip(better, (visits, naive), strict=True)
    )
    assert ours.p_value > 2 * theirs.p_value

    visits.export(tmp_path / "visits.csv")
    again = Predictions.from_file(tmp_path / "visits.csv", split_unit="subject")
    assert evaluate(again, resamples=400).headline == found.headline


def test_a_subject_with_visits_in_two_subsets_is_found(tmp_path: Path) -> None:
    visits = _visits(by_subject=True)
    val, test = (visits.select(visits.table["subject"].str.endswith(tuple(ends))) for ends in ("01", "234"))
    val.save(tmp_path / "val.parquet")
    with pytest.raises(LeakageError, match="24 subjects are in the validation and in the test set"):
        assess(replace(Predictions.load(tmp_path / "val.parquet"), subset="val"), test)

    early = visits.table["subject_of_visit"] < "s12"
    result = assess(replace(visits.select(early), subset="val"), visits.select(~early), healthy="NC", resamples=50)
    assert "evaluated on 60 visits of the test set" in result.text()
    assert "The choices rest on 12 subjects of the validation set" in result.text()
    assert "target coverage of 90 % for one visit of a new subject, drawn at random: coverage" in result.text()


def test_one_subject_with_visits_of_two_classes_can_be_ranked_without_an_error() -> None:
    visits = _visits(by_subject=True)
    one = visits.select(visits.table["subject_of_visit"] == "s00")
    known = one.table["target"] == "AD"
    right = replace(one, table=one.table.assign(**{"logit:AD": np.where(known, 1.0, -1.0)}))
    scores = evaluate(right, resamples=50).headline.metrics
    assert [scores[name].value for name in ("macro_roc_auc", "macro_pr_auc", "accuracy")] == [1.0, 1.0, 1.0]
    assert scores["macro_roc_auc"].low == pytest.approx(0.025)  # one subject, one independent pair


def test_several_visits_of_one_subject_are_no_two_subjects_of_a_class() -> None:
    visits = _visits(by_subject=True)
    one_healthy = visits.table["subject_of_visit"].isin(["s01", "s03", "s04"])
    with pytest.raises(DataError, match="has 1 of 'NC'; calibration needs at least 2 subjects of each class"):
        fit_calibrator(replace(visits.select(one_healthy), subset="val"))
