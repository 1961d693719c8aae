"""Guards of an honest score: each test fails if one of them is removed or weakened."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from gyrus.audit import leakage
from gyrus.audit.duplicates import AlignedPairs, DuplicatePair, find_duplicates
from gyrus.audit.nearest_neighbours import Neighbours
from gyrus.configuration import read_assignments, read_document
from gyrus.datasets import store_shards
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split, SplitConfig, check_split, kfold, split
from gyrus.datasets.store import Store, open_store
from gyrus.errors import ConfigError, LeakageError, SplitError
from gyrus.evaluation.comparison import compare
from gyrus.inference.predictions import Predictions
from gyrus.training.config import EMA
from gyrus.training.weight_averaging import WeightAverage
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.workflows import baselines
from gyrus.workflows.data_module import DataModule, fit_model
from gyrus.workflows.display import SILENT
from gyrus.workflows.experiment_config import ExperimentConfig
from tests.support.manifests import manifest_of, subjects_per_label

SUBSETS = ("train", "val", "test")


@pytest.mark.parametrize("unit", ["subject", "scan", "inferred"])
@pytest.mark.parametrize("pair", [("train", "val"), ("train", "test"), ("val", "test")])
def test_a_subject_in_two_subsets_is_refused_whatever_the_unit(unit, pair):
    manifest = manifest_of(subjects_per_label(a=6, b=6))
    whole = replace(split(manifest), unit=unit)
    check_split(whole, manifest)
    doubled = whole.subjects[pair[0]][0]
    subjects = {**whole.subjects, pair[1]: tuple(sorted((*whole.subjects[pair[1]], doubled)))}
    with pytest.raises(LeakageError) as caught:
        check_split(replace(whole, subjects=subjects), manifest)
    assert caught.value.subjects == (doubled,)


@pytest.mark.parametrize("subset", SUBSETS)
def test_an_empty_subset_is_refused(subset):
    manifest = manifest_of(subjects_per_label(a=6, b=6))
    whole = split(manifest)
    with pytest.raises(SplitError, match="would be empty"):
        check_split(replace(whole, samples={**whole.samples, subset: ()}), manifest)


@pytest.fixture
def given_subsets():
    names = subjects_per_label(a=6, b=6)
    subsets = {name: ("val" if name[-1] == "4" else "test" if name[-1] == "5" else "train") for name in names}
    return manifest_of(names, subsets=subsets)


def test_given_subsets_are_kept(given_subsets):
    assert split(given_subsets).method == "given"


@pytest.mark.parametrize(("first", "second"), [("train", "val"), ("train", "test"), ("val", "test")])
def test_given_subsets_that_share_a_subject_are_refused(given_subsets, first, second):
    table = given_subsets.table.copy()
    row = table.index[table["subset"] == first][0]
    table.loc[row, "subset"] = second
    with pytest.raises(LeakageError):
        split(replace(given_subsets, table=table))


def test_every_fold_holds_out_every_class_in_proportion():
    folds = kfold(manifest_of(subjects_per_label(a=50, b=25, c=10)), SplitConfig(folds=5))
    for fold in folds:
        tested = [name[0] for name in fold.subjects["test"]]
        assert {label: tested.count(label) for label in "abc"} == {"a": 10, "b": 5, "c": 2}


@pytest.mark.parametrize("column", ["sample", "label", "subject", "session", "slice", "subset", "digest"])
def test_the_digest_of_a_manifest_depends_on_each_of_its_columns(column):
    manifest = manifest_of(subjects_per_label(a=3, b=3))
    table = manifest.table.copy()
    table.loc[0, column] = 99 if column == "slice" else "b" if column == "label" else "other"
    assert replace(manifest, table=table).digest != manifest.digest


def images(folder, count: int, *, level=lambda number: number % 251) -> Manifest:
    """A manifest of constant images of 4 x 4, whose gray value tells the row."""
    rows = []
    for number in range(count):
        name = f"{number:04d}.png"
        pixels = np.full((4, 4), level(number), dtype=np.uint8)
        pixels[0, 0] = number // 251
        Image.fromarray(pixels).save(folder / name)
        label, digest = "ab"[number % 2], f"{folder}-{number}"
        rows.append({"sample": name, "path": name, "label": label, "subject": f"s{number}", "digest": digest})
    return Manifest.from_rows(pd.DataFrame(rows), root=folder, subject_kind="subject")


STEPS = {"steps": [{"step": "grayscale"}]}


@pytest.fixture
def many(tmp_path) -> Manifest:
    """300 images with true digests."""
    import hashlib

    manifest = images(tmp_path, 300)
    digests = [hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in manifest.table["path"]]
    return replace(manifest, table=manifest.table.assign(digest=pd.array(digests, dtype="string")))


def test_rows_of_the_store_are_those_of_the_manifest_beyond_one_shard(many, tmp_path, monkeypatch):
    monkeypatch.setattr(store_shards, "IMAGES", 128)
    store = open_store(many, PreprocessingConfig.model_validate(STEPS), cache=tmp_path / "cache")
    assert len(store) == 300
    expected = np.arange(300)
    np.testing.assert_array_equal(store.pixels[:, 0, 1, 1], expected % 251)
    np.testing.assert_array_equal(store.pixels[:, 0, 0, 0], expected // 251)
    assert store.statistics.shape == (300, 1, 4)


@pytest.mark.parametrize(
    "changed",
    [
        {**STEPS, "intensity": {"low": 2.0}},
        {**STEPS, "intensity": {"high": 97.0}},
        {**STEPS, "intensity": {"method": "histogram"}},
        {"steps": [{"step": "grayscale"}, {"step": "resize", "size": [3, 3]}]},
    ],
)
def test_another_preprocessing_is_another_store(changed, many, tmp_path):
    few = many.select(many.table["sample"].tolist()[:4])
    first = open_store(few, PreprocessingConfig.model_validate(STEPS), cache=tmp_path / "cache")
    other = open_store(few, PreprocessingConfig.model_validate(changed), cache=tmp_path / "cache")
    assert first.folder != other.folder


def test_other_parameters_of_a_volume_step_are_another_store(tmp_path):
    from gyrus.datasets.scan import scan
    from tests.support.heads import nifti, noise

    for label in ("a", "b"):
        for number in range(2):
            nifti(noise(seed=number), tmp_path / label / f"sub-{label}{number}_T1w.nii.gz")
    manifest = scan(tmp_path)
    steps = [{"volume": [{"step": "percentiles", "low": low, "high": 99.0}], "steps": []} for low in (0.5, 1.0)]
    folders = {
        open_store(manifest, PreprocessingConfig.model_validate(each), cache=tmp_path / "cache").folder
        for each in steps
    }
    assert len(folders) == 2


def test_intensity_scaling_is_fitted_on_the_training_set_only(tmp_path):
    statistics = np.zeros((6, 1, 4), dtype=np.float32)
    statistics[:, 0, 0] = [0.2, 0.2, 0.9, 0.9, 0.9, 0.9]
    statistics[:, 0, 1] = 0.1
    np.save(tmp_path / "statistics.npy", statistics)
    manifest = manifest_of(subjects_per_label(a=3, b=3), slices=1)
    names = manifest.table["sample"].tolist()
    members = {"train": tuple(names[:2]), "val": tuple(names[2:4]), "test": tuple(names[4:])}
    divided = Split(samples=members, subjects=members, unit="subject", method="holdout", seed=0, manifest_digest="")
    settings = ExperimentConfig.model_validate({"preprocessing": {"steps": [], "intensity": {"method": "dataset"}}})

    def fitted(values: np.ndarray) -> tuple[float, float]:
        np.save(tmp_path / "statistics.npy", values)
        data = DataModule.from_split(manifest, divided, Store(tmp_path), settings)
        shift, scale = data.normalisation.shift_and_scale(values[:1])
        return float(np.ravel(shift)[0]), float(np.ravel(scale)[0])

    elsewhere = statistics.copy()
    elsewhere[2:, 0, :2] = 0.5
    assert fitted(elsewhere) == fitted(statistics)
    inside = statistics.copy()
    inside[:2, 0, 0] = 0.4
    assert fitted(inside) != fitted(statistics)


@pytest.fixture
def augmented_data(tmp_path) -> DataModule:
    """Gradients, which every augmentation by a flip changes, in a training, validation and test set."""
    pixels = np.tile(np.linspace(0, 255, 8).astype(np.uint8), (12, 1, 8, 1))
    np.save(tmp_path / "pixels.npy", pixels)
    np.save(tmp_path / "statistics.npy", np.tile(np.float32([0.5, 0.3, 0.0, 1.0]), (12, 1, 1)))
    manifest = manifest_of(subjects_per_label(a=6, b=6), slices=1)
    digests = pd.array([f"{row:064x}" for row in range(len(manifest))], dtype="string")
    manifest = replace(manifest, table=manifest.table.assign(digest=digests))
    settings = ExperimentConfig.model_validate(
        {"preprocessing": {"steps": []}, "augmentation": {"steps": [{"step": "flip", "probability": 1.0}]}}
    )
    return DataModule.from_split(manifest, split(manifest), Store(tmp_path), settings)


def test_only_the_training_set_is_augmented(augmented_data, monkeypatch, tmp_path):
    passed = {}

    def fit(_model, train, val, *_args, **_options):
        passed.update(train=train, val=val)

    monkeypatch.setattr("gyrus.training.fit.fit", fit)
    fit_model(nn.Identity(), augmented_data, tmp_path, resume=False, display=SILENT)
    for subset, turned in (("train", True), ("val", False)):
        row = passed[subset][0].images[0, 0, 0]
        assert bool(row[0] > row[-1]) == turned


def test_predictions_are_of_images_without_augmentation(augmented_data):
    class LeftMinusRight(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.stack([images[:, 0, 0, 0], images[:, 0, 0, -1]], dim=1)

    for subset in SUBSETS:
        logits = augmented_data.predict(subset, LeftMinusRight(), torch.device("cpu"), SILENT).logits
        assert (logits[:, 0] < logits[:, 1]).all()


def rows_for_baselines(seed: int = 0) -> baselines.BaselineData:
    random = np.random.default_rng(seed)
    targets = np.tile([0, 1], 45)
    features = random.normal(size=(90, 40)) + 0.4 * targets[:, None]
    subsets = np.array(["train"] * 30 + ["val"] * 30 + ["test"] * 30, dtype=object)
    return baselines.BaselineData(features, targets, np.arange(90).astype(str).astype(object), subsets)


def test_the_constant_of_the_svm_is_chosen_on_the_validation_set(monkeypatch):
    """The best constant on the validation set is the worst on the test set, and the other way round."""

    def scores(_features, _targets, _evaluated, *rest):
        strength = rest[-1]
        right = {subset: rows.targets[rows.subsets == subset] for subset in ("val", "test")}
        best = strength == baselines.C_VALUES[-1]
        answers = [right["val"] if best else 1 - right["val"], 1 - right["test"] if best else right["test"]]
        return [np.eye(2)[each] for each in answers]

    rows = rows_for_baselines()
    monkeypatch.setattr(baselines, "_svm_scores", scores)
    about, logits = baselines.PIXEL_BASELINES["linear-svm"](rows, 0)
    assert f"{baselines.C_VALUES[-1]:g}" in about
    assert (logits.argmax(axis=1) != rows.targets[rows.subsets == "test"]).all()


@pytest.mark.parametrize("name", [*baselines.PIXEL_BASELINES, "metadata"])
def test_no_baseline_depends_on_labels_of_the_test_set(name):
    rows = rows_for_baselines()
    test = rows.subsets == "test"
    turned = replace(rows, targets=np.where(test, 1 - rows.targets, rows.targets))
    random = np.random.default_rng(1)
    table = pd.DataFrame({"age": 60 + 5 * rows.targets + random.normal(size=90), "sex": random.choice(["F", "M"], 90)})

    def logits(data: baselines.BaselineData) -> np.ndarray:
        if name == "metadata":
            return baselines._from_metadata(table, data)
        return baselines.PIXEL_BASELINES[name](data, 0)[1]

    np.testing.assert_array_equal(logits(rows), logits(turned))
    train = rows.subsets == "train"
    relearnt = replace(rows, targets=np.where(train, 1 - rows.targets, rows.targets))
    assert (logits(rows) != logits(relearnt)).any()


def test_the_permutation_test_counts_the_observed_difference():
    """With all predictions different and one always right, p is 1 / (1 + B), never 0 (Phipson and Smyth 2010)."""
    subjects = [f"s{number}" for number in range(40)]
    targets = ["a", "b"] * 20
    columns = {"classes": ["a", "b"], "split_unit": "subject", "subjects": subjects, "targets": targets}
    right = np.array([[2.0, 0.0], [0.0, 2.0]] * 20)
    first, second = (Predictions.from_logits(subjects, logits, **columns) for logits in (right, right[:, ::-1]))
    assert compare(first, second, metric="accuracy", resamples=99).p_value == pytest.approx(0.01)
    assert compare(first, first, metric="accuracy", resamples=99).p_value == 1.0


def test_the_decay_of_the_average_rises_from_its_first_update():
    """Weights 1, 2, 3 with decays 2/11, 3/12, 4/13 after weights 0, each the lower of it and the config's."""

    def weights(value: float) -> nn.Module:
        layer = nn.Linear(1, 1, bias=False)
        nn.init.constant_(layer.weight, value)
        return layer

    average = WeightAverage(weights(0.0))
    expected = 0.0
    for number, decay in ((1, 2 / 11), (2, 3 / 12), (3, 4 / 13)):
        average.update_exponentially(weights(number), EMA(decay=0.999))
        expected = decay * expected + (1 - decay) * number
        assert average.model.weight.item() == pytest.approx(expected)
    assert average.count == 3
    slow = WeightAverage(weights(0.0))
    slow.update_exponentially(weights(1.0), EMA(decay=0.1))
    assert slow.model.weight.item() == pytest.approx(0.9)


def test_the_equal_average_is_the_mean():
    average = WeightAverage(nn.Linear(1, 1))
    values = []
    for seed in range(4):
        torch.manual_seed(seed)
        latest = nn.Linear(1, 1)
        average.update_equally(latest)
        values.append(latest.weight.item())
    assert average.model.weight.item() == pytest.approx(np.mean(values), abs=1e-6)


def aligned_pair(correlation: float) -> AlignedPairs:
    """Rows 0 and 1 with a correlation after alignment."""
    one = np.array([0]), np.array([1]), np.array([0]), np.zeros((1, 2))
    return AlignedPairs(*one, np.array([correlation]))


@pytest.mark.parametrize(
    ("same_subject", "correlation", "found"),
    [(True, 0.99, False), (True, 0.998, True), (False, 0.99, True), (False, 0.98, False)],
)
def test_neighbouring_slices_of_a_subject_are_no_duplicates_but_such_images_of_two_subjects_are(
    same_subject, correlation, found
):
    manifest = manifest_of({"one": "a"} if same_subject else {"one": "a", "two": "b"}, slices=2 if same_subject else 1)
    nothing = Neighbours(
        np.zeros((2, 0), int), np.zeros((2, 0)), np.zeros((2, 0)), np.zeros((2, 0), bool), np.zeros((2, 1))
    )
    assert bool(find_duplicates(manifest, nothing, aligned_pair(correlation))) == found


def test_only_duplicates_in_two_subsets_count_as_leakage():
    manifest = manifest_of(subjects_per_label(a=4, b=4), slices=1)
    pairs = tuple(DuplicatePair(0, other, "identical file", 1.0) for other in (1, 2, 3))
    context = SimpleNamespace(
        manifest=manifest,
        duplicates=pairs,
        subsets=np.array(["train", "train", "test", "", "train", "train", "test", "test"]),
    )
    (finding,) = leakage._duplicates_across_subsets(context)
    assert finding.numbers == {"duplicate pairs across subsets": 1}
    assert [flag.sample for flag in finding.samples] == [manifest.table["sample"].iloc[2]]


HOSTILE = "!!python/object/apply:os.system ['touch {path}']"


def test_yaml_never_runs_code(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"seed: {HOSTILE.format(path=tmp_path / 'ran')}")
    with pytest.raises(ConfigError):
        read_document(path)
    with pytest.raises(ConfigError):
        read_assignments([f"seed={HOSTILE.format(path=tmp_path / 'ran')}"])
    assert not (tmp_path / "ran").exists()
