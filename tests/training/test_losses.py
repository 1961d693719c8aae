from __future__ import annotations

import numpy as np
import pytest
import scipy
import torch
from sklearn.metrics import mean_absolute_error, mean_pinball_loss, mean_squared_error
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from gyrus.errors import ConfigError
from gyrus.models.ordinal_outputs import corn_log_probabilities, cumulative_link_log_probabilities
from gyrus.training.config import (
    L1,
    L2,
    LOSS_NAMES,
    NUMBER_LOSS_NAMES,
    Corn,
    CrossEntropy,
    CumulativeLink,
    Focal,
    Huber,
    Quantile,
    TrainingConfig,
)
from gyrus.training.losses import (
    LOSSES,
    NUMBER_LOSSES,
    Objective,
    class_weights,
    cross_entropy,
    focal,
    mean_weights,
    number_loss,
    reduce,
)
from gyrus.training.mixup import Mix, mix_images
from tests.support.reference_values import SOURCES, corn_inputs, reference
from tests.support.toy import ToyDataset, tiny_net
from tests.support.toy_training import changed, train

CLASSES = ("mild", "moderate", "none", "very mild")
DEMENTIA = np.repeat(np.arange(4), [724, 49, 2566, 1781])
BATCH = ToyDataset(20, seed=4).__getitems__(list(range(20)))


def without_dropout() -> nn.Module:
    model = tiny_net()
    model.head[0] = nn.Identity()
    return model.train()


@pytest.fixture
def batch():
    numbers = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(12, 4, generator=numbers)
    return logits.requires_grad_(), torch.randint(4, (12,), generator=numbers)


def test_every_name_of_the_config_has_a_loss():
    assert {*LOSSES, *NUMBER_LOSSES} == set(LOSS_NAMES)
    assert set(NUMBER_LOSSES) == set(NUMBER_LOSS_NAMES)


def test_losses_of_numbers_are_those_of_other_libraries():
    """On the scale of the training set, so that the loss is the same in months and in years."""
    numbers = np.random.default_rng(0)
    targets, outputs = numbers.normal(60, 20, 30), numbers.normal(60, 20, (30, 3))
    levels, scale = (0.1, 0.5, 0.9), 17.0
    errors = (outputs[:, 0] - targets) / scale
    expected = {
        L1(): mean_absolute_error(targets, outputs[:, 0]) / scale,
        L2(): mean_squared_error(targets, outputs[:, 0]) / scale**2,
        Huber(delta=0.7): float(scipy.special.huber(0.7, errors).mean()),
        Quantile(levels=levels): np.mean(
            [mean_pinball_loss(targets, outputs[:, n], alpha=level) for n, level in enumerate(levels)]
        )
        / scale,
    }
    for loss, value in expected.items():
        for unit in (1, 12):
            found = number_loss(loss, torch.from_numpy(outputs * unit), torch.from_numpy(targets * unit), scale * unit)
            assert found.shape == (30,)
            assert float(found.mean()) == pytest.approx(value, rel=1e-5), loss.name


@pytest.mark.parametrize("levels", [(0.1, 0.9), (0.5, 0.1, 0.9), (0.5, 0.5)])
def test_quantiles_ascend_around_the_median(levels):
    with pytest.raises(ValueError, match="ascend and contain"):
        Quantile(levels=levels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 5.0, 0.3, 2.0])])
def test_cross_entropy_is_that_of_pytorch(batch, smoothing, weights):
    logits, targets = batch
    mine = reduce(cross_entropy(CrossEntropy(label_smoothing=smoothing), logits, targets, weights), targets, weights)
    torch.testing.assert_close(mine, functional.cross_entropy(logits, targets, weights, label_smoothing=smoothing))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_focal_of_two_classes_is_the_binary_focal_loss(gamma):
    score = torch.linspace(-4, 4, 9)
    targets = torch.arange(9) % 2
    mine = focal(Focal(gamma=gamma), torch.stack([torch.zeros(9), score], dim=1), targets, None)
    torch.testing.assert_close(mine, sigmoid_focal_loss(score, targets.float(), alpha=-1, gamma=gamma))


def test_corn_is_the_loss_of_the_paper(batch):
    logits, targets = batch[0][:, :3].detach(), batch[1]
    total, count = 0.0, 0
    for rank in range(3):  # equation 6: one binary task per rank, on the images that reach it
        for row in range(len(targets)):
            if targets[row] >= rank:
                probability = torch.sigmoid(logits[row, rank])
                total -= float(torch.log(probability if targets[row] > rank else 1 - probability))
                count += 1
    outputs = corn_log_probabilities(logits, torch.triu(torch.ones(3, 4), diagonal=1))
    values = LOSSES["corn"](Corn(), outputs, targets, None)
    assert float(reduce(values, targets, mean_weights("corn", None, outputs))) == pytest.approx(total / count)


@SOURCES
def test_corn_is_the_loss_of_its_authors_library(source):
    logits, targets = (torch.from_numpy(each) for each in corn_inputs())
    outputs = corn_log_probabilities(logits, torch.triu(torch.ones(3, 4), diagonal=1))
    values = LOSSES["corn"](Corn(), outputs, targets, None)
    found = float(reduce(values, targets, mean_weights("corn", None, outputs)))
    assert found == pytest.approx(reference("coral_pytorch", source)["loss"][0], rel=1e-5)


def test_cumulative_link_is_the_likelihood_of_proportional_odds(batch):
    scores, targets = batch[0][:, :1].detach(), batch[1]
    thresholds = torch.tensor([-1.0, 0.2, 1.5])
    ends = torch.cat([torch.tensor([-torch.inf]), thresholds, torch.tensor([torch.inf])])
    chances = torch.sigmoid(ends[targets + 1] - scores[:, 0]) - torch.sigmoid(ends[targets] - scores[:, 0])
    outputs = cumulative_link_log_probabilities(scores, thresholds)
    weights = torch.tensor([1.0, 5.0, 0.3, 2.0])
    values = LOSSES["cumulative_link"](CumulativeLink(), outputs, targets, weights)
    expected = -(weights[targets] * chances.log()).sum() / weights[targets].sum()
    found = reduce(values, targets, mean_weights("cumulative_link", weights, outputs))
    torch.testing.assert_close(found, expected)


def test_focal_without_focus_is_cross_entropy(batch):
    logits, targets = batch
    weights = torch.tensor([1.0, 5.0, 0.3, 2.0])
    mine = reduce(focal(Focal(gamma=0), logits, targets, weights), targets, weights)
    torch.testing.assert_close(mine, functional.cross_entropy(logits, targets, weights))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_has_a_gradient_where_all_is_certain(gamma):
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0]], requires_grad=True)
    focal(Focal(gamma=gamma), logits, torch.tensor([0, 0]), None).sum().backward()
    assert logits.grad.isfinite().all()
    assert logits.grad[1, 0] < 0


def test_balanced_weights_are_those_of_scikit_learn_and_mri_scans_model():
    weights = class_weights("balanced", DEMENTIA, CLASSES)
    np.testing.assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(4), y=DEMENTIA), rtol=1e-6)
    np.testing.assert_allclose(weights, [1.768, 26.122, 0.4988, 0.7187], rtol=1e-3)


def test_inverse_weights_are_those_of_the_alzheimer_mri_experiments():
    np.testing.assert_allclose(class_weights("inverse", DEMENTIA, CLASSES), [0.0607, 0.8974, 0.0171, 0.0247], atol=1e-4)


def test_weights_of_absent_classes_are_zero():
    targets = np.array([0, 0, 2])
    np.testing.assert_allclose(class_weights("balanced", targets, CLASSES), [0.75, 0, 1.5, 0])
    np.testing.assert_allclose(class_weights("inverse", targets, CLASSES), [1 / 3, 0, 2 / 3, 0], rtol=1e-6)


def test_given_weights_must_fit_the_classes():
    assert class_weights("none", DEMENTIA, CLASSES) is None
    np.testing.assert_array_equal(class_weights((1.0, 2.0, 3.0, 4.0), DEMENTIA, CLASSES), [1, 2, 3, 4])
    with pytest.raises(ConfigError, match="must be 4 numbers, not all 0, for the classes"):
        class_weights((1.0, 2.0), DEMENTIA, CLASSES)
    with pytest.raises(ConfigError, match="not all 0"):
        class_weights((0.0, 0.0, 0.0, 0.0), DEMENTIA, CLASSES)


def test_class_weights_that_do_not_fit_are_refused_first(tmp_path):
    with pytest.raises(ConfigError, match="class_weights must be 3 numbers"):
        train(tmp_path, changed(loss={"name": "focal", "class_weights": [1, 2]}))
    assert list(tmp_path.iterdir()) == []


def test_objective_without_options_is_the_loss():
    model = without_dropout()
    loss, logits = Objective(TrainingConfig(), None)(model, model, BATCH.images, BATCH.targets, None)
    torch.testing.assert_close(logits, without_dropout()(BATCH.images))
    torch.testing.assert_close(loss, functional.cross_entropy(logits, BATCH.targets))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_loss_is_the_mean_over_both_labels(smoothing):
    model = without_dropout()
    mix = Mix(order=tuple(reversed(range(20))), fraction=0.3)
    objective = Objective(TrainingConfig(loss=CrossEntropy(label_smoothing=smoothing)), None)
    loss, _ = objective(model, model, BATCH.images, BATCH.targets, mix)
    logits = without_dropout()(mix_images(BATCH.images, mix))
    both = [
        functional.cross_entropy(logits, labels, label_smoothing=smoothing)
        for labels in (BATCH.targets, BATCH.targets.flip(0))
    ]
    torch.testing.assert_close(loss, (0.3 * both[0] + 0.7 * both[1]))
    soft = 0.3 * functional.one_hot(BATCH.targets, 3) + 0.7 * functional.one_hot(BATCH.targets.flip(0), 3)
    torch.testing.assert_close(loss, functional.cross_entropy(logits, soft, label_smoothing=smoothing))
