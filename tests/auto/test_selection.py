from __future__ import annotations

import numpy as np
import pytest

from gyrus.auto.selection import STACK, Race, choose, cross_fitted, resampled_scores, without_chance
from gyrus.inference.predictions import Predictions

SUBJECTS, FOLDS = 40, 4


def answers(signal: float, *, seed: int, scale: float = 1.0, noise_seed: int = 99) -> list[Predictions]:
    """Out-of-fold predictions of a made-up candidate: logits with a signal of the class, one table per fold."""
    shared, own = np.random.default_rng(noise_seed), np.random.default_rng(seed)
    tables = []
    for fold in range(FOLDS):
        classes = np.arange(SUBJECTS) % 2
        logit = signal * (2 * classes - 1) + shared.normal(size=SUBJECTS) + 0.3 * own.normal(size=SUBJECTS)
        names = [f"f{fold}-{number:03}" for number in range(SUBJECTS)]
        tables.append(
            Predictions.from_logits(
                names,
                np.column_stack([np.zeros(SUBJECTS), scale * (fold + 1) * logit]),
                classes=("a", "b"),
                split_unit="subject",
                subjects=names,
                targets=["ab"[each] for each in classes],
            )
        )
    return tables


def race(candidates: dict[str, list[Predictions]], simplicity: dict[str, int], **more) -> Race:
    found = Race(simplicity, metric="macro_roc_auc", **more)
    for fold in range(FOLDS):
        found.run_fold(lambda name, fold=fold: candidates[name][fold])
    return found


def test_ties_go_to_the_simpler_and_clear_winners_win():
    good, same, bad = answers(1.0, seed=1), answers(1.0, seed=2), answers(0.4, seed=3)
    selection = race({"complex": good, "simple": same}, {"complex": 9, "simple": 1}).choose()
    assert selection.chosen == "simple"
    assert selection.behind["simple"][0] <= selection.behind["simple"][1] or selection.best == "simple"
    selection = race({"complex": good, "simple": bad}, {"complex": 9, "simple": 1}).choose()
    assert selection.chosen == "complex"


def test_hopeless_candidates_are_given_up_early_and_close_ones_are_not():
    candidates = {
        "best": answers(1.2, seed=1),
        "close": answers(1.2, seed=2),
        "chance": answers(0.0, seed=3, noise_seed=5),
    }
    found = race(candidates, {"best": 1, "close": 2, "chance": 3})
    assert set(found.running) == {"best", "close"}
    selection = found.choose()
    assert set(selection.given_up) == {"chance"}
    assert "chance" in selection.rounds[0].given_up
    assert set(selection.rounds[-1].scores) == {"best", "close"}


def test_nothing_is_given_up_on_few_subjects():
    few = {
        name: [each.select(np.arange(10)) for each in answers(signal, seed=1)]
        for name, signal in (("a", 3.0), ("b", 0.0))
    }
    found = Race({"a": 1, "b": 2}, metric="macro_roc_auc")
    assert not found.run_fold(lambda name: few[name][0]).given_up
    assert not without_chance({"alone": np.zeros(5)})


def test_scores_rank_within_folds_and_are_paired():
    """Classifiers of different folds use other ranges of logits; the mean of the folds is what counts."""
    from sklearn.metrics import roc_auc_score

    scaled, plain = answers(0.8, seed=4), answers(0.8, seed=4, scale=0.1)
    scores = resampled_scores({"scaled": scaled, "plain": plain}, "macro_roc_auc", seed=0, resamples=50)
    np.testing.assert_allclose(scores["scaled"], scores["plain"])
    folds = [roc_auc_score(each.targets, each.probabilities[:, 1]) for each in plain]
    assert scores["plain"][0] == pytest.approx(np.mean(folds), abs=0.02)


def test_the_stack_is_cross_fitted_and_is_the_least_simple():
    one, other = answers(0.7, seed=1, noise_seed=1), answers(0.7, seed=2, noise_seed=2)
    stacked = cross_fitted([one, other])
    assert [sorted(each.table["sample"]) for each in stacked] == [sorted(each.table["sample"]) for each in one]
    selection = race({"one": one, "other": other}, {"one": 1, "other": 2}, stack=("one", "other")).choose()
    assert selection.chosen == STACK  # two independent errors cancel
    assert selection.members == pytest.approx({"one": 0.5, "other": 0.5}, abs=0.25)
    assert sum(selection.members.values()) == pytest.approx(1)
    twins = race({"one": one, "other": one}, {"one": 1, "other": 2}, stack=("one", "other")).choose()
    assert twins.chosen == "one"


def test_changed_labels_of_a_fold_change_no_weight_that_it_is_scored_with():
    """The weights for a fold come from the other folds alone."""
    one, other = answers(0.7, seed=1, noise_seed=1), answers(0.2, seed=2, noise_seed=2)

    def flipped(tables: list[Predictions]) -> list[Predictions]:
        first = tables[0]
        swapped = first.table.assign(target=first.table["target"].map({"a": "b", "b": "a"}))
        return [
            Predictions.from_table(swapped, classes=("a", "b"), split_unit="subject", subset=first.subset),
            *tables[1:],
        ]

    before, after = cross_fitted([one, other]), cross_fitted([flipped(one), flipped(other)])
    np.testing.assert_array_equal(before[0].probabilities, after[0].probabilities)
    assert not np.array_equal(before[1].probabilities, after[1].probabilities)


def test_a_fold_that_ends_with_an_error_counts_for_nobody():
    tables = answers(1.0, seed=1)
    found = Race({"a": 1, "b": 2}, metric="macro_roc_auc")

    def fails_for_b(name: str) -> Predictions:
        if name == "b":
            raise TimeoutError
        return tables[0]

    with pytest.raises(TimeoutError):
        found.run_fold(fails_for_b)
    assert found.folds == 0
    assert found.leader is None
    found.run_fold(lambda name: tables[0] if name == "a" else None)
    assert found.running == ("a",)
    assert found.choose().reason == "the only candidate left"


def test_undefined_scores_are_last():
    scores = {"undefined": np.full(10, np.nan), "defined": np.full(10, 0.4)}
    assert choose(scores, {"undefined": 0, "defined": 1}).chosen == "defined"
