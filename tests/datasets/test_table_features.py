from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from gyrus.datasets.combat import ComBat
from gyrus.datasets.table_features import HarmoniseConfig, TableEncoder, find_column, first_of_each
from gyrus.errors import ConfigError, DataError

PEOPLE = pd.DataFrame(
    {
        "age": [60.0, 70.0, None, 80.0],
        "sex": ["F", "M", "F", None],
        "site": [1, 2, 3, 1],
        "dose": ["1.5", "2", "n/a", "4"],
        "ward": ["a", "b", "a", "c"],
    }
)


def test_numbers_are_as_in_a_pipeline_of_scikit_learn():
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    encoder = TableEncoder.fit(PEOPLE, {"age": "auto", "dose": "auto"})
    numbers = PEOPLE[["age", "dose"]].apply(pd.to_numeric, errors="coerce")
    expected = make_pipeline(SimpleImputer(), StandardScaler()).fit_transform(numbers)
    np.testing.assert_allclose(encoder.encode(PEOPLE), expected, atol=1e-12)


def test_categories_become_indicators_around_their_fractions():
    encoder = TableEncoder.fit(PEOPLE, {"sex": "auto", "site": "auto"})
    assert encoder.names == ("sex=M", "site=1", "site=2", "site=3")
    features = encoder.encode(PEOPLE)
    np.testing.assert_allclose(features[:, 0], [-1 / 3, 2 / 3, -1 / 3, 0])  # a missing cell is the mean
    np.testing.assert_allclose(features[0, 1:], [1 - 0.5, -0.25, -0.25])
    assert encoder.text == "sex (category: F, M), site (category: 1, 2, 3)"
    assert encoder.missing(PEOPLE) == {"sex": 1}


def test_the_kind_can_be_stated_and_spellings_do_not_matter():
    encoder = TableEncoder.fit(PEOPLE, {"Site": "number", "SEX": "category"})
    assert encoder.names == ("site", "sex=M")
    new = pd.DataFrame({"SITE": ["2.0"], "Sex": ["m"]})
    assert encoder.encode(new)[0, 1] == pytest.approx(2 / 3)


def test_saved_and_loaded_it_is_the_same(tmp_path):
    encoder = TableEncoder.fit(PEOPLE, dict.fromkeys(PEOPLE.columns, "auto"))
    encoder.save(tmp_path / "table.json")
    assert TableEncoder.load(tmp_path / "table.json") == encoder


SCANS = pd.DataFrame(
    {
        "site": ["a", "A ", "a", "a", "b", "b", "b", "b"],
        "ward": ["x", "y", "z", "x", "x", "y", "z", "z"],
        "age": [50, 60, 70, None, 55, 65, 75, 80],
        "cortex": [3.0, 2.5, 2.2, 2.9, 5.0, 4.1, 3.5, 3.9],
        "ventricles": [1.0, 1.4, None, 1.1, 2.0, 2.7, 3.3, 3.2],
    }
)
VOLUMES = HarmoniseConfig(columns=("cortex", "Ventricles"), keep=("age",))


def test_columns_are_harmonised_before_they_are_standardised(tmp_path):
    encoder = TableEncoder.fit(SCANS, {"cortex": "auto", "ventricles": "auto"}, VOLUMES)
    whole = SCANS.dropna(subset="ventricles")
    values, sites = whole[["cortex", "ventricles"]].to_numpy(), whole["site"].tolist()
    age = whole["age"].fillna(SCANS["age"].mean()).to_numpy()
    combat = ComBat.fit(values, sites, age)
    features = encoder.encode(SCANS)
    assert features[2, 1] == 0  # a missing cell is the mean of the training subjects
    harmonised = combat.apply(values, sites, age)
    np.testing.assert_allclose(
        np.delete(features[:, 1], 2) * encoder.columns[1].scale + encoder.columns[1].mean[0], harmonised[:, 1]
    )
    np.testing.assert_allclose(features.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(encoder.encode(SCANS[3:5]), features[3:5])
    encoder.save(tmp_path / "table.json")
    assert TableEncoder.load(tmp_path / "table.json") == encoder
    assert encoder.text.endswith("harmonised: cortex, ventricles by site, keeping age")


def test_a_kept_column_of_several_categories_can_be_fitted():
    table = pd.concat([SCANS] * 3, ignore_index=True)
    table["cortex"] += np.arange(24) % 5 / 10
    kept = HarmoniseConfig(columns=("cortex",), keep=("ward",))
    encoder = TableEncoder.fit(table, {"cortex": "number"}, kept)
    assert encoder.harmonisation.combat.covariates == ("ward=y", "ward=z")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"site": "c"}, "of a site without training subjects, first: 'c'"),
        ({"site": None}, "'site' is empty in 8 rows, first: 0"),
        ({"cortex": "thick"}, "'cortex' must hold numbers"),
        ({}, "needs the column 'site', which the table lacks"),
    ],
)
def test_rows_that_cannot_be_harmonised_are_refused(change, words):
    encoder = TableEncoder.fit(SCANS, {"cortex": "auto"}, HarmoniseConfig(columns=("cortex",)))
    table = SCANS.astype(object).assign(**change) if change else SCANS.drop(columns="site")
    with pytest.raises(DataError, match=words):
        encoder.encode(table)


def test_a_column_has_one_role_in_a_harmonisation():
    with pytest.raises(ValueError, match="'age' is named twice"):
        HarmoniseConfig(columns=("Age", "cortex"), keep=("age",))


def test_it_depends_on_no_row_but_those_that_it_was_fitted_on():
    encoder = TableEncoder.fit(PEOPLE[:2], {"age": "auto", "ward": "auto"})
    assert encoder.encode(pd.DataFrame({"age": [None], "ward": [None]})).tolist() == [[0, 0]]
    outlier = encoder.encode(pd.DataFrame({"age": [65, 1000], "ward": ["a", "c"]}), unknown="missing")
    assert outlier[0, 0] == 0
    assert outlier[1, 1] == 0


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ({"age": ["old"], "sex": ["F"]}, "'age' must hold numbers, but 1 cell does not; the first is 'old'"),
        ({"age": [1], "sex": ["X"]}, "'sex' that no training subject has; the first is 'X'"),
        ({"age": [1]}, "needs the column 'sex', which the table lacks. It has: age"),
    ],
)
def test_new_data_that_do_not_fit_are_refused(rows, words):
    encoder = TableEncoder.fit(PEOPLE, {"age": "auto", "sex": "auto"})
    with pytest.raises(DataError, match=words):
        encoder.encode(pd.DataFrame(rows))


@pytest.mark.parametrize(
    ("cells", "kind", "words"),
    [
        (["1", "2", "3", "x"], "auto", "holds numbers, but 1 cell of the training set is none, first: 'x'"),
        ([None, None, None, None], "auto", "is empty in the training set"),
        (["a", "1", "2", "3"], "number", "must hold numbers"),
        ([f"id{number}" for number in range(40)], "auto", "has 40 different values"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(cells, kind, words):
    with pytest.raises(DataError, match=words):
        TableEncoder.fit(pd.DataFrame({"column": cells}), {"column": kind})


def test_a_column_is_looked_up_by_name_and_the_nearest_is_suggested():
    assert find_column(PEOPLE, "AGE") == "age"
    with pytest.raises(ConfigError, match=r"no column 'agee'. Did you mean 'age'"):
        find_column(PEOPLE, "agee")
    with pytest.raises(ConfigError, match="no column 'label'"):  # a column with a meaning of its own
        find_column(PEOPLE.assign(label="a"), "label")


def test_one_row_for_each_subject_has_its_first_known_cells():
    table = pd.DataFrame({"age": [None, 61, 70], "sex": ["F", "M", "M"]})
    rows = first_of_each(table, ["b", "b", "a"])
    assert rows.index.tolist() == ["a", "b"]
    assert rows.loc["b"].tolist() == [61, "F"]
