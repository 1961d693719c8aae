"""What a training would need is known, and refused, before anything is written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gyrus.datasets import splits
from gyrus.datasets.splits import SplitConfig
from gyrus.errors import ConfigError, DataError, SplitError
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.workflows import training_plan
from gyrus.workflows.display import SILENT
from gyrus.workflows.train import train
from gyrus.workflows.training_plan import (
    TrainingPlan,
    data_to_train,
    plan_training,
    require_classes,
    require_memory,
    require_two_classes,
)
from tests.support.manifests import manifest_of, subjects_per_label

SMALL = {"preprocessing.steps": [{"step": "grayscale"}], "training.batch_size": 32}
GIB = 2**30


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve synthetic subjects in two classes."""
    phantom = generate(subjects=12, slices=2, classes=2, size=32, seed=0)
    return write(phantom, tmp_path_factory.mktemp("data") / "phantom")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, which no plan creates."""
    monkeypatch.setenv("GYRUS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def memory_is(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    monkeypatch.setattr(training_plan, "available_memory", lambda: int(size))


@pytest.fixture
def plan(slices: Path, cache: Path) -> TrainingPlan:  # noqa: ARG001, set first
    return plan_training("dementia-baseline", data=slices, overrides=SMALL)


def test_a_plan_says_what_would_be_trained_and_writes_nothing(plan, cache):
    text = plan.text()
    for part in ("24 images", "subjects", "32 x 32, 1 channel", "baseline-cnn", "10 epochs"):
        assert part in text
    assert f"{plan.memory.parameters:,} weights" in text
    assert "available: " in text
    assert "per epoch, at most" in text  # the recipe stops early
    assert plan.seconds is not None
    assert not cache.exists()


def test_too_little_memory_is_refused_before_anything_is_written(slices, cache, tmp_path, monkeypatch):
    memory_is(monkeypatch, 0.25 * GIB)
    with pytest.raises(ConfigError, match="256 MiB are available on this machine") as error:
        train("dementia-baseline", data=slices, out=tmp_path / "run", overrides=SMALL)
    assert "smaller images, now 32 x 32" in str(error.value)
    assert not (tmp_path / "run").exists()
    assert not cache.exists()


def test_a_plan_that_does_not_fit_is_shown_and_not_timed(slices, monkeypatch):
    memory_is(monkeypatch, 0.25 * GIB)
    plan = plan_training("dementia-baseline", data=slices, overrides=SMALL)
    assert plan.seconds is None
    assert "does not suffice" in plan.text()
    with pytest.raises(ConfigError, match="to train anyway"):
        plan.require_memory()


def test_the_largest_batch_that_fits_is_named(plan, monkeypatch):
    volumes = (1, 32, 64, 64)
    memory_is(monkeypatch, 1.2 * GIB)
    with pytest.raises(ConfigError, match=r"a batch of (4|8|16) instead of 32") as error:
        require_memory(plan.settings, volumes, classes=2, images=24)
    assert "--recipe small-cnn3d" in str(error.value)
    batch_size = int(str(error.value).split("training.batch_size=")[1].split(";")[0])
    for size, fits in ((batch_size, True), (2 * batch_size, False)):
        training = plan.settings.training.model_copy(update={"batch_size": size})
        settings = plan.settings.model_copy(update={"training": training})
        if fits:
            require_memory(settings, volumes, classes=2, images=24)
        else:
            with pytest.raises(ConfigError):
                require_memory(settings, volumes, classes=2, images=24)


def test_the_check_can_be_turned_off(plan, monkeypatch):
    memory_is(monkeypatch, 0)
    training = plan.settings.training.model_copy(update={"check_memory": False})
    require_memory(plan.settings.model_copy(update={"training": training}), (1, 32, 32), classes=2, images=24)


def test_baselines_are_counted(plan, monkeypatch):
    memory_is(monkeypatch, 2 * GIB)
    require_memory(plan.settings, (1, 32, 32), classes=2, images=24)
    with pytest.raises(ConfigError, match="baselines on 1,000,000 images"):
        require_memory(plan.settings, (1, 32, 32), classes=2, images=1_000_000)


def test_one_class_is_refused_with_its_size_and_the_way_out():
    with pytest.raises(DataError, match=r"only one class, 'AD' \(6 images of 2 subjects\).*one folder per class"):
        require_classes(manifest_of(subjects_per_label(AD=2)))
    require_classes(manifest_of(subjects_per_label(AD=2, CN=1)))


@pytest.mark.parametrize("unit", ["subject", "image"])
def test_too_few_of_a_class_are_counted_in_the_unit_of_the_split(unit):
    few = manifest_of(subjects_per_label(AD=1, CN=1), slices=8 if unit == "subject" else 1)
    with pytest.raises(SplitError, match=rf"2 {unit}s \(1 AD, 1 CN\). Each class needs at least 3 {unit}s"):
        splits.split(few, SplitConfig(unit=unit))


def test_a_training_set_of_one_class_is_refused_before_training():
    uneven = manifest_of(subjects_per_label(AD=6, CN=1))
    with pytest.raises(
        SplitError, match=r"only class 'AD' in its validation set; the data have 7 subjects \(6 AD, 1 CN"
    ):
        require_two_classes(uneven, splits.split(uneven), "The split")


def test_a_plan_leaves_out_the_samples_that_training_leaves_out(cache, tmp_path, monkeypatch):
    monkeypatch.setattr("gyrus.workflows.training_plan.forecast_seconds", lambda *_: 0.0)
    for number in range(13):
        size = 20 if number == 12 else 16  # without a step that resizes, one image of another size cannot be used
        folder = tmp_path / "data" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (size, size)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"sub-{number:02d}.png")
    changes = {"preprocessing.steps": [{"step": "grayscale"}], "data.on_bad_file": "skip", "training.device": "cpu"}

    plan = plan_training(data=tmp_path / "data", overrides=changes)
    assert len(plan.manifest) == 12
    assert not list(cache.rglob("*.npy"))
    trained, split = data_to_train(plan.settings, SILENT)
    assert trained.digest == plan.manifest.digest
    assert split == plan.split
