from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import gyrus.audit.leakage as leakage_module
from gyrus.audit.checks import run_checks
from gyrus.audit.context import gather
from gyrus.audit.findings import Finding
from gyrus.audit.leakage import leakage_score
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.scan import scan
from gyrus.datasets.splits import SplitConfig, split
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write


@pytest.fixture(scope="module")
def hidden(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """24 phantom subjects with 24 slices each; subjects unknown."""
    phantom = generate(subjects=24, slices=24, classes=2, size=64, seed=5)
    return scan(write(phantom, tmp_path_factory.mktemp("leak") / "data"), subject_rule="none")


def leakage(manifest: Manifest, **keywords: object) -> Finding:
    return run_checks(gather(manifest, **keywords), title="phantom", checks=["leakage"]).entries[0]


def test_leakage_of_a_split_by_image_is_reported(hidden: Manifest) -> None:
    found = leakage(hidden, split=split(hidden, SplitConfig(unit="image")))
    assert found.severity == "error"
    assert found.numbers["leakage score"] > 0.95
    assert found.numbers["fraction of test images of these subjects"] > 0.95
    assert found.numbers["shuffled labels"] > found.numbers["chance with shuffled labels"] + 0.3
    assert found.samples


def test_a_split_by_subject_does_not_leak(hidden: Manifest) -> None:
    names = scan(hidden.root)
    found = leakage(hidden, split=split(names, SplitConfig()))
    assert found.severity == "ok"
    assert found.numbers["leakage score"] == 0.0
    assert abs(found.numbers["shuffled labels"] - found.numbers["chance with shuffled labels"]) < 0.2


def test_without_a_split_a_random_split_by_image_is_tried(hidden: Manifest) -> None:
    found = leakage(hidden)
    assert found.severity == "warning"
    assert "Split by subject" in found.verdict


def test_a_split_by_image_of_subjects_with_several_images_leaks_even_if_pixels_do_not_show_it(tmp_path: Path) -> None:
    """Slices that lie far apart, and each subject under two names: no nearest neighbour is of the same name."""
    volumes = generate(subjects=24, slices=8, classes=2, size=64, seed=5).volumes
    for person in range(24):
        for number in range(8):
            path = tmp_path / "data" / "ab"[person % 2] / f"sub-{2 * person + number % 2:02}_slice-{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(volumes[person, number]).save(path)
    context = gather(scan(tmp_path / "data"))
    findings = run_checks(context, title="phantom", checks=["leakage", "subjects"])
    (tried,) = findings.select("leakage")
    assert tried.severity == "warning"
    assert tried.numbers["fraction of test images of subjects in train"] > 0.9
    assert "would leak" in tried.verdict
    assert any("one person under two names" in entry.verdict for entry in findings.select("subjects"))
    assert all("two names" in entry.verdict for entry in findings.select("subjects"))


def test_duplicates_across_subsets_are_found_under_different_names(tmp_path: Path) -> None:
    phantom = generate(subjects=16, slices=2, classes=2, size=64)
    folder = write(phantom, tmp_path / "data", "train-test")
    test_image = next((folder / "test").rglob("*.png"))
    copy = folder / "train" / test_image.parent.name / "sub-P999_slice-00.png"
    copy.write_bytes(test_image.read_bytes())
    found = run_checks(gather(scan(folder)), title="phantom", checks=["leakage"])
    across = next(entry for entry in found.entries if "duplicate pairs across subsets" in entry.numbers)
    assert across.severity == "error"
    assert any(flag.sample.endswith(test_image.name) or "P999" in flag.sample for flag in across.samples)


def test_leakage_score_counts_the_nearest_images() -> None:
    """The nearest image, and that of another subject, are known by construction; one is in the first row."""
    one, other = np.random.default_rng(0).integers(0, 255, (2, 16, 16)).astype(float)
    near = [one, other, 0.8 * other + 0.2 * one, 0.9 * one + 0.1 * other, 0.8 * one + 0.2 * other]
    pictures = np.array(near).round().astype(np.uint8)
    targets, subjects = np.array([0, 1, 1, 0, 0]), np.array([0, 1, 1, 2, 3])
    train, test = np.array([0, 1]), np.array([2, 3, 4])
    scored = leakage_score(pictures, targets, subjects, train, test)
    assert (scored.score, scored.accuracy, scored.other_subjects) == pytest.approx((1 / 3, 1, 2 / 3))
    assert (scored.majority, scored.images) == (pytest.approx(2 / 3), 3)
    unknown = leakage_score(pictures, targets, None, train, test)
    assert (unknown.accuracy, unknown.majority, unknown.images) == (1, pytest.approx(2 / 3), 3)
    assert np.isnan([unknown.score, unknown.other_subjects, unknown.shuffled, unknown.chance]).all()
    alone = leakage_score(pictures, targets, subjects, train[1:], test[:1])
    assert (alone.score, alone.accuracy) == (1, 1)
    assert np.isnan(alone.other_subjects)


def test_among_many_test_images_some_are_drawn_once_each_by_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gyrus.audit.leakage.MAX_TEST_IMAGES", 10)
    pictures = np.random.default_rng(0).integers(0, 255, (60, 16, 16)).astype(np.uint8)
    drawn = []
    nearest = leakage_module._nearest

    def seen(thumbnails: np.ndarray, subjects: np.ndarray, train: np.ndarray, test: np.ndarray) -> object:
        drawn.append(tuple(test))
        return nearest(thumbnails, subjects, train, test)

    monkeypatch.setattr("gyrus.audit.leakage._nearest", seen)
    arguments = (pictures, np.arange(60) % 2, np.arange(60), np.arange(45), np.arange(45, 60))
    scores = [leakage_score(*arguments, seed=seed) for seed in (1, 1, 2)]
    assert scores[0] == scores[1]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) == scores[0].images == 10
    assert set(drawn[0]) <= set(range(45, 60))
    assert drawn[0] == tuple(sorted(drawn[0]))


def test_leakage_score_of_random_images() -> None:
    generator = np.random.default_rng(0)
    subjects = np.repeat(np.arange(40), 5)
    faces = generator.integers(0, 255, (40, 16, 16))
    pictures = np.clip(faces[subjects] + generator.normal(0, 10, (200, 16, 16)), 0, 255).astype(np.uint8)
    targets = subjects % 2
    mixed = generator.permutation(200)
    leaking = leakage_score(pictures, targets, subjects, mixed[:150], mixed[150:])
    by_subject = leakage_score(pictures, targets, subjects, np.arange(150), np.arange(150, 200))
    assert leaking.score == pytest.approx(1.0)
    assert leaking.accuracy == pytest.approx(1.0)
    assert leaking.other_subjects < 0.8
    assert leaking.shuffled == pytest.approx(1.0)
    assert by_subject.score == 0.0
    assert by_subject.chance == pytest.approx(2 * 20 * 19 / (40 * 39))


def test_the_nearest_image_is_found_among_more_than_are_compared_at_once() -> None:
    """4,200 training images of noise; the copies of the test images are the last of each block, and the very last."""
    thumbnails = np.random.default_rng(0).integers(0, 256, (4203, 8, 8), dtype=np.uint8)
    train, test = np.arange(4200), np.arange(4200, 4203)
    copies = np.array([4095, 4096, 4199])
    thumbnails[test] = thumbnails[copies]
    subjects = np.arange(4203)
    subjects[4096] = 4201
    nearest, other = leakage_module._nearest(thumbnails, subjects, train, test)
    assert nearest.tolist() == copies.tolist()
    assert (other[0], other[2]) == (4095, 4199)
    assert other[1] not in (-1, 4096)


def test_half_the_size_is_the_mean_of_two_by_two_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 4, 6), dtype=np.uint8)
    halved = leakage_module._halved(pixels)
    assert halved.shape == (3, 2, 3)
    assert halved[1, 1, 2] == np.round(pixels[1, 2:4, 4:6].mean())


def test_shuffled_labels_of_one_subject_agree_always() -> None:
    one = np.zeros(4, dtype=np.int64)
    found = leakage_module._shuffled(one, one, np.array([1]), np.array([0]), np.random.default_rng(0))
    assert found == (1.0, 1.0)


def context_of(places: str, subjects: list[str] | None, *, images: np.ndarray | None = None) -> SimpleNamespace:
    """A measured data set of two classes; ``places`` has a letter per image: t for training, e for test."""
    count = len(places)
    if images is None:
        images = np.random.default_rng(0).integers(0, 256, (count, 8, 8), dtype=np.uint8)
    names = [f"i{row}" for row in range(count)]
    columns = {"sample": names, "path": names, "label": ["a", "b"] * (count // 2), "shape": [(8, 8)] * count}
    manifest = Manifest.from_rows(pd.DataFrame(columns), root=Path())
    manifest = replace(manifest, table=manifest.table.set_index("sample").loc[names].reset_index())
    found = {
        "train": np.flatnonzero(np.array(list(places)) == "t"),
        "test": np.flatnonzero(np.array(list(places)) == "e"),
    }
    return SimpleNamespace(
        has_classes=True,
        subset_rows=found.__getitem__,
        subjects=None if subjects is None else np.array(subjects),
        targets=np.arange(count) % 2,
        images=SimpleNamespace(thumbnails=images),
        seed=0,
        manifest=manifest,
        duplicates=(),
        subsets=np.array([{"t": "train", "e": "test"}.get(place, "") for place in places], dtype=object),
    )


def test_a_given_split_leaks_where_subjects_are_in_both_subsets() -> None:
    """Four of six test images are of two subjects that have training images too."""
    subjects = ["p", "p", "q", "q", "r", "r", "p", "q", "q", "q", "s", "u"]
    [finding] = leakage_module.check(context_of("tttttteeeeee", subjects))
    assert (finding.check, finding.severity) == ("leakage", "error")
    assert finding.verdict.startswith("The split leaks: 2 of the 4 subjects in the test set are also in the training")
    assert finding.verdict.endswith("Make a new split by subject: --set split.method=holdout --subjects inferred.")
    assert finding.numbers["subjects in train and test"] == 2
    assert finding.numbers["subjects in test"] == 4
    assert finding.numbers["fraction of test images of these subjects"] == pytest.approx(4 / 6)
    assert finding.numbers["test images used"] == 6
    assert [(flag.sample, flag.reason) for flag in finding.samples] == [
        (name, "its subject is also in the training set") for name in ("i6", "i7", "i8", "i9")
    ]
    one = leakage_module.check(context_of("tttttteeeeee", [*"ppppppp", *"uvwxy"]))[0]
    assert "1 of the 6 subjects in the test set is also in the training set (16.7 % of" in one.verdict


def test_a_given_split_without_common_subjects_is_said_to_be_so_by_their_names_only() -> None:
    [finding] = leakage_module.check(context_of("tttttteeeeee", [*"aabbcc", *"ddeeff"]))
    assert (finding.check, finding.severity, finding.samples) == ("leakage", "ok", ())
    assert finding.verdict.startswith(
        "By the names of the subjects, none is in both the training and the test set. One"
    )
    assert (finding.numbers["subjects in train and test"], finding.numbers["subjects in test"]) == (0, 3)
    assert finding.numbers["leakage score"] < leakage_module.LEAKAGE_THRESHOLD


def test_a_given_split_of_unknown_subjects_cannot_be_judged() -> None:
    [finding] = leakage_module.check(context_of("tttttteeeeee", None))
    assert (finding.check, finding.severity) == ("leakage", "warning")
    assert finding.verdict.startswith("Leakage cannot be ruled out: subjects are unknown")
    assert finding.numbers["test images used"] == 6


def test_a_split_with_an_empty_subset_is_no_split() -> None:
    for places in ("tttttttttttt", "eeeeeeeeeeee", "tttttt......"):
        [unknown] = leakage_module.check(context_of(places, None))
        assert (unknown.check, unknown.severity, unknown.numbers) == ("leakage", "warning", {})
        assert unknown.verdict.startswith("The leakage of a random split by image is unknown")
        [known] = leakage_module.check(context_of(places, [*"abcdefghijkl"]))
        assert (known.check, known.severity) == ("leakage", "ok")
        assert known.verdict.startswith("By the names of the subjects, hardly any has more than one image")
        assert known.numbers["split"] == "tried: random by image"
        assert known.numbers["fraction of test images of subjects in train"] == 0
        assert known.numbers["test images used"] == round(leakage_module.TEST_FRACTION * 12)
    assert leakage_module.check(context_of("tttttttttttt", ["a"] * 12)) == ()
    [two] = leakage_module.check(context_of("tttttttttttt", [*"aaaaaabbbbbb"]))
    assert (two.severity, two.numbers["fraction of test images of subjects in train"]) == ("warning", 1)


def test_pairs_of_duplicates_in_two_subsets_are_an_error() -> None:
    context = context_of("tttttteeeeee", [*"aabbcc", *"ddeeff"])
    pairs = [SimpleNamespace(first=first, second=second, describe=lambda: "copy") for first, second in ((0, 7), (1, 2))]
    context.duplicates = pairs
    _, finding = leakage_module.check(context)
    assert (finding.check, finding.severity) == ("leakage", "error")
    assert finding.verdict.startswith("1 pair of duplicates is in different subsets of the split.")
    assert finding.numbers == {"duplicate pairs across subsets": 1}
    assert [(flag.sample, flag.reason) for flag in finding.samples] == [("i7", "copy of i0: test and train")]
    context.duplicates = [*pairs, SimpleNamespace(first=3, second=9, describe=lambda: "copy")]
    assert leakage_module.check(context)[1].verdict.startswith("2 pairs of duplicates are in different subsets")
