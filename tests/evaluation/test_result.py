"""The result of an evaluation: its texts, and its file."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from gyrus.errors import DataError
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.metrics import CLASS_METRICS, METRICS
from gyrus.evaluation.result import Evaluation, limitations, percent, verdict
from gyrus.types import SPLIT_WARNINGS
from tests.support.predictions import study


@pytest.mark.parametrize("unit", SPLIT_WARNINGS)
def test_the_warning_of_the_split_comes_first(unit: str, tmp_path) -> None:
    evaluation = evaluate(study(split_unit=unit), resamples=10)
    words = SPLIT_WARNINGS[unit]
    assert evaluation.warning == words
    assert ("WARNING" in evaluation.text()) == bool(words)
    assert evaluation.text().splitlines()[1] == (f"WARNING: {words}" if words else "")
    evaluation.save(tmp_path / "metrics.json")
    assert json.loads((tmp_path / "metrics.json").read_text())["warning"] == words
    assert not words or limitations(evaluation)[0].lower().startswith(words)


@pytest.mark.parametrize(
    ("skill", "words"),
    [(4.0, "Better than always"), (0.3, "Not better than always"), (-4.0, "do not use it as it is")],
)
def test_the_verdict_compares_with_the_majority_class(skill: float, words: str) -> None:
    text = " ".join(verdict(evaluate(study((25, 15, 15, 15), skill=skill), resamples=300)))
    assert "always predicting the majority class 'Non' (accuracy 0.36) on these 70 subjects" in text
    assert words in text


def test_a_file_of_another_schema_is_refused(tmp_path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('{"schema": "gyrus.metrics/99"}')
    with pytest.raises(DataError, match=r"gyrus\.metrics/99"):
        Evaluation.load(path)
    path.write_text('{"schema": "gyrus.metrics/1", "classes": 3}')
    with pytest.raises(DataError, match="damaged"):
        Evaluation.load(path)


def test_the_file_has_what_the_schema_says(tmp_path) -> None:
    evaluation = evaluate(study(), resamples=10)
    evaluation.save(tmp_path / "metrics.json")
    content = json.loads((tmp_path / "metrics.json").read_text())
    assert set(content) == {"schema", "warning", *asdict(evaluation)}
    scores = content["scores"]["subject"]
    assert set(scores["metrics"]) == set(METRICS)
    assert set(scores["by_class"]["Mild"]) == set(CLASS_METRICS)
    assert set(scores["metrics"]["accuracy"]) == {"value", "low", "high", "note", "method"}


def test_the_verdict_comes_first_and_is_blunt() -> None:
    lines = evaluate(study(), resamples=100).text().splitlines()
    assert (
        lines[2] == "Not better than always predicting the majority class 'Non' (accuracy 0.48) on these 42 subjects."
    )
    assert lines[3].startswith("Accuracy on 42 unseen subjects: 50 % (95 % CI ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"subset": "train"}, "Accuracy on 42 subjects of the training set: "),
        ({"subset": "val"}, "Accuracy on 42 subjects of the validation set, which selected the weights: "),
        ({"split_unit": "image"}, "Accuracy on 42 subjects that may also be in the training set: "),
        ({"split_unit": "scan"}, "Accuracy on 42 scans of subjects that may also be in the training set: "),
        ({"subjects": None}, "Accuracy on 210 images of unseen subjects: "),
    ],
)
def test_the_verdict_names_what_the_classifier_had_seen(changes: dict, words: str) -> None:
    assert words in " ".join(verdict(evaluate(study(**changes), resamples=10)))


@pytest.mark.parametrize(
    ("changes", "named"), [({}, True), ({"subset": "out-of-fold"}, False), ({"subjects": None}, False)]
)
def test_few_test_subjects_name_the_way_to_more(changes: dict, named: bool) -> None:
    found = limitations(evaluate(study((3, 3, 3), slices=2, **changes), resamples=10))
    assert any("gyrus crossval" in sentence for sentence in found) == named


def test_files_written_before_version_0_2_are_read(tmp_path) -> None:
    evaluation = evaluate(study(), resamples=10)
    document = evaluation.to_document()
    document["statement"], document["part"] = document.pop("warning"), document.pop("subset")
    for scores in document["scores"].values():
        scores["majority_share"] = scores.pop("majority_fraction")
    (tmp_path / "metrics.json").write_text(json.dumps(document))
    assert Evaluation.load(tmp_path / "metrics.json") == evaluation


def test_per_cent_is_never_rounded_to_none_or_all() -> None:
    assert [percent(value) for value in (0, 0.001, 0.5, 0.999, 1)] == ["0 %", "<1 %", "50 %", ">99 %", "100 %"]
