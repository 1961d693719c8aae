"""Which images are shown, and which the checks are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gyrus.errors import DataError
from gyrus.workflows.explain.candidate_images import CandidateImages
from gyrus.workflows.explain.config import ExplainConfig


def choose_shown(crowd: CandidateImages, asked: ExplainConfig, classes: Sequence[str], *, seed: int) -> np.ndarray:
    """The places of the images to show, each of another person as far as there are enough.

    Raises:
        DataError: The grid needs labels, or there is no such image.
    """
    shuffled = np.random.default_rng(seed).permutation(len(crowd))
    answers, sureness = crowd.probabilities.argmax(axis=1), crowd.probabilities.max(axis=1)
    if asked.grid == "random":
        return one_a_person(shuffled, crowd.people, asked.shown)
    if asked.grid in ("best", "worst"):
        if (crowd.truths < 0).any():
            raise DataError(
                f"The grid '{asked.grid}' needs to know which answers are right, and the images have no labels. Use "
                "random, class or methods, or explain the test set of the run by naming no images."
            )
        wanted = (answers == crowd.truths) == (asked.grid == "best")
        if not wanted.any():
            raise DataError(
                f"No answer is {'right' if asked.grid == 'best' else 'wrong'}, so there is nothing to show."
            )
        places = shuffled[wanted[shuffled]]
        return one_a_person(places[np.argsort(-sureness[places], kind="stable")], crowd.people, asked.shown)
    groups = np.where(crowd.truths >= 0, crowd.truths, answers)
    each = max(1, asked.shown // len(classes))
    found = [one_a_person(shuffled[groups[shuffled] == k], crowd.people, each) for k in range(len(classes))]
    return np.concatenate(found)


def choose_tried(crowd: CandidateImages, count: int, *, seed: int) -> np.ndarray:
    """By another draw than those shown, so that what is looked at decides nothing."""
    return one_a_person(np.random.default_rng([seed, 1]).permutation(len(crowd)), crowd.people, count)


def one_a_person(places: np.ndarray, people: np.ndarray, count: int) -> np.ndarray:
    """The first ``count`` places in their order, those of people who have none yet before all others."""
    turns: dict[int, int] = {}
    rank = []
    for person in people[places].tolist():
        turns[person] = turns.get(person, -1) + 1
        rank.append(turns[person])
    return places[np.argsort(rank, kind="stable")][:count]
