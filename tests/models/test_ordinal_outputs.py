"""Last layers for ordered classes against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gyrus.models.heads import Head
from gyrus.models.options import HeadOptions
from gyrus.models.ordinal_outputs import (
    ORDINAL_OUTPUTS,
    CornOutput,
    CumulativeLinkOutput,
    corn_log_probabilities,
    cumulative_link_log_probabilities,
)
from tests.support.reference_values import SOURCES, corn_inputs, reference, stage_inputs

every_output = pytest.mark.parametrize("name", ORDINAL_OUTPUTS)


def vectors(count: int = 5, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(count, 3, generator=torch.Generator().manual_seed(0))


def made(name: str, classes: int) -> CumulativeLinkOutput | CornOutput:
    torch.manual_seed(1)
    return ORDINAL_OUTPUTS[name](3, classes)


@every_output
@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("scale", [1.0, 200.0])
def test_outputs_are_finite_logarithms_of_probabilities(name: str, classes: int, scale: float) -> None:
    layer = made(name, classes)
    found = layer(vectors(scale=scale))
    assert found.shape == (5, classes)
    torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(5))
    torch.testing.assert_close(found.softmax(dim=1), found.exp())
    found.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in layer.parameters())


def test_a_cumulative_link_is_the_difference_of_logistic_curves() -> None:
    layer = made("cumulative_link", 4).double()
    with torch.no_grad():
        layer.gaps += torch.tensor([0.3, -2.0])
    thresholds = layer.thresholds.detach().numpy()
    assert (np.diff(thresholds) > 0).all()
    scores = (vectors().double() @ layer.weight.T).detach().numpy()
    below = np.column_stack([np.zeros(5), 1 / (1 + np.exp(scores - thresholds)), np.ones(5)])
    np.testing.assert_allclose(layer(vectors().double()).exp().detach().numpy(), np.diff(below, axis=1), atol=1e-6)


@SOURCES
def test_a_cumulative_link_gives_the_probabilities_of_statsmodels(source: str) -> None:
    expected = reference("statsmodels", source)
    scores = torch.from_numpy(stage_inputs()[0][:10] @ np.array(expected["weights"]))[:, None]
    found = cumulative_link_log_probabilities(scores, torch.tensor(expected["thresholds"], dtype=torch.double))
    np.testing.assert_allclose(found.numpy(), expected["log_probabilities"], rtol=1e-6)


@SOURCES
def test_corn_predicts_the_classes_of_its_authors_library(source: str) -> None:
    logits = torch.from_numpy(corn_inputs()[0])
    chances = corn_log_probabilities(logits, torch.triu(torch.ones(3, 4), diagonal=1)).exp()
    above = 1 - chances.cumsum(dim=1)[:, :-1]
    assert (above > 0.5).sum(dim=1).tolist() == reference("coral_pytorch", source)["classes"]


def test_classes_are_equally_likely_before_training() -> None:
    torch.testing.assert_close(made("cumulative_link", 5)(torch.zeros(1, 3)).exp(), torch.full((1, 5), 0.2))


def test_training_starts_at_the_frequencies_of_the_classes() -> None:
    layer = made("cumulative_link", 4)
    layer.start_at(torch.tensor([80, 56, 0, 24]))
    found = layer(torch.zeros(1, 3)).exp()[0]
    torch.testing.assert_close(found, torch.tensor([80, 56, 0.5, 24]) / 160.5)
    layer.start_at(torch.tensor([5, 5, 5, 5]))
    torch.testing.assert_close(layer(torch.zeros(1, 3)).exp(), torch.full((1, 4), 0.25))


def test_corn_multiplies_conditional_probabilities() -> None:
    layer = made("corn", 4)
    with torch.no_grad():
        conditional = torch.sigmoid(vectors() @ layer.weight.T + layer.bias)
        above = conditional.cumprod(dim=1)
        found = layer(vectors()).exp()
    for rank in range(3):
        torch.testing.assert_close(found[:, rank + 1 :].sum(dim=1), above[:, rank])


@every_output
def test_a_head_keeps_its_kind_of_output_when_it_is_reset(name: str) -> None:
    head = Head(3, 3, 4, HeadOptions(hidden=(6,), initial_std=0.02)).double()
    head.predict_order(name, 4)
    assert isinstance(head.classify, ORDINAL_OUTPUTS[name])
    assert head.classify.weight.dtype == torch.double
    head.reset(6)
    assert isinstance(head.classify, ORDINAL_OUTPUTS[name])
    assert head.classify(head.embed(vectors().double())).shape == (5, 6)
