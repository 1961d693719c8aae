"""Checks of heat maps on two networks: one that relies on a bright corner, and one that relies on the brain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gyrus.errors import DataError
from gyrus.explanation.background_reliance import swap_backgrounds
from gyrus.explanation.checks import CheckRunner, ExplanationChecks
from gyrus.explanation.deletion_insertion import edge_maps
from gyrus.explanation.method_input import MethodSettings
from gyrus.explanation.methods import compute_heat_maps
from gyrus.explanation.randomisation_and_stability import (
    agreement,
    similarity,
)
from gyrus.explanation.regions import fraction_inside
from tests.support.phantoms import CORNER, Heads, TrainedOnHeads, predicted, trained

SETTINGS = MethodSettings(steps=16, window=0.2)


def map_function(method: str, model: nn.Module, heads: Heads) -> Callable[[nn.Module, Tensor], np.ndarray]:
    contrast = predicted(model, heads.images)
    return lambda other, batch: compute_heat_maps(other, batch, contrast, method, settings=SETTINGS)


@pytest.mark.parametrize("method", ["hires-cam", "integrated-gradients", "occlusion"])
def test_the_map_of_the_shortcut_network_marks_the_corner(shortcut_network: TrainedOnHeads, method: str) -> None:
    model, heads = shortcut_network
    maps = map_function(method, model, heads)(model, heads.images)
    marked = heads.labels.numpy() == 1
    corner = np.zeros(maps.shape, bool)
    corner[:, 0 : CORNER[0].stop + 2, 0 : CORNER[1].stop + 2] = True
    assert fraction_inside(maps[marked], corner[marked]).mean() > 10 * corner.mean()
    assert fraction_inside(maps[marked], heads.brains[marked]).mean() < 0.5


@pytest.mark.parametrize("method", ["hires-cam", "integrated-gradients", "occlusion"])
def test_the_map_of_the_brain_network_marks_what_differs(brain_network: TrainedOnHeads, method: str) -> None:
    model, heads = brain_network
    maps = map_function(method, model, heads)(model, heads.images)
    assert fraction_inside(maps, heads.structures).mean() > 1.3 * heads.structures.mean()
    assert fraction_inside(maps, heads.brains).mean() > 1.2 * heads.brains.mean()


def test_reliance_on_the_background_is_the_first_finding(shortcut_network: TrainedOnHeads, tmp_path: Path) -> None:
    model, heads = shortcut_network
    checks = run_checks(model, heads, "hires-cam")
    assert checks.relies_on_background
    assert checks.sentences[0].startswith("The network relies on the background: ")
    checks.save(tmp_path / "checks.json")
    assert ExplanationChecks.load(tmp_path / "checks.json") == checks


def test_reliance_on_the_brain_is_the_first_finding(brain_network: TrainedOnHeads) -> None:
    checks = run_checks(*brain_network, "integrated-gradients")
    assert checks.sentences[0].startswith("The network relies on the brain: ")
    (report,) = checks.methods
    assert report.over_edges.value is not None
    assert report.over_edges.value > 0.1
    assert report.over_chance.value is not None
    assert report.over_chance.value > report.over_edges.value
    assert report.in_structures is not None
    assert checks.structure_area is not None
    assert report.in_structures > 1.3 * checks.structure_area


def test_an_edge_detector_does_not_exceed_itself(brain_network: TrainedOnHeads) -> None:
    model, heads = brain_network
    runner = CheckRunner.prepare(model, heads.images, predicted(model, heads.images), heads.subjects)
    report = runner.run("grad-cam", edge_maps(heads.images), lambda _, batch: edge_maps(batch))
    assert report.verdict == "not better than an edge detector"
    assert report.beats_edges == 0.5
    assert report.weights.whole == pytest.approx(1.0)
    assert report.score == 0.0
    assert any("randomised weights give the same map" in reason for reason in report.reasons)


def test_the_same_map_after_training_on_shuffled_labels_fails(brain_network: TrainedOnHeads) -> None:
    model, heads = brain_network
    order = torch.randperm(160, generator=torch.Generator().manual_seed(0))
    training = Heads.make(0, 40, marked=False)
    other = trained(training, steps=60, labels=training.labels[order])
    maps_of = map_function("integrated-gradients", model, heads)
    maps = maps_of(model, heads.images)
    runner = CheckRunner.prepare(model, heads.images, predicted(model, heads.images), heads.subjects, shuffled=other)
    report = runner.run("integrated-gradients", maps, maps_of)
    assert report.labels == pytest.approx(similarity(maps, maps_of(other, heads.images)).mean())
    edges = CheckRunner.prepare(model, heads.images, predicted(model, heads.images), heads.subjects, shuffled=model)
    same = edges.run("integrated-gradients", maps, maps_of)
    assert same.labels == pytest.approx(1.0)
    assert any("shuffled labels gives the same map" in reason for reason in same.reasons)


def run_checks(model: nn.Module, heads: Heads, method: str) -> ExplanationChecks:
    maps_of = map_function(method, model, heads)
    maps = maps_of(model, heads.images)
    runner = CheckRunner.prepare(
        model,
        heads.images,
        predicted(model, heads.images),
        heads.subjects,
        brains=heads.brains,
        structures=heads.structures,
    )
    return ExplanationChecks(
        title="phantom",
        target="predicted",
        images=len(maps),
        subjects=int(heads.subjects.max()) + 1,
        methods=(runner.run(method, maps, maps_of),),
        agreement=tuple(map(tuple, agreement({method: maps}).tolist())),
        brain_area=float(heads.brains.mean()),
        structure_area=float(heads.structures.mean()),
        reliance=swap_backgrounds(model, heads.images, heads.brains),
    )


def test_other_documents_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"schema": "gyrus.metrics/1"}')
    with pytest.raises(DataError, match=r"not a file of schema gyrus\.explanation/1"):
        ExplanationChecks.load(tmp_path / "other.json")
