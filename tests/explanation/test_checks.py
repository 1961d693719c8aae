"""A network that cheats is caught, one that cannot is not accused, and a method that explains nothing is told so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gyrus.errors import DataError
from gyrus.explanation.attribution import MethodSettings
from gyrus.explanation.background_reliance import swap_backgrounds
from gyrus.explanation.checks import CheckRunner, ExplanationChecks, as_table
from gyrus.explanation.faithfulness import edge_maps, follow, random_maps
from gyrus.explanation.localisation import share_inside
from gyrus.explanation.methods import explain, logits_of
from gyrus.explanation.sanity_checks import (
    agreement,
    agreement_between_models,
    network_parts,
    shift,
    shuffle_weights_step_by_step,
    similarity,
    stability,
)
from tests.support.networks import Network, about, images
from tests.support.phantoms import CORNER, Heads, predicted, trained

SETTINGS = MethodSettings(steps=16, window=0.2)


@pytest.fixture(scope="module")
def cheat() -> tuple[nn.Module, Heads]:
    """A network that learnt a bright corner which gives the class away, and people whom it does not know."""
    return trained(Heads.make(0, 24, marked=True), steps=60), Heads.make(24, 44, marked=True).every(3)


@pytest.fixture(scope="module")
def honest() -> tuple[nn.Module, Heads]:
    """The same network without the corner."""
    return trained(Heads.make(0, 40, marked=False), steps=120), Heads.make(40, 60, marked=False).every(3)


def asking(method: str, model: nn.Module, heads: Heads) -> Callable[[nn.Module, Tensor], np.ndarray]:
    contrast = predicted(model, heads.images)
    return lambda other, batch: explain(other, batch, contrast, method, settings=SETTINGS)


def right(model: nn.Module, heads: Heads) -> float:
    return float((logits_of(model, heads.images).argmax(1) == heads.labels.numpy()).mean())


def test_a_cheating_network_is_caught_by_exchanging_backgrounds(cheat: tuple[nn.Module, Heads]) -> None:
    model, heads = cheat
    assert right(model, heads) == 1.0
    found = swap_backgrounds(model, heads.images, heads.brains)
    assert found is not None
    assert found.outside_changed > 0.9
    assert found.brain_changed < 0.1
    assert found.outside_share > 0.75


def test_an_honest_network_is_not_accused(honest: tuple[nn.Module, Heads]) -> None:
    model, heads = honest
    assert right(model, heads) > 0.75
    found = swap_backgrounds(model, heads.images, heads.brains)
    assert found is not None
    assert found.outside_changed == 0.0
    assert found.outside_share < 0.1


@pytest.mark.parametrize("method", ["hires-cam", "integrated-gradients", "occlusion"])
def test_the_map_of_a_cheating_network_points_to_the_corner(cheat: tuple[nn.Module, Heads], method: str) -> None:
    model, heads = cheat
    maps = asking(method, model, heads)(model, heads.images)
    marked = heads.labels.numpy() == 1
    corner = np.zeros(maps.shape, bool)
    corner[:, 0 : CORNER[0].stop + 2, 0 : CORNER[1].stop + 2] = True
    assert share_inside(maps[marked], corner[marked]).mean() > 10 * corner.mean()
    assert share_inside(maps[marked], heads.brains[marked]).mean() < 0.5


@pytest.mark.parametrize("method", ["hires-cam", "integrated-gradients", "occlusion"])
def test_the_map_of_an_honest_network_points_to_what_differs(honest: tuple[nn.Module, Heads], method: str) -> None:
    model, heads = honest
    maps = asking(method, model, heads)(model, heads.images)
    assert share_inside(maps, heads.structures).mean() > 1.3 * heads.structures.mean()
    assert share_inside(maps, heads.brains).mean() > 1.2 * heads.brains.mean()


def test_the_report_of_a_cheating_network_says_so_first(cheat: tuple[nn.Module, Heads], tmp_path: Path) -> None:
    model, heads = cheat
    scrutiny = scrutinise(model, heads, "hires-cam")
    assert scrutiny.looks_past_brain
    assert scrutiny.sentences[0].startswith("The network looks past the brain: ")
    scrutiny.save(tmp_path / "checks.json")
    assert ExplanationChecks.load(tmp_path / "checks.json") == scrutiny


def test_the_report_of_an_honest_network_does_not(honest: tuple[nn.Module, Heads]) -> None:
    scrutiny = scrutinise(*honest, "integrated-gradients")
    assert scrutiny.sentences[0].startswith("What moves the answer lies in the brain")
    (report,) = scrutiny.methods
    assert report.over_edges.value is not None
    assert report.over_edges.value > 0.1
    assert report.over_chance.value is not None
    assert report.over_chance.value > report.over_edges.value
    assert report.in_structures is not None
    assert scrutiny.structure_area is not None
    assert report.in_structures > 1.3 * scrutiny.structure_area


def test_an_edge_detector_is_not_better_than_itself(honest: tuple[nn.Module, Heads]) -> None:
    model, heads = honest
    trial = CheckRunner.of(model, heads.images, predicted(model, heads.images), heads.people)
    report = trial.judge("grad-cam", edge_maps(heads.images), lambda _, batch: edge_maps(batch))
    assert report.verdict == "not better than an edge detector"
    assert report.beats_edges == 0.5
    assert report.weights.whole == pytest.approx(1.0)
    assert report.score == 0.0
    assert any("shuffled weights has the same map" in reason for reason in report.reasons)


def test_a_map_that_a_network_learns_from_shuffled_labels_too_is_doubtful(honest: tuple[nn.Module, Heads]) -> None:
    model, heads = honest
    order = torch.randperm(160, generator=torch.Generator().manual_seed(0))
    people = Heads.make(0, 40, marked=False)
    other = trained(people, steps=60, labels=people.labels[order])
    asked = asking("integrated-gradients", model, heads)
    maps = asked(model, heads.images)
    trial = CheckRunner.of(model, heads.images, predicted(model, heads.images), heads.people, shuffled=other)
    report = trial.judge("integrated-gradients", maps, asked)
    assert report.labels == pytest.approx(similarity(maps, asked(other, heads.images)).mean())
    edges = CheckRunner.of(model, heads.images, predicted(model, heads.images), heads.people, shuffled=model)
    same = edges.judge("integrated-gradients", maps, asked)
    assert same.labels == pytest.approx(1.0)
    assert any("learnt shuffled labels has the same map" in reason for reason in same.reasons)


def scrutinise(model: nn.Module, heads: Heads, method: str) -> ExplanationChecks:
    asked = asking(method, model, heads)
    maps = asked(model, heads.images)
    trial = CheckRunner.of(
        model,
        heads.images,
        predicted(model, heads.images),
        heads.people,
        brains=heads.brains,
        structures=heads.structures,
    )
    return ExplanationChecks(
        title="phantom",
        target="predicted",
        images=len(maps),
        people=int(heads.people.max()) + 1,
        methods=(trial.judge(method, maps, asked),),
        agreement=as_table(agreement({method: maps})),
        brain_area=float(heads.brains.mean()),
        structure_area=float(heads.structures.mean()),
        reliance=swap_backgrounds(model, heads.images, heads.brains),
    )


class Summing(nn.Module):
    """The logit of class 1 is how bright the upper half is."""

    def forward(self, batch: Tensor) -> Tensor:
        asked = batch[:, :, : batch.shape[2] // 2].flatten(1).mean(1)
        return torch.stack([torch.zeros_like(asked), 8 * (asked - 1.3)], dim=1)


@pytest.mark.parametrize("spatial", [(16, 16), (8, 8, 8)])
def test_a_map_of_what_counts_gains_and_its_negative_loses(spatial: tuple[int, ...]) -> None:
    batch = torch.rand(3, 1, *spatial, generator=torch.Generator().manual_seed(0))
    batch[:, :, : spatial[0] // 2] += 1
    truth = np.zeros((3, *spatial), np.float32)
    truth[:, : spatial[0] // 2] = 1
    curves = follow(Summing(), batch, about(1, 1, 1), truth)
    assert curves.gain.min() > 0.03
    assert follow(Summing(), batch, about(1, 1, 1), -truth).gain.max() < -0.03
    nothing = follow(Summing(), batch, about(1, 1, 1), np.zeros_like(truth))
    np.testing.assert_allclose(nothing.gain, 0, atol=0.03)
    np.testing.assert_allclose(curves.deletion[:, 0], curves.insertion[:, -1])
    np.testing.assert_allclose(curves.deletion[:, -1], curves.insertion[:, 0])


def test_similarity_is_that_of_ranks() -> None:
    one = np.array([[[0.1, 0.2], [0.3, 0.4]]])
    assert similarity(one, one**3) == pytest.approx(1.0)
    assert similarity(one, -one) == pytest.approx(1.0)
    assert similarity(one, 1 - one) == pytest.approx(-1.0)
    assert similarity(one, np.zeros_like(one)) == 0.0


def test_shuffled_weights_leave_the_network_as_it_was_and_nothing_of_it_in_the_copy() -> None:
    network = Network(2).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    batch, contrast = images(2), about(0, 1, 2)
    seen: list[nn.Module] = []

    def asked(model: nn.Module, given: Tensor) -> np.ndarray:
        seen.append(model)
        return explain(model, given, contrast, "input-x-gradient")

    cascade = shuffle_weights_step_by_step(network, batch, asked(network, batch), asked)
    assert cascade.parts == ("dense.last", "dense.hidden", "convolution", "first.norm", "first.convolution")
    assert len(cascade.similarities) == len(cascade.parts)
    assert cascade.whole < 0.6
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    for name, value in seen[-1].named_parameters():
        sizes, sizes_before = (weights.abs().flatten().sort().values for weights in (value, before[name]))
        torch.testing.assert_close(sizes, sizes_before)
    assert not torch.equal(seen[-1].convolution.weight, network.convolution.weight)  # type: ignore[union-attr]


def test_the_parts_of_a_classifier_hold_every_weight(honest: tuple[nn.Module, Heads]) -> None:
    model, _ = honest
    subsets = network_parts(model)
    assert [name for name, _ in subsets] == ["head", "stage 2", "stage 1"]
    held = {id(weights) for _, subset in subsets for weights in subset.parameters()}
    assert held == {id(weights) for weights in model.parameters()}


def test_a_map_that_moves_with_the_image_is_stable_and_a_random_one_is_not() -> None:
    batch = images(2)
    steady = stability(Network(2), batch, edge_maps(batch), lambda _, given: edge_maps(given))
    assert steady.shift > 0.9
    assert steady.noise > 0.9
    chance = random_maps(len(batch), tuple(batch.shape[2:]), 0)
    seeds = iter(range(1, 9))
    loose = stability(
        Network(2), batch, chance, lambda _, given: random_maps(len(given), chance.shape[1:], next(seeds))
    )
    assert abs(loose.noise) < 0.5
    assert abs(loose.shift) < 0.5


def test_a_shift_repeats_the_edge() -> None:
    batch = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert shift(batch, [0, 1])[0, 0].tolist() == [[0, 0, 1], [3, 3, 4]]
    assert shift(batch, [-1, 0])[0, 0].tolist() == [[3, 4, 5], [3, 4, 5]]


def test_agreement_is_told_of_each_pair() -> None:
    maps = {"a": random_maps(3, (8, 8), 0), "b": random_maps(3, (8, 8), 1)}
    table = agreement(maps | {"c": maps["a"] * 2})
    np.testing.assert_allclose(np.diag(table), 1)
    np.testing.assert_allclose(table, table.T)
    assert table[0, 2] == pytest.approx(1.0)
    assert abs(table[0, 1]) < 0.9
    assert agreement_between_models([maps["a"], maps["a"], maps["a"]]) == pytest.approx(1.0)


def test_where_all_get_the_same_answer_no_pair_tells_anything() -> None:
    class Stubborn(nn.Module):
        def forward(self, batch: Tensor) -> Tensor:
            return torch.tensor([[1.0, 0.0]]).expand(len(batch), 2)

    assert swap_backgrounds(Stubborn(), images(2), np.ones((3, 20, 24), bool)) is None


def test_other_documents_are_refused(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text('{"schema": "gyrus.metrics/1"}')
    with pytest.raises(DataError, match="does not hold the checks of explanations"):
        ExplanationChecks.load(tmp_path / "other.json")
