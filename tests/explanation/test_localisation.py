"""Heat maps against truth: hand-computed values, references, and a network whose relevant place is known."""

from __future__ import annotations

import numpy as np
import pytest

from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.explanation.localisation import (
    REFERENCES,
    Localisation,
    energy_inside,
    localisation_table,
    pointing_game,
    reference_maps,
)
from gyrus.explanation.methods import compute_heat_maps
from gyrus.explanation.targets import ClassContrast
from tests.support.phantoms import SIZE, TrainedOnHeads, predicted

QUICK = BootstrapConfig(resamples=200)


def one_map(*rows: list[float]) -> np.ndarray:
    return np.array([rows], np.float32)


def marked(*places: tuple[int, int], size: int = 3) -> np.ndarray:
    truth = np.zeros((1, size, size), bool)
    for place in places:
        truth[(0, *place)] = True
    return truth


def test_the_maximum_lies_inside_or_outside() -> None:
    heat = one_map([0, 1, 0], [0, 5, 2], [-9, 0, 0])
    assert pointing_game(heat, marked((1, 1))).tolist() == [1]
    assert pointing_game(heat, marked((2, 0))).tolist() == [0]  # the strongest evidence against the class


def test_of_several_maxima_the_fraction_inside_counts() -> None:
    heat = one_map([3, 0, 0], [0, 0, 3], [0, 3, 3])
    assert pointing_game(heat, marked((0, 0))).tolist() == [0.25]


def test_the_tolerance_is_a_fraction_of_each_axis() -> None:
    heat = np.zeros((3, 20, 40))
    heat[0, 10, 12] = heat[1, 11, 10] = heat[2, 11, 11] = 1
    truth = np.zeros(heat.shape, bool)
    truth[:, 10, 10] = True
    assert pointing_game(heat, truth, tolerance=0).tolist() == [0, 0, 0]
    assert pointing_game(heat, truth, tolerance=0.05).tolist() == [1, 1, 0]


def test_the_energy_is_the_fraction_of_the_positive_values() -> None:
    heat = one_map([1, 2, 0], [0, -7, 5], [0, 0, 2])
    assert energy_inside(heat, marked((0, 1), (1, 1), (2, 2))).tolist() == [0.4]


def test_a_map_without_positive_values_scores_as_chance() -> None:
    truth = marked((0, 0), (0, 1), (0, 2))
    for heat in (np.zeros((1, 3, 3)), -np.arange(1.0, 10).reshape(1, 3, 3)):
        assert energy_inside(heat, truth) == pytest.approx(1 / 3)
        assert pointing_game(heat, truth, tolerance=0) == pytest.approx(1 / 3)


def test_an_image_without_truth_has_no_score() -> None:
    assert np.isnan(pointing_game(np.ones((1, 3, 3)), marked())).all()
    assert np.isnan(energy_inside(np.ones((1, 3, 3)), marked())).all()


@pytest.mark.parametrize("shape", [(2, 16, 16), (2, 8, 16, 16)])
def test_references_score_as_their_definition(shape: tuple[int, ...]) -> None:
    images, brains, truths = np.zeros(shape, np.uint8), np.zeros(shape, bool), np.zeros(shape, bool)
    brains[..., 4:12, 4:12] = True
    (truths if len(shape) == 3 else truths[:, shape[1] // 2])[:, 8, 8] = True
    images[truths] = 255
    energy = {name: energy_inside(maps, truths)[0] for name, maps in reference_maps(images, brains).items()}
    assert list(energy) == list(REFERENCES)
    assert energy["uniform"] == pytest.approx(truths[0].mean())
    assert energy["brain"] == pytest.approx(1 / brains[0].sum())
    assert energy["uniform"] < energy["centre"] < energy["image"] == 1
    assert pointing_game(reference_maps(images, brains)["centre"], truths, tolerance=0.16).tolist() == [1, 1]


def test_gains_are_over_the_best_reference_of_each_measure() -> None:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 100, (6, 16, 16)).astype(np.uint8)
    truths = np.zeros(images.shape, bool)
    truths[:5, 3:6, 9:12] = True
    images[:, 4, 10] = 255  # the brightest pixel lies inside, with little of the energy
    perfect, blind = truths.astype(np.float32), np.flip(truths, 1).astype(np.float32)
    maps = {"occlusion": perfect, "grad-cam": blind, **reference_maps(images, np.ones_like(truths))}
    table = localisation_table(maps, truths, [f"s{number}" for number in range(6)], np.array([0, 0, 1, 2, 3, 4]))
    found = Localisation.from_table(table, target="Lesion", without_truth=1, unit="subject", bootstrap=QUICK)

    assert (found.images, found.without_truth, found.units) == (5, 1, 4)
    assert found.area == pytest.approx(9 / 256)
    scores = {score.map: score for score in (*found.methods, *found.references)}
    assert scores["image"].pointing.value == 1
    best = max(scores[name].energy.value or 0 for name in REFERENCES)
    gains = {name: (scores[name].pointing_gain, scores[name].energy_gain) for name in ("occlusion", "grad-cam")}
    assert [gain.value for gain in gains["occlusion"] if gain] == pytest.approx([0, 1 - best])
    assert [gain.value for gain in gains["grad-cam"] if gain] == pytest.approx([-1, -best])
    assert found.sentences[0].endswith("than every map that needs no network: Occlusion.")
    assert found.sentences[1].endswith(": none.")
    assert Localisation.from_document(found.to_document()) == found


def test_a_network_that_learnt_a_corner_is_localised_there(shortcut_network: TrainedOnHeads) -> None:
    model, heads = shortcut_network
    truths = np.zeros((len(heads.images), SIZE, SIZE), bool)
    truths[:, :4, :4] = True  # the squares of occlusion are 4 pixels wide
    rows = np.flatnonzero(heads.labels.numpy() == 1)
    contrast = ClassContrast(predicted(model, heads.images[rows]).plus)
    maps = compute_heat_maps(model, heads.images[rows], contrast, "occlusion")
    assert pointing_game(maps, truths[rows]).mean() > 0.9
    assert energy_inside(maps, truths[rows]).mean() > 5 * truths[0].mean()
