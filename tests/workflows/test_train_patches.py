"""A run on patches from start to end: trained, evaluated, loaded, used for prediction, explained."""

from __future__ import annotations

import numpy as np
import pytest

from gyrus.errors import ConfigError
from gyrus.inference.patchwise import PatchwiseClassifier
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.workflows.explain.config import ExplainConfig
from gyrus.workflows.explain.explain import explain
from gyrus.workflows.predict import TrainedClassifier, predict
from gyrus.workflows.train import train
from tests.conftest import SMALL

VOLUMES = {"data.stack.slices": 4, "data.patches.size": [4, 16, 16], "data.patches.per_volume": 2}
SLICES = {"data.patches.size": [16, 16], "data.patches.per_volume": 1}
QUICK = {**SMALL, "evaluation.baselines": False}


@pytest.fixture(scope="module", params=[VOLUMES, SLICES], ids=["3d", "2d"])
def run(request, phantom_folder, tmp_path_factory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "run"
    return train("dementia-baseline", data=phantom_folder, out=out, overrides={**QUICK, **request.param})


def test_a_saved_network_is_loaded_as_it_was(run):
    model = TrainedClassifier.load(run).model
    assert isinstance(model, PatchwiseClassifier)
    assert model.signature.image_size[-2:] == (32, 32)
    assert model.patches.size[-2:] == (16, 16)


def test_predictions_for_the_same_images_are_the_same(run, phantom_folder):
    test = Predictions.load(run.predictions("test")).table.set_index("sample")
    again = predict(run, [phantom_folder], device="cpu").table
    again["sample"] = [name.removeprefix(f"{phantom_folder}/") for name in again["sample"]]
    again = again.set_index("sample").loc[test.index]
    columns = [column for column in test if column.startswith("logit:")]
    assert columns
    np.testing.assert_allclose(again[columns], test[columns], atol=1e-5)


def test_the_same_seed_gives_the_same_network(phantom_folder, tmp_path):
    overrides = {**QUICK, **VOLUMES, "training.epochs": 1, "training.device": "cpu"}
    runs = [train("dementia-baseline", data=phantom_folder, out=tmp_path / name, overrides=overrides) for name in "ab"]
    assert runs[0].weights.read_bytes() == runs[1].weights.read_bytes()


def test_methods_that_need_no_layer_explain_it_and_others_say_why_not(run, tmp_path):
    config = ExplainConfig(methods=("integrated-gradients",), shown=1, images=2, checks=False)
    assert explain(run, config=config, out=tmp_path / "e").report.exists()
    with pytest.raises(ConfigError, match="needs no layer"):
        explain(run, config=ExplainConfig(methods=("grad-cam",), shown=1, images=2), out=tmp_path / "f")


def test_a_patch_larger_than_the_images_is_refused_before_training(phantom_folder, tmp_path):
    with pytest.raises(ConfigError, match="does not fit into images of"):
        train(
            "dementia-baseline",
            data=phantom_folder,
            out=tmp_path / "run",
            overrides={**QUICK, "data.patches.size": [48, 48]},
        )
