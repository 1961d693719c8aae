"""Cross-validation: the subjects of each fold, finished folds, errors, and texts."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.datasets.store import open_store
from gyrus.errors import ConfigError, DataError, RunError, SplitError
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.result import Evaluation, verdict
from gyrus.inference.pooling import average_predictions
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.types import SUBSETS
from gyrus.workflows import crossval as module
from gyrus.workflows.baselines import predict_baselines, save_baseline_predictions
from gyrus.workflows.compare import find_runs, read_entry
from gyrus.workflows.crossval import assign_folds, crossval
from gyrus.workflows.crossval_folder import CrossValidation
from gyrus.workflows.ensemble import ensemble
from gyrus.workflows.experiment_config import ExperimentConfig, load_config
from tests.conftest import SMALL
from tests.support.manifests import manifest_of, subjects_per_label

QUICK = {**SMALL, "training.epochs": 1, "evaluation.baselines": False, "preprocessing.steps.1.size": [16, 16]}


class Choice:
    """A choice of the config that does not look at the display."""

    def __init__(self, choose: Callable[..., ExperimentConfig]) -> None:
        self.choose = choose

    def __call__(self, *given: Any) -> ExperimentConfig:
        return self.choose(*given[:-1])

    def check(self, config: ExperimentConfig) -> None:
        pass

    def describe(self) -> dict[str, Any]:
        return {"choice": "of a test"}


counts = st.integers(min_value=4, max_value=15)


@pytest.fixture(scope="module", autouse=True)
def _no_pages_of_folds() -> Iterator[None]:
    """Leave out the pages and maps of single runs: they have tests of their own, and take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gyrus.workflows.evaluate.report_run", lambda *_: None)
        for name in ("save_examples", "save_embeddings"):
            patch.setattr(f"gyrus.workflows.train.{name}", lambda *_, **__: None)
        yield


@pytest.fixture(scope="module")
def crossed(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> CrossValidation:
    """Three folds of the small phantom; read only."""
    out = tmp_path_factory.mktemp("crossval") / "folds"
    return crossval("dementia-baseline", data=phantom_folder, out=out, folds=3, overrides=QUICK)


@settings(max_examples=8, deadline=None)
@given(sick=counts, healthy=counts, seed=st.integers(0, 1000), folds=st.integers(2, 4))
def test_each_subject_is_tested_once_per_repeat_and_is_in_one_subset(sick, healthy, seed, folds):
    manifest = manifest_of(subjects_per_label(sick=sick, healthy=healthy, more=4))
    dealt = assign_folds(ExperimentConfig(seed=seed), manifest, folds=folds, repeats=2)
    everyone = sorted(manifest.table["subject"].unique())
    for repeat in range(2):
        tested = [name for fold in range(folds) for name in dealt[repeat, fold][1].subjects["test"]]
        assert sorted(tested) == everyone
    for config, subsets in dealt.values():
        names = [name for subset in SUBSETS for name in subsets.subjects[subset]]
        assert sorted(names) == everyone
        assert config.split.fold == subsets.fold
    again = assign_folds(ExperimentConfig(seed=seed), manifest, folds=folds, repeats=2)
    assert [subsets for _, subsets in again.values()] == [subsets for _, subsets in dealt.values()]


def test_repeats_assign_other_folds_and_a_fold_can_be_trained_by_its_config_alone():
    from gyrus.datasets.splits import split

    manifest = manifest_of(subjects_per_label(a=12, b=12))
    dealt = assign_folds(ExperimentConfig(), manifest, folds=3, repeats=2)
    assert dealt[0, 0][1].subjects != dealt[1, 0][1].subjects
    for config, subsets in dealt.values():
        assert split(manifest, config.split, seed=config.seed) == subsets


def test_out_of_fold_predictions_are_those_of_the_folds_for_their_test_sets(crossed):
    everybody = crossed.predictions()
    manifest = Manifest.load(crossed.folder / "manifest.parquet")
    assert sorted(everybody.table["sample"]) == sorted(manifest.table["sample"])
    for fold, run in enumerate(crossed.runs):
        own = everybody.select(everybody.table["fold"] == fold)
        np.testing.assert_array_equal(own.logits, Predictions.load(run.predictions("test")).logits)
        assert set(own.table["subject"]) == set(Split.load(run.split).subjects["test"])
        assert load_config(run.config).split.fold == fold
    pooled = evaluate(everybody, resamples=50)
    assert crossed.pooled[0].scores == pooled.scores
    by_fold = pd.read_csv(crossed.table).query("unit == 'subject'")["accuracy"]
    expected = [Evaluation.load(run.metrics).headline.metrics["accuracy"].value for run in crossed.runs]
    np.testing.assert_allclose(by_fold, expected)


def test_a_cross_validation_counts_as_one_classifier_in_a_comparison(crossed):
    assert find_runs(crossed.folder.parent) == ([crossed.folder], [])
    entry = read_entry(crossed.folder, "folds")
    assert len(entry.test) == len(crossed.predictions())
    assert entry.facts["Model"] == "baseline-cnn, 3 folds"


def test_baselines_of_all_folds_are_evaluated_on_all_subjects_at_once(crossed, phantom_folder, tmp_path):
    folder = Path(shutil.copytree(crossed.folder, tmp_path / "folds"))
    for number, kept in enumerate(crossed.runs):
        manifest, subsets = Manifest.load(kept.manifest), Split.load(kept.split)
        store = open_store(manifest, load_config(kept.config).preprocessing)
        run = Run(folder / "repeat-0" / f"fold-{number}")
        save_baseline_predictions(run, *predict_baselines(manifest, subsets, store, seed=0))
    found = crossval("dementia-baseline", data=phantom_folder, out=folder, folds=3, overrides=QUICK)
    assert crossed.baselines is None
    assert found.baselines is not None
    assert found.baselines == CrossValidation.load(folder).baselines
    for name, baseline in found.baselines.results.items():
        joined = Predictions.load(Run(folder).predictions(f"baseline-{name}"))
        assert sorted(joined.table["subject"]) == sorted(manifest.table["subject"].unique())
        assert baseline.scores["accuracy"].value == pytest.approx((joined.predicted == joined.targets).mean())
    sentences = verdict(found.pooled[0], found.baselines)
    assert found.text().splitlines()[2] == sentences[0]
    assert all(sentence.replace("'", "&#39;") in found.report.read_text() for sentence in sentences)


def test_the_text_explains_the_scores_of_folds(crossed):
    for text in (crossed.text(), crossed.report.read_text()):
        assert "not independent" in text
        assert "as the mean of the folds and" in text
    assert "nan" not in crossed.text().lower()


def test_saved_and_loaded_is_the_same(crossed):
    loaded = CrossValidation.load(crossed.folder)
    assert loaded.pooled == crossed.pooled
    pd.testing.assert_frame_equal(loaded.scores, crossed.scores)
    assert loaded.text() == crossed.text()


def test_finished_folds_are_kept_and_the_others_predict_the_same(crossed, phantom_folder, tmp_path, monkeypatch):
    train_on, out = module.train_on_split, tmp_path / "folds"
    copied = iter(crossed.runs[:2])

    def stopped(*_: object, **keywords: object) -> Run:
        run = next(copied, None)
        if run is None:
            raise KeyboardInterrupt
        return Run(Path(shutil.copytree(run.folder, str(keywords["out"]))))

    arguments = {"data": phantom_folder, "out": out, "folds": 3, "overrides": QUICK}
    monkeypatch.setattr(module, "train_on_split", stopped)
    with pytest.raises(KeyboardInterrupt):
        crossval("dementia-baseline", **arguments)
    with pytest.raises(RunError, match="has not finished"):
        CrossValidation.load(out)
    with pytest.raises(RunError, match="no finished run"):
        find_runs(out.parent)
    monkeypatch.setattr(module, "train_on_split", train_on)
    before = Run(out / "repeat-0" / "fold-1").weights.stat().st_mtime_ns
    again = crossval("dementia-baseline", **arguments)
    assert again.runs[1].weights.stat().st_mtime_ns == before
    np.testing.assert_array_equal(again.predictions().logits, crossed.predictions().logits)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"overrides": {**QUICK, "training.batch_size": 8}}, "which differs in training.batch_size"),
        ({"folds": 4}, "which differs in folds"),
        ({"choose": Choice(lambda config, *_: config)}, "which differs in nested"),
    ],
)
def test_another_cross_validation_is_refused(crossed, phantom_folder, changes, words):
    arguments = {"data": phantom_folder, "out": crossed.folder, "folds": 3, "overrides": QUICK} | changes
    with pytest.raises(RunError, match=words):
        crossval("dementia-baseline", **arguments)


def test_other_data_and_other_folders_are_refused(crossed, phantom_folder, tmp_path):
    fewer = Path(shutil.copytree(phantom_folder, tmp_path / "fewer"))
    sorted(fewer.rglob("*.png"))[0].unlink()
    with pytest.raises(RunError, match="which differs in manifest"):
        crossval("dementia-baseline", data=fewer, out=crossed.folder, folds=3, overrides=QUICK)
    with pytest.raises(RunError, match="not an empty folder"):
        crossval("dementia-baseline", data=phantom_folder, out=phantom_folder, overrides=QUICK)
    with pytest.raises(SplitError, match="at most the 24 units"):
        crossval("dementia-baseline", data=phantom_folder, out=tmp_path / "new", folds=30, overrides=QUICK)
    with pytest.raises(ConfigError, match="2 or more folds"):
        crossval("dementia-baseline", data=phantom_folder, out=tmp_path / "new", folds=1, overrides=QUICK)
    assert not (tmp_path / "new").exists()


def test_the_choice_of_a_nested_fold_sees_no_subject_of_its_test_set(phantom_folder, tmp_path):
    seen: list[set[str]] = []

    def choose(config: ExperimentConfig, manifest: Manifest, subsets: Split, folder: Path) -> ExperimentConfig:
        seen.append(set(manifest.table["subject"]))
        assert not subsets.samples["test"]
        assert seen[-1] == {*subsets.subjects["train"], *subsets.subjects["val"]}
        assert not folder.exists()
        rate = 0.01 * len(seen)
        optimiser = config.training.optimiser.model_copy(update={"lr": rate})
        return config.model_copy(update={"training": config.training.model_copy(update={"optimiser": optimiser})})

    arguments = {"data": phantom_folder, "out": tmp_path / "nested", "folds": 2, "overrides": QUICK}
    nested = crossval("dementia-baseline", choose=Choice(choose), **arguments)
    for number, (run, known) in enumerate(zip(nested.runs, seen, strict=True), 1):
        split = Split.load(run.split)
        assert known == {*split.subjects["train"], *split.subjects["val"]}
        assert load_config(run.config).training.optimiser.lr == 0.01 * number
    crossval("dementia-baseline", choose=Choice(choose), **arguments)
    assert len(seen) == 2


def test_a_nested_choice_must_not_change_the_split(phantom_folder, tmp_path):
    def choose(config: ExperimentConfig, *_: object) -> ExperimentConfig:
        return config.model_copy(update={"split": config.split.model_copy(update={"fold": 0, "val": 0.5})})

    with pytest.raises(ConfigError, match="must not change `data` or `split`"):
        crossval(
            "dementia-baseline",
            data=phantom_folder,
            out=tmp_path / "x",
            folds=2,
            overrides=QUICK,
            choose=Choice(choose),
        )


def test_two_subjects_in_one_class_of_three_are_reported(tmp_path):
    data = write(generate(subjects=18, slices=2, classes=3, size=32, seed=0), tmp_path / "data")
    rare = sorted(path for path in data.iterdir() if path.is_dir())[-1]
    for path in rare.iterdir():
        if path.name.split("_")[0] not in sorted({other.name.split("_")[0] for other in rare.iterdir()})[:2]:
            path.unlink()
    found = crossval("dementia-baseline", data=data, out=tmp_path / "folds", folds=3, overrides=QUICK)
    assert f"Class '{rare.name}' has 2 subjects for 3 folds" in found.text()
    assert "nan" not in found.text().lower()


def test_folds_with_one_class_in_a_subset_are_refused_before_training():
    few = manifest_of(subjects_per_label(many=20, few=2))
    with pytest.raises(SplitError, match=r"only class 'many' in its validation set.*at least 3 subjects"):
        assign_folds(ExperimentConfig(), few, folds=5, repeats=1)
    assert (
        len(assign_folds(ExperimentConfig(), manifest_of(subjects_per_label(many=17, few=3)), folds=5, repeats=2)) == 10
    )


@pytest.fixture(scope="module")
def two_over_the_same_folds(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    out = tmp_path_factory.mktemp("crossvals")
    return [
        crossval(
            "dementia-baseline",
            data=phantom_folder,
            out=out / f"seed-{seed}",
            folds=2,
            overrides={**QUICK, "split.seed": 0, "seed": seed},
        ).folder
        for seed in (0, 1)
    ]


def test_cross_validations_over_the_same_folds_are_averaged_fold_by_fold(two_over_the_same_folds, tmp_path):
    found = ensemble(two_over_the_same_folds, out=tmp_path / "together")
    tables = [CrossValidation.load(folder).predictions() for folder in two_over_the_same_folds]
    together = Predictions.load(found.predictions)
    assert set(together.table["sample"]) == set(tables[0].table["sample"])
    np.testing.assert_allclose(together.probabilities, average_predictions(tables).probabilities, atol=1e-12)
    assert np.abs(tables[0].probabilities - average_predictions(tables).probabilities).max() > 1e-6
    assert "2 cross-validations over the same folds" in found.text()
    assert len(read_entry(found.folder, "both").test) == len(together)


def test_cross_validations_over_other_folds_are_refused(two_over_the_same_folds, phantom_folder, tmp_path):
    other = tmp_path / "other"
    changes = {**QUICK, "split.seed": 1}
    crossval("dementia-baseline", data=phantom_folder, out=other, folds=2, overrides=changes)
    with pytest.raises(DataError, match="The test sets differ"):
        ensemble([two_over_the_same_folds[0], other], out=tmp_path / "x")
    with pytest.raises(ConfigError, match="can only have equal weights"):
        ensemble(two_over_the_same_folds, out=tmp_path / "x", weights="validation")
    assert not (tmp_path / "x").exists()
