"""Merged classes, and problems."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from gyrus.datasets.manifest import Manifest, Problem, count_reasons, describe_reasons
from gyrus.errors import BadFilesError, DataError
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
