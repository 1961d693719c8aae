from __future__ import annotations

import json
import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyrus.datasets.splits import (
    Split,
    SplitConfig,
    check_split,
    class_sizes,
    kfold,
    leave_one_group_out,
    split,
    split_off,
)
from gyrus.errors import LeakageError, SplitError
from gyrus.types import SUBSET_TITLES, SUBSETS
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
    assert result == split(manifest_of(subjects_per_label(a=5, b=5), slices=1), SplitConfig(val=0.2, test=0.2))
    assert result.fold is None


def test_reference_folds_are_the_same_on_every_machine():
    """Labels that sort in another order than the names that have them, so that the order of classes shows."""
    manifest = manifest_of({f"p{number:02}": "ba"[number % 3 == 2] for number in range(12)}, slices=1)
    folds = kfold(manifest, SplitConfig(folds=3, val=0.2), seed=3)
    assert [(fold.subjects["test"], fold.subjects["val"]) for fold in folds] == [
        (("p00", "p03", "p08", "p11"), ("p02", "p09")),
        (("p02", "p06", "p09", "p10"), ("p04", "p11")),
        (("p01", "p04", "p05", "p07"), ("p09", "p11")),
    ]
    assert folds[2] == split(manifest, SplitConfig(method="kfold", folds=3, fold=2, val=0.2), seed=3)
    assert kfold(manifest) == kfold(manifest, seed=0)
    assert len(kfold(manifest, SplitConfig(folds=12))) == 12


def test_the_seed_of_the_config_comes_first_and_that_of_the_call_is_used_everywhere():
    names = subjects_per_label(a=12, b=12)
    given = manifest_of(names, subsets={name: "test" if name[-1] in "89" else "train" for name in names})
    for manifest, method in ((manifest_of(names), "holdout"), (manifest_of(names), "kfold"), (given, "given")):
        config = SplitConfig(method=method)
        results = [split(manifest, config, seed=seed) for seed in range(4)]
        assert len({result.subjects["val"] for result in results}) > 1
        assert split(manifest, config.model_copy(update={"seed": 3}), seed=1) == results[3]


def test_a_given_validation_set_is_kept():
    names = subjects_per_label(a=10, b=10)
    places = {"8": "val", "9": "test"}
    result = split(manifest_of(names, subsets={name: places.get(name[-1], "train") for name in names}))
    assert (result.subjects["val"], result.subjects["test"]) == (("a008", "b008"), ("a009", "b009"))


def test_data_with_subsets_but_no_test_set_are_split_anew():
    names = subjects_per_label(a=10, b=10)
    manifest = manifest_of(names, subsets={name: "val" if name[-1] == "9" else "train" for name in names})
    assert split(manifest).method == "holdout"
    assert split(manifest).subjects == split(manifest_of(names)).subjects
    with pytest.raises(SplitError, match="needs a subset for every sample, and a test set"):
        split(manifest, SplitConfig(method="given"))


def test_a_given_split_with_a_sample_in_no_subset_is_refused():
    names = subjects_per_label(a=10, b=10)
    manifest = manifest_of(names, subsets={name: "test" if name[-1] in "89" else "train" for name in names})
    table = manifest.table.assign(subset=manifest.table["subset"].mask(manifest.table["subject"] == "a000"))
    with pytest.raises(SplitError, match="needs a subset for every sample"):
        split(replace(manifest, table=table))


def test_a_group_counts_to_the_class_of_most_of_its_samples():
    """A class of one subject is in the training set; the subject with more visits of the other does not count."""
    manifest = manifest_of(subjects_per_label(a=2, b=9))
    sessions = [f"m{number}" for number in manifest.table["slice"]]
    changed = (manifest.table["subject"] == "a000") & (manifest.table["slice"] > 0)
    table = manifest.table.assign(session=sessions, label=manifest.table["label"].mask(changed, "b"))
    for seed in range(6):
        assert "a001" in split(replace(manifest, table=table), seed=seed).subjects["train"]


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


def test_without_a_test_set_all_subjects_are_for_training_and_validation():
    result = split_off(manifest_of(subjects_per_label(a=10, b=10)), SplitConfig(val=0.2), ())
    assert (len(result.subjects["train"]), len(result.subjects["val"]), result.samples["test"]) == (16, 4, ())
    assert result.method == "no-test"
    assert result.notes == ()
    with pytest.raises(SplitError, match="validation set would be empty"):
        split_off(manifest_of(subjects_per_label(a=1, b=1)), SplitConfig(), ())


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
    assert result.to_document()["warning"] == result.warning
    assert set(result.subjects["train"]) & set(result.subjects["test"])


def test_scan_ids_are_not_reported_as_subjects():
    result = split(manifest_of(subjects_per_label(a=6, b=6), subject_kind="scan"))
    assert result.unit == "scan"
    assert "repeat scans" in result.warning
    by_image = split(manifest_of(subjects_per_label(a=6, b=6), subject_kind="scan"), SplitConfig(unit="image"))
    assert by_image.unit == "image"


def test_unknown_subjects_are_refused_with_all_ways_out():
    manifest = manifest_of(subjects_per_label(a=6, b=6), subject_kind="unknown")
    with pytest.raises(SplitError) as caught:
        split(manifest)
    for way in ("--subject-pattern", "--subject-rule", "a table with", "--subjects inferred", "--split-unit image"):
        assert way in str(caught.value)
    assert split(manifest, SplitConfig(unit="image")).unit == "image"
    known = manifest_of(subjects_per_label(a=6, b=6))
    table = known.table.assign(subject=known.table["subject"].mask(known.table["sample"] == "a/a000_00.png"))
    with pytest.raises(SplitError, match="The subject of 1 of 36 samples is unknown"):
        split(replace(known, table=table))


def test_a_given_test_set_that_shares_inferred_subjects_names_the_new_split():
    manifest = manifest_of(subjects_per_label(a=6, b=6), subject_kind="inferred")
    subset = ["test" if number == 2 else "train" for number in manifest.table["slice"]]
    table = manifest.table.assign(subset=pd.array(subset, dtype="string"))
    with pytest.raises(LeakageError, match=r"12 inferred subjects are in more than one.*--set split.method=holdout"):
        split(replace(manifest, table=table))
    assert split(replace(manifest, table=table), SplitConfig(method="holdout")).unit == "inferred"


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


def test_an_empty_subset_is_refused_with_the_sizes_of_the_classes():
    for unit, sizes in (("subject", "4 subjects (3 a, 1 b)"), ("image", "8 images (6 a, 2 b)")):
        made = split(manifest_of(subjects_per_label(a=9, b=3)), SplitConfig(unit=unit))
        small = manifest_of(subjects_per_label(a=3, b=1), slices=2)
        empty = replace(made, samples={**made.samples, "val": ()})
        with pytest.raises(SplitError) as caught:
            check_split(empty, small)
        words = f"The validation set would be empty. The data have {sizes}. Each class needs at least 3 {unit}s: "
        assert str(caught.value).startswith(words)
        assert f"Add {unit}s, or" in str(caught.value)


def test_classes_are_counted_by_image_or_subject():
    manifest = manifest_of({"p0": "a"} | {f"q{number}": f"c{number:02}" for number in range(11)}, slices=2)
    counts = ", ".join(["1 a", *(f"1 c{number:02}" for number in range(9))])
    assert class_sizes(manifest, "subject") == f"12 subjects ({counts} and 2 more classes)"
    assert class_sizes(manifest_of({"p0": "a"}), "subject") == "1 subject (1 a)"
    assert class_sizes(replace(manifest, classes=("a", "none")), "image") == "24 images (2 a, 0 none)"


def test_samples_without_a_label_are_refused():
    manifest = manifest_of(subjects_per_label(a=9, b=9))
    table = manifest.table.assign(label=manifest.table["label"].mask(manifest.table.index == 4))
    for unit in ("subject", "image"):
        with pytest.raises(SplitError, match="1 sample has no label"):
            split(replace(manifest, table=table), SplitConfig(unit=unit))


def test_a_class_that_subsets_lack_is_noted_by_the_unit_of_the_split():
    """Classes are noted in the unit that is dealt: a scan or an image counts as one image."""
    names = subjects_per_label(many=30, few=1)
    notes = {unit: split(manifest_of(names, slices=1), SplitConfig(unit=unit)).notes for unit in ("subject", "image")}
    rest = "so the validation set and test set contain none of them"
    assert notes == {
        "subject": (f"class few has only 1 subject, {rest}",),
        "image": (f"class few has only 1 image, {rest}",),
    }


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


def with_copies(manifest, copies):
    """The manifest in which samples have the bytes of others: {sample: the sample that it equals}."""
    digests = dict(zip(manifest.table["sample"], manifest.table["digest"], strict=True))
    digest = [digests[copies.get(sample, sample)] for sample in manifest.table["sample"]]
    return replace(manifest, table=manifest.table.assign(digest=pd.array(digest, dtype="string")))


@pytest.fixture(params=["image", "subject"])
def given_copies(request):
    """Four of eight test images (one person of each class) equal training images (of two people); the way to split."""
    names = subjects_per_label(a=10, b=10)
    subsets = {name: "test" if name[1:] in ("008", "009") else "train" for name in names}
    manifest = manifest_of(
        names, subsets=subsets, slices=2, subject_kind="unknown" if request.param == "image" else "subject"
    )
    pairs = {f"{label}/{label}008_{n:02d}.png": f"{label}/{label}001_{n:02d}.png" for label in "ab" for n in (0, 1)}
    return with_copies(manifest, pairs), request.param


def test_copies_in_two_given_subsets_stop_with_their_number_the_first_pairs_and_the_ways_out(given_copies):
    manifest, unit = given_copies
    with pytest.raises(LeakageError) as caught:
        split(manifest, SplitConfig(unit=unit))
    message = str(caught.value)
    assert "4 of 8 images of the test set are copies (same bytes) of images of the training set" in message
    assert "first: a/a008_00.png = a/a001_00.png; a/a008_01.png = a/a001_01.png; b/b008_00.png" in message
    assert all(way in message for way in ("--on-duplicates drop", "--on-duplicates keep", "split.method=holdout"))
    assert caught.value.subjects == (("a001", "a008", "b001", "b008") if unit == "subject" else ())
    assert ("a008 and a001, may be one person" in message) == (unit == "subject")


def test_dropping_copies_leaves_out_those_of_the_earlier_subset(given_copies):
    manifest, unit = given_copies
    result = split(manifest, SplitConfig(unit=unit, on_duplicates="drop"))
    assert result.dropped == ("a/a001_00.png", "a/a001_01.png", "b/b001_00.png", "b/b001_01.png")
    assert len(result.samples["test"]) == 8
    assert sum(map(len, result.samples.values())) == len(manifest) - 4
    assert (result.copies, result.kept_together) == (0, unit)
    assert any(note.startswith("4 images") and "dropped from the training set" in note for note in result.notes)


def test_kept_copies_mark_every_result(given_copies, tmp_path):
    manifest, unit = given_copies
    result = split(manifest, SplitConfig(unit=unit, on_duplicates="keep"))
    assert (result.copies, result.kept_together, result.unit, result.dropped) == (4, "copy", unit, ())
    assert result.warning.startswith("copies kept: the same images are in more than one")
    assert any(note.startswith("4 of 8 images of the test set are copies") for note in result.notes)
    result.save(tmp_path / "split.json")
    check_split(Split.load(tmp_path / "split.json"), manifest)


@pytest.mark.parametrize(("earlier", "later"), [("train", "val"), ("val", "test"), ("train", "test")])
def test_of_copies_in_two_subsets_the_earlier_one_is_dropped(earlier, later):
    names = subjects_per_label(a=6, b=6)
    places = {"4": "val", "5": "test"}
    manifest = manifest_of(names, subsets={name: places.get(name[-1], "train") for name in names}, slices=1)
    number = {"train": 0, "val": 4, "test": 5}
    copied = with_copies(manifest, {f"a/a00{number[later]}_00.png": f"a/a00{number[earlier]}_00.png"})
    with pytest.raises(LeakageError, match=f"1 of 2 images of the {SUBSET_TITLES[later]} is a copy"):
        split(copied)
    assert split(copied, SplitConfig(on_duplicates="drop")).dropped == (f"a/a00{number[earlier]}_00.png",)


def test_all_images_of_a_training_subject_go_if_one_is_a_copy_of_a_test_image():
    names = subjects_per_label(a=10, b=10)
    manifest = manifest_of(names, subsets={name: "test" if name[-1] in "89" else "train" for name in names}, slices=3)
    # a001 is linked to the test subject a008 through a002.
    linked = {"a/a008_00.png": "a/a002_00.png", "a/a002_02.png": "a/a001_02.png"}
    result = split(with_copies(manifest, linked), SplitConfig(on_duplicates="drop"))
    assert result.dropped == tuple(f"a/a00{person}_0{number}.png" for person in (1, 2) for number in (0, 1, 2))


@pytest.mark.parametrize("unit", ["subject", "image"])
def test_a_new_split_puts_all_copies_into_one_subset(unit):
    draw = random.Random(unit)
    for seed in range(3):
        manifest = manifest_of(subjects_per_label(a=12, b=12), slices=2)
        samples = manifest.table["sample"].tolist()
        copied = with_copies(manifest, {draw.choice(samples): draw.choice(samples) for _ in range(6)})
        config = SplitConfig(unit=unit, folds=3)
        for each in (split(copied, config, seed=seed), *kfold(copied, config, seed=seed)):
            place = {sample: subset for subset in SUBSETS for sample in each.samples[subset]}
            assert copied.table["sample"].map(place).groupby(copied.table["digest"]).nunique().max() == 1
            assert sorted(place) == samples
            assert each.copies == 0


def test_the_validation_set_taken_from_a_given_training_set_gets_all_copies_or_none():
    names = subjects_per_label(a=20, b=20)
    manifest = manifest_of(names, subsets={name: "test" if name[-1] == "9" else "train" for name in names}, slices=1)
    chain = {f"a/a00{number}_00.png": "a/a000_00.png" for number in range(1, 9)}
    for seed in range(5):
        result = split(with_copies(manifest, chain), SplitConfig(unit="image"), seed=seed)
        assert len({*chain, "a/a000_00.png"} & {*result.samples["val"]}) in (0, 9)


def test_copies_do_not_change_the_split_of_others():
    manifest = manifest_of(subjects_per_label(a=5, b=5), slices=1)
    result = split(with_copies(manifest, {"a/a004_00.png": "a/a000_00.png"}), SplitConfig(val=0.2, test=0.2), seed=0)
    assert result.subjects["test"] == ("a003", "b000")


def test_copies_with_another_label_or_subject_are_noted():
    manifest = manifest_of(subjects_per_label(a=9, b=9), slices=1)
    notes = split(with_copies(manifest, {"b/b001_00.png": "a/a001_00.png", "a/a003_00.png": "a/a002_00.png"})).notes
    assert notes == (
        "2 images have copies with another label, first: a/a001_00.png (a) and b/b001_00.png (b); at most one label of "
        "each is correct; gyrus audit lists them",
        "4 images have copies with another subject, first: a/a001_00.png (a001) and b/b001_00.png (b001); these may "
        "be one person, who counts as several in every score",
    )


def test_a_saved_split_with_unknown_copies_is_refused():
    manifest = manifest_of(subjects_per_label(a=9, b=9))
    result = split(manifest)
    one, other = result.samples["train"][0], result.samples["test"][0]
    with pytest.raises(LeakageError, match="1 of 12 images of the test set is a copy"):
        check_split(result, with_copies(manifest, {one: other}))


def test_a_subject_whose_label_changes_between_visits_stays_in_one_subset():
    manifest = manifest_of(subjects_per_label(a=8, b=8), slices=4)
    table = manifest.table.assign(session=[f"m{number % 2}" for number in range(len(manifest))])
    table["label"] = table["label"].mask(table["subject"].isin(["a000", "a001"]) & (table["session"] == "m1"), "b")
    changing = replace(manifest, table=table)

    result = split(changing)
    for name in ("a000", "a001"):
        assert sum(name in result.subjects[subset] for subset in SUBSETS) == 1

    within = table.assign(session="m0")
    with pytest.raises(SplitError, match="more than one label: a000, a001"):
        split(replace(manifest, table=within))


@pytest.mark.parametrize("given", [False, True])
def test_constant_slices_do_not_link_subjects(given):
    """The black ends of all scans have the same bytes."""
    names = subjects_per_label(a=10, b=10)
    subsets = {name: "test" if name[-1] in "89" else "train" for name in names} if given else None
    manifest = manifest_of(names, subsets=subsets)
    black = {sample: "a/a000_00.png" for sample in manifest.table["sample"] if sample.endswith("_00.png")}
    copied = with_copies(manifest, black)
    result = split(replace(copied, constant=("a000-0",)))
    assert result.subjects == split(manifest).subjects
    assert (result.copies, result.dropped, result.notes) == (0, (), ())
    with pytest.raises((LeakageError, SplitError)):
        split(copied)


def people(count=120, seed=0):
    """People of two classes with a site, a sex and an age that do not depend on the class."""
    draw = np.random.default_rng(seed)
    names = [f"s{number:03}" for number in range(count)]
    manifest = manifest_of(dict(zip(names, ["a", "b"] * (count // 2), strict=True)), slices=2)
    about = pd.DataFrame(
        {
            "site": draw.choice(["x", "y", "z"], count, p=[0.6, 0.3, 0.1]),
            "sex": draw.choice(["F", "M"], count),
            "age": draw.normal(60, 9, count),
        },
        index=names,
    )
    return replace(manifest, table=manifest.table.join(about, on="subject"))


def worst_imbalance(manifest, result, column):
    """The largest difference between a subset and all people in the fraction of a value, or the mean in SDs."""
    table = manifest.table.drop_duplicates("subject").set_index("subject")[column]
    values = (table - table.mean()) / table.std() if column == "age" else pd.get_dummies(table)
    gaps = [(values.loc[list(result.subjects[subset])].mean() - values.mean()) for subset in SUBSETS]
    return max(float(np.abs(gap).max()) for gap in gaps)


@pytest.mark.parametrize("method", ["holdout", "kfold"])
def test_columns_are_balanced_within_the_classes(method):
    gains = []
    for seed in range(5):
        manifest = people(seed=seed)
        plain = split(manifest, SplitConfig(method=method), seed=seed)
        fine = split(manifest, SplitConfig(method=method, stratify=("site", "sex", "age")), seed=seed)
        labels = manifest.table.set_index("sample")["label"]
        for subset in SUBSETS:  # as many of each class as before
            assert labels[list(fine.samples[subset])].value_counts().to_dict() == (
                labels[list(plain.samples[subset])].value_counts().to_dict()
            )
        gains.append([worst_imbalance(manifest, plain, "site") - worst_imbalance(manifest, fine, "site")])
        assert worst_imbalance(manifest, fine, "site") < 0.1
    assert np.mean(gains) > 0.03


def test_each_group_is_the_test_set_once():
    manifest = people()
    found = leave_one_group_out(manifest, SplitConfig(group="site", stratify=("sex",)))
    site = manifest.table.drop_duplicates("subject").set_index("subject")["site"]
    assert [set(site[list(each.subjects["test"])]) for each in found] == [{"x"}, {"y"}, {"z"}]
    for fold, each in enumerate(found):
        assert (each.method, each.fold) == ("leave-one-group-out", fold)
        assert f"the test set is site = {'xyz'[fold]}" in each.notes
        assert "xyz"[fold] not in set(site[[*each.subjects["train"], *each.subjects["val"]]])
        assert set(each.subjects["val"])


@pytest.mark.parametrize(
    ("change", "config", "words"),
    [
        ({}, {}, "needs the column of the groups: --set split.group=site"),
        ({}, {"group": "center"}, "split.group: The data have no column 'center'"),
        ({"site": "x"}, {"group": "site"}, "has only the value 'x'"),
        ({"site": None}, {"group": "site"}, "is empty for 240 of 240 samples"),
        ({}, {"group": "site", "fold": 3}, "split.fold must be below 3"),
    ],
)
def test_groups_that_cannot_be_left_out_are_refused(change, config, words):
    manifest = people()
    manifest = replace(manifest, table=manifest.table.assign(**change))
    with pytest.raises(SplitError, match=words):
        split(manifest, SplitConfig(method="leave-one-group-out", **config))


def test_a_subject_in_two_groups_is_refused():
    manifest = people()
    table = manifest.table.copy()
    table.loc[0, "site"] = "elsewhere"
    with pytest.raises(SplitError, match="1 subject is in more than one group of 'site', as s000"):
        split(replace(manifest, table=table), SplitConfig(method="leave-one-group-out", group="site"))
