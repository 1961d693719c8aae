"""Last layers for ordered classes: from the vector of a head to K log-probabilities.

Both compute probabilities of the K classes from a model of the order, and return their logarithms. The softmax of
logarithms of probabilities is the probabilities themselves, so everything that takes logits takes these: losses,
pooling, calibration, ensembles, heat maps and exported networks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LEAST_GAP = 1e-4
"""The smallest distance between two thresholds of a cumulative link, on the logit scale."""


class OrdinalOutput(nn.Linear):
    """A last layer for ordered classes, from vectors ``(B, F)`` to log-probabilities ``(B, K)``."""


class CumulativeLinkOutput(OrdinalOutput):
    """Proportional odds (McCullagh 1980): one score, and thresholds between the classes.

    ``P(class <= k) = sigmoid(threshold_k - score)``. The thresholds rise because the distances between them are the
    softplus of the trained numbers. A new layer makes all classes equally likely at a score of 0; training starts it at
    the frequencies of the classes (:meth:`start_at`).
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, 1, bias=False)  # the thresholds are the bias
        self.first_threshold = nn.Parameter(torch.zeros(1))
        self.gaps = nn.Parameter(torch.zeros(num_classes - 2))
        self.start_at(torch.ones(num_classes))

    @torch.no_grad()
    def start_at(self, counts: Tensor) -> None:
        """Set the thresholds so that a score of 0 gives the frequencies of the classes.

        Between thresholds that are close, a class is hardly ever the most probable one, whatever the score; and
        thresholds move slowly in a training of few steps.

        Args:
            counts: How many images of the training set each class has, ``(K,)``.
        """
        frequencies = (counts.double() + 0.5 * (counts == 0)) / counts.sum()
        cuts = torch.logit((frequencies / frequencies.sum()).cumsum(0)[:-1])
        gaps = (cuts.diff() - LEAST_GAP).clamp(min=LEAST_GAP)
        self.first_threshold.copy_(cuts[:1])
        self.gaps.copy_(gaps + torch.log(-torch.expm1(-gaps)))  # the inverse of the softplus

    @property
    def thresholds(self) -> Tensor:
        """The rising thresholds between the classes, ``(K - 1,)``."""
        return torch.cat([self.first_threshold, self._distances]).cumsum(0)

    def forward(self, input: Tensor) -> Tensor:
        """Logarithms of the probabilities of the classes ``(B, K)`` of vectors ``(B, F)``."""
        return cumulative_link_log_probabilities(super().forward(input).float(), self.thresholds.float())

    @property
    def _distances(self) -> Tensor:
        return functional.softplus(self.gaps) + LEAST_GAP


class CornOutput(OrdinalOutput):
    """Conditional ordinal regression (CORN, Shi, Cao and Raschka 2023, https://arxiv.org/abs/2111.08851).

    K - 1 logits, each of the probability that the class is above k, given that it is above k - 1. Their product is the
    probability that the class is above k, which therefore falls with k.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes - 1)
        below = torch.triu(torch.ones(num_classes - 1, num_classes), diagonal=1)
        self.register_buffer("below", below, persistent=False)
        self.below: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """Logarithms of the probabilities of the classes ``(B, K)`` of vectors ``(B, F)``."""
        return corn_log_probabilities(super().forward(input).float(), self.below)


ORDINAL_OUTPUTS: dict[str, type[CumulativeLinkOutput] | type[CornOutput]] = {
    "cumulative_link": CumulativeLinkOutput,
    "corn": CornOutput,
}
"""The last layer by the name of the loss that trains it."""


def cumulative_link_log_probabilities(scores: Tensor, thresholds: Tensor) -> Tensor:
    """``log(sigmoid(t_k - s) - sigmoid(t_(k-1) - s))``, without a difference of two numbers near 0 or 1.

    Args:
        scores: ``(B, 1)``.
        thresholds: Rising, ``(K - 1,)``.
    """
    distances = thresholds - scores  # (B, K - 1)
    at_most, above = functional.logsigmoid(distances), functional.logsigmoid(-distances)
    # sigmoid(a) - sigmoid(b) = sigmoid(a) * sigmoid(-b) * (1 - exp(b - a)), and a - b does not depend on the score.
    between = torch.log1p(-torch.exp(thresholds[:-1] - thresholds[1:]))
    return torch.cat([at_most[:, :1], at_most[:, 1:] + above[:, :-1] + between, above[:, -1:]], dim=1)


def corn_log_probabilities(logits: Tensor, below: Tensor) -> Tensor:
    """The log-probability of class k: above each class below it, and not above itself.

    Args:
        logits: Of being above class k, given above class k - 1, ``(B, K - 1)``.
        below: 1 where class k (column) is above class j (row), else 0, ``(K - 1, K)``.
    """
    return functional.logsigmoid(logits) @ below.to(logits.dtype) + functional.pad(
        functional.logsigmoid(-logits), (0, 1)
    )
