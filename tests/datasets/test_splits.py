from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyrus.datasets.splits import Split, SplitConfig, check_split, kfold, split
from gyrus.errors import LeakageError, SplitError
from gyrus.types import SUBSETS
from tests.support.manifests import manifest_of, subjects_per_label

counts = st.integers(min_value=3, max_value=40)


@given(sick=counts, healthy=counts, seed=st.integers(0, 1000), method=st.sampled_from(["holdout", "kfold"]))
def test_no_subject_is_in_two_subsets_and_no_sample_is_lost(sick, healthy, seed, method):
    manifest = manifest_of(subjects_per_label(sick=sick, healthy=healthy))
    result = split(manifest, SplitConfig(method=method, folds=3), seed=seed)
    subjects = [name for subset in SUBSETS for name in result.subjects[subset]]
    samples = [name for subset in SUBSETS for name in result.samples[subset]]
    assert len(subjects) == len(set(subjects)) == sick + healthy
    assert sorted(samples) == sorted(manifest.table["sample"])


@given(seed=st.integers(0, 1000))
def test_order_of_rows_does_not_matter_and_seed_does(seed):
    names = subjects_per_label(a=12, b=9)
    shuffled = list(names.items())
    random.Random(seed).shuffle(shuffled)
    first = split(manifest_of(names), seed=seed)
    assert first == split(manifest_of(dict(shuffled)), seed=seed)
    assert any(split(manifest_of(names), seed=seed + step).samples != first.samples for step in range(1, 4))


def test_reference_split_is_the_same_on_every_machine():
    result = split(manifest_of(subjects_per_label(a=5, b=5), slices=1), SplitConfig(val=0.2, test=0.2), seed=0)
    assert result.subjects["test"] == ("a003", "b000")
    assert result.subjects["val"] == ("a001", "b004")


def test_every_class_keeps_its_fraction():
    manifest = manifest_of(subjects_per_label(a=100, b=60, c=20))
    result = split(manifest, SplitConfig(val=0.1, test=0.2))
    for label, total in {"a": 100, "b": 60, "c": 20}.items():
        held_out = sum(name.startswith(label) for name in result.subjects["test"])
        validated = sum(name.startswith(label) for name in result.subjects["val"])
        assert (held_out, validated) == (total * 0.2, total * 0.1)


def test_a_class_of_two_subjects_is_in_training_and_test_set_and_noted():
    result = split(manifest_of(subjects_per_label(many=30, few=2)))
    assert sum(name.startswith("few") for name in result.subjects["train"]) == 1
    assert sum(name.startswith("few") for name in result.subjects["test"]) == 1
    assert result.notes == ("class few has only 2 subjects, so the validation set contains none of them",)


def test_each_subject_is_tested_in_exactly_one_fold():
    manifest = manifest_of(subjects_per_label(a=11, b=7))
    folds = kfold(manifest, SplitConfig(folds=4), seed=3)
    tested = [name for fold in folds for name in fold.subjects["test"]]
    assert sorted(tested) == sorted(subjects_per_label(a=11, b=7))
    assert max(len(fold.subjects["test"]) for fold in folds) - min(len(f.subjects["test"]) for f in folds) <= 1
    assert [fold.fold for fold in folds] == [0, 1, 2, 3]


def test_a_given_test_set_is_kept_and_val_is_taken_from_train():
    names = subjects_per_label(a=10, b=10)
    subsets = {name: "test" if name.endswith(("8", "9")) else "train" for name in names}
    result = split(manifest_of(names, subsets=subsets))
    assert result.method == "given"
    assert set(result.subjects["test"]) == {name for name in names if subsets[name] == "test"}
    assert result.subjects["val"]


def test_given_subsets_that_share_subjects_are_refused_by_name():
    manifest = manifest_of(subjects_per_label(a=4, b=4))
    table = manifest.table.assign(subset="train")
    table.loc[table["slice"] == 2, "subset"] = "test"
    overlapping = type(manifest).from_rows(table, root=manifest.root, subject_kind="subject")
    with pytest.raises(LeakageError, match="8 subjects are in more than one subset: a000") as caught:
        split(overlapping)
    assert caught.value.subjects == tuple(sorted(subjects_per_label(a=4, b=4)))


def test_only_an_image_level_split_may_share_subjects_and_warns():
    manifest = manifest_of(subjects_per_label(a=6, b=6), slices=10)
    result = split(manifest, SplitConfig(unit="image"))
    assert result.warning == "image-level split: subjects may be in both training and test sets"
    assert set(result.subjects["train"]) & set(result.subjects["test"])


def test_scan_ids_are_not_reported_as_subjects():
    result = split(manifest_of(subjects_per_label(a=6, b=6), subject_kind="scan"))
    assert result.unit == "scan"
    assert "repeat scans" in result.warning


def test_unknown_subjects_are_refused_with_a_solution():
    manifest = manifest_of(subjects_per_label(a=6, b=6), subject_kind="unknown")
    with pytest.raises(SplitError, match="--split-unit image"):
        split(manifest)
    assert split(manifest, SplitConfig(unit="image")).unit == "image"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (SplitConfig(method="holdout", val=0.5, test=0.5), "must be below 1"),
        (SplitConfig(method="kfold", folds=3, fold=3), "must be below split.folds"),
        (SplitConfig(method="kfold", folds=50), "at most the 12 units"),
        (SplitConfig(method="given"), "needs a subset for every sample"),
    ],
)
def test_impossible_splits_are_refused(config, words):
    with pytest.raises(SplitError, match=words):
        split(manifest_of(subjects_per_label(a=6, b=6)), config)


def test_too_few_subjects_are_refused():
    with pytest.raises(SplitError, match="validation set would be empty"):
        split(manifest_of(subjects_per_label(a=2, b=2)))


def test_a_subject_with_two_labels_is_refused():
    manifest = manifest_of(subjects_per_label(a=6, b=6))
    table = manifest.table.assign(subject=["a000" if name == "b000" else name for name in manifest.table["subject"]])
    with pytest.raises(SplitError, match="more than one label: a000"):
        split(type(manifest).from_rows(table, root=manifest.root, subject_kind="subject"))


def test_saved_and_loaded_is_the_same(tmp_path):
    manifest = manifest_of(subjects_per_label(a=9, b=9))
    result = split(manifest, SplitConfig(method="kfold", fold=1), seed=5)
    result.save(tmp_path / "split.json")
    loaded = Split.load(tmp_path / "split.json")
    assert loaded == result
    check_split(loaded, manifest)


def test_a_split_without_schema_is_still_read(tmp_path):
    result = split(manifest_of(subjects_per_label(a=9, b=9)))
    document = {name: value for name, value in result.to_document().items() if name != "schema"}
    (tmp_path / "split.json").write_text(json.dumps(document))
    assert Split.load(tmp_path / "split.json") == result
