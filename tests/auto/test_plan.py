from __future__ import annotations

from dataclasses import replace

import pytest

from gyrus.auto.candidates import CANDIDATES
from gyrus.auto.fingerprint import Fingerprint, Machine
from gyrus.auto.plan import AutoOptions, Plan, make_plan, planned_pieces
from gyrus.errors import ConfigError, DataError, UnknownNameError
from gyrus.workflows.experiment_config import ExperimentConfig, load_config

HEADS = Fingerprint(
    data="heads",
    digest="0" * 64,
    kind="slices",
    images=5120,
    subjects=160,
    subject_kind="subject",
    images_per_subject=(32, 32.0, 32),
    classes={"Non": 80, "Dementia": 80},
    ordered=False,
    given_test=0,
    slices_per_scan=32,
    sizes=((128, 128), (128, 128)),
    spacing=None,
    contrast=80.0,
    noise=60.0,
    spread=0.005,
    registered=True,
    shows="brain",
    ages=None,
    sites={},
    columns=(),
    table_columns=(),
    findings=(),
    measured=1000,
    machine=Machine(2, 2**34, None),
)
WHOLE = {"kind": "volumes", "shows": "head", "registered": False, "slices_per_scan": 0}
FLAT = {"slices_per_scan": 0, "shows": None, "registered": None}
TABLE = {"kind": "table", "slices_per_scan": 0, "shows": None, "registered": None, "table_columns": ("age",)}


@pytest.fixture
def volumetry(monkeypatch):
    monkeypatch.setattr("gyrus.auto.candidates.volumetry_installed", lambda: True)


MASKS = {**WHOLE, "shows": None, "registered": None, "masks": True, "sizes": ((28, 28, 28), (28, 40, 28))}

ALWAYS = {"linear-voxels", "svm-voxels", "random-convolutions"}
REGIONS = {"region-volumes", "svm-region-volumes", "trees-region-volumes"}
TISSUE = {"tissue-fractions", "linear-tissue-maps", "trees-tissue-maps"}


@pytest.mark.usefixtures("volumetry")
@pytest.mark.parametrize(
    ("facts", "used"),
    [
        ({}, ALWAYS | TISSUE | {"fluid-cnn", "slice-cnn", "volume-cnn"}),
        ({"registered": False}, ALWAYS | TISSUE | {"slice-cnn", "volume-cnn"}),
        ({"shows": "head"}, ALWAYS | {"tissue-fractions", "slice-cnn", "volume-cnn"}),
        (WHOLE, ALWAYS | REGIONS | {"tissue-fractions", "volume-cnn"}),
        (FLAT, ALWAYS | {"slice-cnn"}),
        ({"subjects": 24, "classes": {"a": 12, "b": 12}}, ALWAYS | TISSUE),
        ({"table_columns": ("age",)}, ALWAYS | TISSUE | {"table", "fluid-cnn", "slice-cnn", "volume-cnn"}),
        (TABLE, {"table"}),
        (MASKS, {"linear-voxels", "svm-voxels", "shape", "shape-convolutions", "volume-cnn"}),
    ],
)
def test_candidates_follow_the_data(facts, used):
    plan = make_plan(replace(HEADS, **facts), AutoOptions())
    assert {each.name for each in plan.used} == used
    assert {each.name for each in plan.candidates} == set(CANDIDATES)
    assert all(each.reason for each in plan.candidates)
    assert all(decision.reason for decision in plan.decisions)
    for each in plan.used:
        assert isinstance(each.settings, ExperimentConfig)
        assert bool(each.settings.data.table_columns) == (
            each.name == "table" and "age" in each.settings.data.table_columns
        )
        if each.name in ALWAYS and facts is FLAT:
            assert each.settings.data.stack is None


@pytest.mark.parametrize(("side", "network"), [(28, "small-cnn2d"), (224, "dementia-baseline")])
def test_single_images_get_recipes_for_single_images(side, network):
    single = {"images_per_subject": (1, 1.0, 1), "sizes": ((28, 28), (side, side))}
    plan = make_plan(replace(HEADS, **FLAT, **single), AutoOptions())
    found = {each.name: each.settings.model for each in plan.used}
    assert found["random-convolutions"] == load_config("random-convolutions-images").model
    assert found["slice-cnn"] == load_config(network).model


def test_the_network_for_masks_crops_none_of_them():
    plan = make_plan(replace(HEADS, **MASKS), AutoOptions())
    (found,) = [each.settings for each in plan.used if each.name == "volume-cnn"]
    assert found.model == load_config("small-cnn3d-masks").model
    assert found.preprocessing.volume[-1].size == (32, 40, 32)


@pytest.mark.parametrize(("facts", "features"), [({}, "tissue-maps"), (WHOLE, "tissue-fractions")])
def test_fractions_of_tissues_are_by_thresholds_in_brains_and_by_a_mixture_in_heads_with_skull(facts, features):
    plan = make_plan(replace(HEADS, **facts), AutoOptions())
    (found,) = [each.settings for each in plan.used if each.name == "tissue-fractions"]
    assert found.model.options["features"] == [features]


@pytest.mark.parametrize(
    ("classes", "folds"),
    [
        ({"a": 80, "b": 80}, 5),
        ({"a": 80, "b": 21}, 4),
        ({"a": 80, "b": 16}, 3),
        ({"a": 80, "b": 56, "c": 22, "d": 2}, 4),  # a class of two subjects does not decide
        ({"a": 1500, "b": 900}, 3),
        ({"a": 5, "b": 5}, 3),
    ],
)
def test_folds_follow_the_rarest_class(classes, folds):
    plan = make_plan(replace(HEADS, classes=classes, subjects=sum(classes.values())), AutoOptions())
    assert plan.folds == folds


def test_subjects_with_images_of_both_classes_count_once():
    """Whether a slice shows a lesion differs between the slices of a subject."""
    plan = make_plan(replace(HEADS, **FLAT, subjects=17, classes={"lesion": 17, "none": 17}), AutoOptions())
    assert not {"slice-cnn"} & {each.name for each in plan.used}
    assert "17 subjects are too few for a network" in plan.text()
    assert "class 'lesion' has 17 subjects: 5 or more a fold" in plan.text()


def test_volumes_of_regions_need_the_dependencies_of_volumetry(monkeypatch):
    monkeypatch.setattr("gyrus.auto.candidates.volumetry_installed", lambda: False)
    plan = make_plan(replace(HEADS, **WHOLE), AutoOptions())
    assert not REGIONS & {each.name for each in plan.used}
    assert "[volumetry]'" in plan.text()


def test_a_given_test_set_replaces_the_outer_folds():
    assert make_plan(HEADS, AutoOptions()).outer == "folds"
    plan = make_plan(replace(HEADS, given_test=98), AutoOptions())
    assert plan.outer == "given"
    assert "98 test images" in plan.text()


def test_copies_that_share_a_fold_are_named():
    assert "copies:" not in make_plan(HEADS, AutoOptions()).text()
    plan = make_plan(replace(HEADS, near_copies=(142, 67)), AutoOptions())
    assert "142 images in 67 groups" in plan.text()


def test_every_line_can_be_overridden():
    overrides = {"split.val": 0.25, "slice-cnn.training.epochs": 3, "evaluation.resamples": 99}
    options = AutoOptions(minutes=5, folds=3, metric="balanced_accuracy", seed=4)
    plan = make_plan(HEADS, options, overrides, data="slices")
    assert (plan.folds, plan.metric, plan.seed, plan.minutes) == (3, "balanced_accuracy", 4, 5)
    settings = {each.name: each.settings for each in plan.used}
    assert settings["slice-cnn"].training.epochs == 3 != settings["volume-cnn"].training.epochs
    assert all(one.split.val == 0.25 and one.seed == 4 and one.data.path == "slices" for one in settings.values())
    named = make_plan(HEADS, AutoOptions(candidates=("linear-voxels",)))
    assert [each.name for each in named.used] == ["linear-voxels"]
    names = ("pretrained-features", "fine-tuned")
    weights = make_plan(HEADS, AutoOptions(), {f"{name}.model.pretrained": "weights.safetensors" for name in names})
    assert {*names} <= {each.name for each in weights.used}
    tuned = next(each.settings for each in weights.used if each.name == "fine-tuned")
    assert (tuned.model.pretrained, tuned.model.name) == ("weights.safetensors", "timm:resnet18")


def test_the_plan_is_a_function_of_its_inputs_and_is_saved(tmp_path):
    plan = make_plan(HEADS, AutoOptions())
    plan.save(tmp_path / "plan.json")
    HEADS.save(tmp_path / "fingerprint.json")
    assert Plan.load(tmp_path / "plan.json") == plan == make_plan(HEADS, AutoOptions())
    assert Fingerprint.load(tmp_path / "fingerprint.json") == HEADS


def test_what_cannot_be_planned_is_refused_in_words():
    with pytest.raises(DataError, match="needs at least 9"):
        make_plan(replace(HEADS, classes={"a": 4, "b": 4}, subjects=8), AutoOptions())
    with pytest.raises(ConfigError, match="No candidate suits these data"):
        make_plan(replace(HEADS, **TABLE | {"table_columns": ()}), AutoOptions())
    with pytest.raises(ConfigError, match="above 0"):
        AutoOptions(minutes=0)
    with pytest.raises(ConfigError, match="3 or more, got 2"):
        AutoOptions(folds=2)
    with pytest.raises(UnknownNameError, match="slice-cnn"):
        AutoOptions(candidates=("slise-cnn",))


def test_pairs_of_folds_serve_both_outer_folds():
    assert planned_pieces(3, "folds", several=True) == [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    assert len(planned_pieces(5, "folds", several=True)) == 15
    assert planned_pieces(3, "given", several=True) == planned_pieces(3, "folds", several=False) == [(0,), (1,), (2,)]
