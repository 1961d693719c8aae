"""Subgroups."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from gyrus.errors import ConfigError, UnknownNameError
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.subgroups import Subgroups, evaluate_subgroups
from gyrus.inference.predictions import Predictions
from tests.support.predictions import study

TWO = ("a", "b")
FAST = BootstrapConfig(resamples=99)


def people(**changes: object) -> tuple[Predictions, pd.DataFrame]:
    """40 people of 5 slices; of every other one the sex is F; age rises with the number of the person."""
    predictions = study((20, 20), classes=TWO, **changes)
    person = np.repeat(np.arange(40), 5)
    groups = pd.DataFrame(
        {
            "sex": np.where(person % 2, "M", "F"),
            "age": 50.0 + person,
            "site": np.where(person < 3, 2, 1),
            "slice": np.tile(np.arange(5), 40),
        },
        index=pd.Index(predictions.table["sample"], name="sample"),
    )
    return predictions, groups


def test_scores_of_a_group_are_those_of_its_rows_alone() -> None:
    predictions, groups = people()
    (sex,) = evaluate_subgroups(predictions, groups, columns=["sex"], bootstrap=FAST)
    assert [group.name for group in sex.groups] == ["F", "M"]
    for group in sex.groups:
        rows = predictions.select((groups["sex"] == group.name).to_numpy())
        assert group.metrics["accuracy"] == evaluate(rows, resamples=99).headline.metrics["accuracy"]
        assert (group.count, group.images) == (20, 100)
    assert sex.unit == "subject"


def test_the_order_of_rows_and_further_samples_change_nothing() -> None:
    predictions, groups = people()
    stranger = pd.DataFrame({"sex": ["X"], "age": [1.0], "site": [1], "slice": [0]}, index=["nobody"])
    mixed = pd.concat([stranger, groups.sample(frac=1, random_state=0)])
    order = np.random.default_rng(0).permutation(len(predictions))
    assert evaluate_subgroups(
        predictions.select(order), mixed, columns=["sex", "site"], bootstrap=FAST
    ) == evaluate_subgroups(predictions, groups, columns=["sex", "site"], bootstrap=FAST)


def test_numbers_are_divided_into_bands_of_equal_size_or_at_given_edges() -> None:
    predictions, groups = people()
    (age,) = evaluate_subgroups(predictions, groups, columns=["age"], bootstrap=FAST)
    assert [group.count for group in age.groups] == [13, 13, 14]
    assert age.groups[0].name.startswith("50 to 63")
    (cut,) = evaluate_subgroups(predictions, groups, columns=["age"], edges={"age": [50, 60, 80]}, bootstrap=FAST)
    assert {group.name: group.count for group in cut.groups} == {"50 to 60": 10, "60 to 80": 21}
    assert cut.unknown == 9 * 5
    (site,) = evaluate_subgroups(predictions, groups, columns=["site"], bootstrap=FAST)
    assert [group.name for group in site.groups] == ["1", "2"]


def test_what_varies_within_a_subject_is_scored_by_image_and_not_tested() -> None:
    predictions, groups = people()
    (slices,) = evaluate_subgroups(predictions, groups, columns=["slice"], bootstrap=FAST)
    assert slices.unit == "image"
    assert [group.count for group in slices.groups] == [40] * 5
    assert slices.p_value is None
    assert "same subjects are in several" in slices.text()


def test_small_groups_and_unknown_values_are_reported() -> None:
    predictions, groups = people()
    groups.loc[groups["age"] >= 85, "site"] = np.nan
    (site,) = evaluate_subgroups(predictions, groups, columns=["site"], bootstrap=FAST)
    assert site.unknown == 25
    assert site.smallest.count == 3
    assert "the smallest '2' with 3, too few for reliable scores" in site.text()
    (empty,) = evaluate_subgroups(predictions, groups.assign(site=np.nan), columns=["site"], bootstrap=FAST)
    assert empty.text() == "site: no image has a value."


def test_a_group_with_low_accuracy_is_found_and_chance_seldom_is() -> None:
    alarms = 0
    for seed in range(20):
        predictions, groups = people(seed=seed, skill=1.5)
        alarms += (
            evaluate_subgroups(predictions, groups, columns=["sex"], metrics=[], bootstrap=FAST)[0].p_value <= 0.05
        )
    assert alarms <= 4  # of 20 at 5 %: more has a chance of 0.3 %
    predictions, groups = people(skill=8.0)
    table = predictions.table.copy()
    male = (groups["sex"] == "M").to_numpy()
    table.loc[male, ["logit:a", "logit:b"]] = table.loc[male, ["logit:b", "logit:a"]].to_numpy()
    failed = Predictions.from_table(table, classes=TWO, split_unit="subject")
    (sex,) = evaluate_subgroups(failed, groups, columns=["sex"], bootstrap=FAST)
    assert sex.p_value == 0.01
    assert "differs between the groups by more than chance" in sex.text()


def test_different_class_fractions_alone_are_no_difference() -> None:
    """The classifier misses most of class b; group F has few of them, and so a better accuracy."""
    predictions = study((100, 100), classes=TWO, slices=1, skill=0.0)
    table = predictions.table.copy()
    table["logit:a"] += 1.5
    tilted = Predictions.from_table(table, classes=TWO, split_unit="subject")
    share = np.where(tilted.targets == 0, 0.8, 0.2)
    sex = np.where(np.random.default_rng(0).random(200) < share, "F", "M")
    (found,) = evaluate_subgroups(tilted, pd.DataFrame({"sex": sex}, index=table["sample"]), bootstrap=FAST)
    values = [group.metrics["accuracy"].value for group in found.groups]
    assert values[0] > values[1] + 0.15
    assert found.p_value > 0.05


def test_p_values_are_corrected_for_the_number_of_columns() -> None:
    predictions, groups = people()
    (alone,) = evaluate_subgroups(predictions, groups, columns=["sex"], bootstrap=FAST)
    several = evaluate_subgroups(predictions, groups.assign(again=groups["sex"], third=groups["sex"]), bootstrap=FAST)
    assert next(one for one in several if one.column == "sex").p_value >= min(1.0, 3 * alone.p_value)


def test_where_subjects_are_unknown_images_are_evaluated() -> None:
    predictions, groups = people(subjects=None, split_unit="image")
    (sex,) = evaluate_subgroups(predictions, groups, columns=["sex"], bootstrap=FAST)
    assert [group.count for group in sex.groups] == [100, 100]
    assert sex.p_value is not None


def test_wrong_tables_are_refused() -> None:
    predictions, groups = people()
    with pytest.raises(UnknownNameError, match="sex"):
        evaluate_subgroups(predictions, groups, columns=["sexe"])
    with pytest.raises(ConfigError, match="more than once"):
        evaluate_subgroups(predictions, pd.concat([groups, groups]))
    with pytest.raises(ConfigError, match="ascending order"):
        evaluate_subgroups(predictions, groups, columns=["age"], edges={"age": [60, 50]})
    with pytest.raises(UnknownNameError, match="metric"):
        evaluate_subgroups(predictions, groups, metrics=["f1"])


def test_tables_are_saved_and_those_of_older_files_are_read(tmp_path) -> None:
    predictions, groups = people()
    found = Subgroups(evaluate_subgroups(predictions, groups, columns=["sex"], bootstrap=FAST))
    found.save(tmp_path / "subgroups.json")
    assert Subgroups.load(tmp_path / "subgroups.json") == found
    document = found.to_document()
    document["groupings"] = document.pop("tables")
    for table in document["groupings"]:
        table["of"] = table.pop("unit")
    (tmp_path / "subgroups.json").write_text(json.dumps(document))
    assert Subgroups.load(tmp_path / "subgroups.json") == found
