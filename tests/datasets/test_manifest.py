"""Merged classes, and problems."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from gyrus.datasets.file_counts import FileCounts
from gyrus.datasets.manifest import COLUMNS, Manifest, Problem, count_reasons, describe_reasons, order_classes
from gyrus.errors import BadFilesError, ConfigError, DataError, NothingUsableError
from tests.support.manifests import manifest_of, subjects_per_label


@pytest.fixture
def manifest() -> Manifest:
    labels = ["Very mild", "None", "Mild", "Moderate", None]
    rows = pd.DataFrame({"sample": list("abcde"), "path": list("abcde"), "label": labels})
    return Manifest.from_rows(rows, root=Path(), classes=["None", "Very mild", "Mild", "Moderate"])


def test_a_merged_class_takes_the_place_of_its_first_member(manifest):
    merged = manifest.merge({"Dementia": ["Moderate", "Very mild", "Mild"]})
    assert merged.classes == ("None", "Dementia")
    assert merged.table["label"].fillna("?").tolist() == ["Dementia", "None", "Dementia", "Dementia", "?"]
    assert merged.targets.tolist() == [1, 0, 1, 1, -1]
    assert merged.digest != manifest.digest
    assert "Dementia: Moderate, Very mild, Mild" in merged.notes[-1]


def test_other_classes_are_unchanged_by_a_merge(manifest):
    assert manifest.merge({"Sick": ["Mild", "Moderate"]}).classes == ("None", "Very mild", "Sick")


@pytest.mark.parametrize(
    ("members", "classes"),
    [(["Mild", "Severe"], ("None", "Very mild", "Sick", "Moderate")), (["Severe"], None)],
)
def test_classes_that_the_data_lack_can_be_skipped_with_a_note(manifest, members, classes):
    merged = manifest.merge({"Sick": members}, if_missing="skip")
    assert sorted(merged.classes) == sorted(classes or manifest.classes)
    assert any("no such class: Severe" in note for note in merged.notes)
    with pytest.raises(DataError, match="unknown"):
        manifest.merge({"Sick": members})


@pytest.mark.parametrize(
    ("groups", "words"),
    [
        ({"Sick": ["Milde"]}, r"unknown: \['Milde'\]"),
        ({"A": ["Mild"], "B": ["Mild"]}, r"named twice: \['Mild'\]"),
        ({"None": ["Mild", "Moderate"]}, r"new names of classes that stay: \['None'\]"),
    ],
)
def test_invalid_merges_are_refused(manifest, groups, words):
    with pytest.raises(DataError, match=words):
        manifest.merge(groups)


def test_classes_to_merge_are_found_in_another_spelling() -> None:
    manifest = manifest_of({"a": "Mild Demented", "b": "NC", "c": "AD"})

    merged = manifest.merge({"Dementia": ["mild_demented", "MILD DEMENTED", "ad"]})
    assert merged.classes == ("Dementia", "NC")
    with pytest.raises(DataError, match=r"unknown: ..x"):
        manifest.merge({"Dementia": ["x"]})


def test_scores_are_by_visit_where_the_label_of_a_subject_changes() -> None:
    rows = {
        "sample": ["1", "2", "3"],
        "path": ["1", "2", "3"],
        "subject": ["a", "a", "b"],
        "session": ["0", "12", None],
    }
    manifest = Manifest.from_rows(pd.DataFrame({**rows, "label": ["MCI", "AD", "NC"]}), root=Path())
    units, kind = manifest.scored_units
    assert (units.to_list(), kind) == (["a, visit 0", "a, visit 12", "b, visit "], "visit")

    constant = Manifest.from_rows(pd.DataFrame({**rows, "label": ["AD", "AD", "NC"]}), root=Path())
    units, kind = constant.scored_units
    assert (units.to_list(), kind) == (["a", "a", "b"], "subject")


def test_reasons_are_counted_and_the_commonest_comes_first():
    problems = [Problem("a", "empty", "no bytes"), *(Problem(name, "truncated", f"cut {name}") for name in "cb")]
    assert count_reasons(problems) == "2 x truncated, 1 x empty"
    assert describe_reasons(problems) == "\n  2 x truncated, first: b: cut b\n  1 x empty, a: no bytes"
    manifest = replace(manifest_of(subjects_per_label(a=1)), problems=tuple(problems))
    with pytest.raises(BadFilesError, match=r"3 samples cannot be used \(2 x truncated, 1 x empty\)") as caught:
        manifest.require_clean()
    assert [line[0] for line in caught.value.report] == ["b", "c", "a"]


def test_rows_become_a_sorted_table_with_all_columns(tmp_path):
    rows = pd.DataFrame({"sample": ["b", "a"], "path": ["b", "a"], "label": ["y", "x"], "Age": [70, 60], "row": [2, 1]})
    made = Manifest.from_rows(rows, root=tmp_path)
    assert made.table["sample"].tolist() == ["a", "b"]
    assert list(made.table) == [*COLUMNS, "Age"]
    assert made.table.index.tolist() == [0, 1]
    assert (made.classes, made.subject_kind, made.subject_rule) == (("x", "y"), "unknown", "none")
    assert made.table["subject"].isna().all()
    assert (str(made.table["row"].dtype), str(made.table["label"].dtype)) == ("Int64", "string")
    assert list(rows) == ["sample", "path", "label", "Age", "row"]
    assert Manifest.from_rows(rows, root=tmp_path, classes=["y", "x"]).targets.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("changed", "classes", "words"),
    [
        ({"sample": ["a", "a"]}, None, "Two rows are the same sample 'a'"),
        ({"label": ["x", "z"]}, ["x", "y"], r"Labels \['z'\] are not among the classes \['x', 'y'\]"),
        ({"label": ["x", "n" * 201]}, None, "The name of a class has 201 letters"),
    ],
)
def test_impossible_rows_are_refused(changed, classes, words):
    rows = pd.DataFrame({"sample": ["a", "b"], "path": ["a", "b"], "label": ["x", "n" * 200]})
    assert Manifest.from_rows(rows, root=Path()).classes == ("n" * 200, "x")
    with pytest.raises(DataError, match=words):
        Manifest.from_rows(rows.assign(**changed), root=Path(), classes=classes)


def test_all_of_a_manifest_is_saved(tmp_path):
    rows = pd.DataFrame({
        "sample": ["a", "b"], "path": ["a", "b"], "label": ["y", None], "shape": [(3, 4), None],
        "members": [({"path": "p", "row": None, "digest": "d"},), None], "files": [("f", "g"), None],
        "Sex": ["F", None],
    })  # fmt: skip
    whole = Manifest.from_rows(
        rows, root=tmp_path, classes=["z", "y"], subject_kind="scan", subject_rule="bids", notes=["one"],
        problems=[Problem("c", "empty", "no bytes")], files=FileCounts(2, left_aside={".gif": 1}), constant=["d0"],
    )  # fmt: skip
    whole.save(tmp_path / "manifest.parquet")
    loaded = Manifest.load(tmp_path / "manifest.parquet")
    pd.testing.assert_frame_equal(loaded.table, whole.table)
    for column in ("shape", "members", "files"):
        assert [type(value) for value in loaded.table[column]] == [tuple, type(None)], column
    assert replace(loaded, table=whole.table) == whole
    former = whole.table.rename(columns={"subset": "part"})
    about = {"classes": ["z", "y"], "root": ".", "subject_kind": "scan", "subject_rule": "bids", "problems": []}
    old = Manifest._from_saved(former.assign(part="test"), json.loads(json.dumps(about)))
    assert old.table["subset"].tolist() == ["test", "test"]
    assert (old.notes, old.files, old.constant) == ((), None, ())
    with pytest.raises(DataError):
        Manifest.load(tmp_path / "none.parquet")


def test_samples_with_problems_leave_the_table_and_are_added_to_the_problems(manifest):
    first = replace(manifest, problems=(Problem("x", "empty", "no bytes"),))
    problems = [Problem("d", "constant", "one value"), Problem("b", "constant", "one value")]
    left = first.without(problems)
    assert left.table["sample"].tolist() == ["a", "c", "e"]
    assert left.table.index.tolist() == [0, 1, 2]
    assert [problem.sample for problem in left.problems] == ["b", "d", "x"]
    with pytest.raises(NothingUsableError, match="None of the 5 images"):
        manifest.without([Problem(name, "constant", "one value") for name in "abcde"])
    assert manifest.select(["d", "a", "?"]).table["sample"].tolist() == ["a", "d"]
    assert manifest.select(["d"]).table.index.tolist() == [0]
    assert list(manifest.select(["d"]).table) == list(left.table) == list(manifest.table)


def test_a_derived_manifest_keeps_all_but_the_rows(manifest):
    full = replace(
        manifest, subject_kind="scan", subject_rule="bids", notes=("one",), files=FileCounts(5), constant=("d",),
        problems=(Problem("x", "empty", "no bytes"),), root=Path("data"),
    )  # fmt: skip
    derived = full.derive([{"sample": "n", "path": "n", "label": "Mild"}], notes=["two"])
    assert derived.table["sample"].tolist() == ["n"]
    assert replace(derived, table=full.table) == replace(full, notes=("one", "two"))
    assert full.derive([{"sample": "n", "path": "n"}], problems=[]).problems == ()


def test_classes_are_in_the_order_of_numbers_or_of_letters():
    assert order_classes(["10", "9", "-1", "9"]) == ("-1", "9", "10")
    assert order_classes(["10", "9", "a"]) == ("10", "9", "a")


STAGES = ("Non_Demented", "Very_Mild_Demented", "Mild_Demented", "Moderate_Demented")


def of_stages(*names: str) -> Manifest:
    return manifest_of(subjects_per_label(**dict.fromkeys(names, 2)))


def test_known_stages_come_in_their_order_and_a_note_says_how_to_turn_it_off(tmp_path):
    found = of_stages(*STAGES).with_order()
    assert found.classes == STAGES
    assert found.target.is_ordered
    assert found.targets[found.table["label"] == "Moderate_Demented"].unique().tolist() == [3]
    assert "Non_Demented < Very_Mild_Demented" in found.notes[-1]
    assert "--no-ordered" in found.notes[-1]
    found.save(tmp_path / "manifest.parquet")
    loaded = Manifest.load(tmp_path / "manifest.parquet")
    assert (loaded.classes, loaded.target) == (found.classes, found.target)
    assert loaded.digest == found.digest


def test_without_an_order_classes_stay_as_they_are():
    plain = of_stages(*STAGES)
    for unchanged in (
        plain.with_order(False),
        of_stages("a", "b", "c").with_order(),
        of_stages("AD", "CN").with_order(),
    ):
        assert not unchanged.target.is_ordered
        assert list(unchanged.classes) == sorted(unchanged.classes)
    assert plain.with_order(False).digest == plain.digest


def test_an_order_can_be_stated():
    assert of_stages("b", "a").with_order(("b", "a")).classes == ("b", "a")
    assert of_stages("3", "1", "2").with_order(True).classes == ("1", "2", "3")
    with pytest.raises(ConfigError, match="missing: c"):
        of_stages("a", "b", "c").with_order(("a", "b"))
    with pytest.raises(ConfigError, match="not known by their names"):
        of_stages("a", "b", "c").with_order(True)


def test_classes_given_in_another_order_than_the_known_one_keep_theirs():
    given = manifest_of(subjects_per_label(AD=1, CN=1, MCI=1), classes=("AD", "MCI", "CN"))
    kept = given.with_order(given=True)
    assert kept.classes == ("AD", "MCI", "CN")
    assert not kept.target.is_ordered
    assert "CN < MCI < AD" in kept.notes[-1]
    assert given.with_order(True, given=True).target.is_ordered


@pytest.mark.parametrize(
    ("groups", "classes"),
    [
        ({"Dementia": STAGES[1:]}, ("Non_Demented", "Dementia")),
        ({"Early": STAGES[1:3]}, ("Non_Demented", "Early", "Moderate_Demented")),
        ({"Ends": (STAGES[0], STAGES[3])}, None),
    ],
)
def test_merging_neighbouring_stages_keeps_the_order(groups, classes):
    merged = of_stages(*STAGES).with_order().merge(groups)
    assert merged.target.is_ordered == (classes is not None)
    if classes:
        assert merged.classes == classes
    else:
        assert "no order any more" in merged.notes[-1]
