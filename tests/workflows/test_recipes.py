"""Every recipe, shrunk, from files to a report."""

from __future__ import annotations

from pathlib import Path

import pytest

from gyrus.evaluation.result import Evaluation
from gyrus.models.build import build
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.workflows.experiment_config import load_config, recipes
from gyrus.workflows.train import train

SIZE = {"step": "resize", "size": [32, 32]}


@pytest.fixture(scope="session")
def few_slices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve synthetic subjects in four classes, two slices each."""
    phantom = generate(subjects=12, slices=2, classes=4, size=32, seed=0)
    return write(phantom, tmp_path_factory.mktemp("data") / "phantom")


def shrunk(name: str) -> dict[str, object]:
    """Overrides that leave everything of a recipe in place but its size."""
    config = load_config(name)
    colour = "rgb" if any(step.step == "rgb" for step in config.preprocessing.steps) else "grayscale"
    overrides: dict[str, object] = {
        "preprocessing.steps": [{"step": colour}, SIZE],
        "model.pretrained": False,
        "training.epochs": 2 if config.training.averaging else 1,
        "training.batch_size": 8,
        "training.precision": "32-true",
        "evaluation.resamples": 0,
    }
    if config.model.classical:
        overrides |= {"model.options.kernels": 10, "model.options.C": 1.0}
    if config.data.stack:
        whole = config.data.stack.slices == 32  # its slices are stepped over, so that two would be too few
        overrides |= {"data.stack.short": "pad", "split.val": 0.2} if whole else {"data.stack.slices": 2}
    if config.model.name.startswith("convnext"):
        overrides |= {"model.options.depths": [1, 1, 1, 1], "model.options.dims": [4, 8, 16, 32]}
    if config.training.mixing:
        overrides["training.mixing.first_epoch"] = 1
    return overrides


WITH_PAGE = ("adni-convnext3d", "neuroflux-cnn", "dementia-exp8")
"""Pages and baselines take longer than the training, and depend on data and scores, not on the recipe."""


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_runs_from_files_to_a_report(name, few_slices, tmp_path, monkeypatch):
    overrides = shrunk(name)
    if name not in WITH_PAGE:
        monkeypatch.setattr("gyrus.workflows.evaluate.report_run", lambda *_: None)
        overrides["evaluation.baselines"] = False
    run = train(name, data=few_slices, out=tmp_path / "run", overrides=overrides)
    assert run.status == "finished"
    evaluation = Evaluation.load(run.metrics)
    assert evaluation.split_unit == "subject"
    assert sum(evaluation.headline.class_counts.values()) == (3 if load_config(name).data.merge else 4)
    assert run.report.exists() == (name in WITH_PAGE)


PUBLISHED = {
    # Name: channels, image size, classes, parameters in all, trainable ones; counted from the originals.
    "adni-convnext3d": (1, (20, 224, 224), 2, 671_730, 671_730),
    "adni-convnext2d-bn": (3, (224, 224), 2, 27_821_666, 27_821_666),
    "neuroflux-resnet50": (3, (224, 224), 5, 24_560_709, 23_115_781),
    "neuroflux-cnn": (3, (224, 224), 5, 13_235_013, 13_235_013),
    "dementia-baseline": (1, (128, 128), 4, 8_408_132, 8_408_132),
    "dementia-dropout": (1, (128, 128), 4, 8_408_260, 8_408_260),
    "dementia-less-dropout": (1, (128, 128), 4, 8_408_260, 8_408_260),
    "dementia-dense-dropout": (1, (128, 128), 4, 8_408_260, 8_408_260),
    "dementia-deep": (1, (128, 128), 4, 4_288_068, 4_288_068),
    "dementia-deep-plain": (1, (128, 128), 4, 4_288_068, 4_288_068),
    "dementia-conv5": (1, (128, 128), 4, 2_110_724, 2_110_724),
    "dementia-study": (1, (128, 128), 4, 27_575_060, 27_575_060),
    "dementia-keras-like": (1, (128, 128), 4, 2_618_052, 2_618_052),
    "dementia-gpt": (1, (128, 128), 4, 4_276_004, 4_276_004),
    "dementia-resnet50": (3, (128, 128), 4, 23_516_228, 14_972_932),
    "dementia-resnet50-gray": (1, (128, 128), 4, 23_509_956, 14_972_932),
    "dementia-efficientnet-b3": (3, (224, 224), 4, 11_485_228, 11_485_228),
    "dementia-exp0": (3, (224, 224), 4, 24_559_172, 24_559_172),
    "dementia-exp4": (3, (224, 224), 4, 9_804_550, 5_078_224),
    "dementia-exp8": (3, (224, 224), 4, 10_053_854, 6_600_176),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_has_the_parameters_of_its_original(name):
    import torch

    channels, image_size, classes, total, trainable = PUBLISHED[name]
    config = load_config(name, {"model.pretrained": False}).model
    with torch.device("meta"):
        model = build(config, in_channels=channels, num_classes=classes, image_size=image_size)
    assert sum(parameter.numel() for parameter in model.parameters()) == total
    assert sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad) == trainable


def test_a_recipe_that_corrects_imbalance_twice_warns():
    assert "Class imbalance is corrected twice" in load_config("dementia-exp6").training.warnings()[0]
    assert not load_config("dementia-exp7").training.warnings()
