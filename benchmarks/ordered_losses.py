"""Losses of ordered classes against cross-entropy, over the same folds: differences of quadratic-weighted kappa.

Example:
    python benchmarks/ordered_losses.py slices/ --out runs/stages

Trains the recipe `small-cnn3d` with AdamW, whose steps do not depend on the scale of a loss, and without label
smoothing, with each loss and seed; each seed assigns the subjects to the folds anew, alike for all losses. Nothing is
tuned.
Finished folds are kept: the same command continues where it was stopped. Intervals resample subjects, the same ones for
all losses and seeds; a kappa is the mean over the seeds.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gyrus.inference.pooling import pool_by_subject
from gyrus.inference.predictions import Predictions
from gyrus.workflows.crossval import crossval

LOSSES = ("cross_entropy", "cumulative_link", "corn")


def out_of_fold(arguments: argparse.Namespace, loss: str, seed: int) -> Predictions:
    """The predictions for each subject by the network of the fold that has not seen it, sorted by subject."""
    found = crossval(
        "small-cnn3d",
        data=arguments.data,
        out=arguments.out / f"{loss}-{seed}",
        folds=arguments.folds,
        overrides={
            "seed": seed,
            "training.loss": {"name": loss},
            "training.epochs": arguments.epochs,
            "training.optimiser": {"name": "adamw", "lr": 0.001, "weight_decay": 0.05},
            "training.device": "cpu",
            "evaluation.baselines": False,
            "evaluation.report": False,
            "evaluation.unlike_training": False,
        },
    ).predictions()
    assert isinstance(found, Predictions)
    return pool_by_subject(found)


def kappas(targets: np.ndarray, predicted: np.ndarray, counts: np.ndarray, classes: int) -> np.ndarray:
    """Quadratic-weighted kappa (Cohen 1968) of weighted subjects.

    Args:
        targets: True stages, shape (N,).
        predicted: Predicted stages, shape (N,).
        counts: How often each subject counts, shape (B, N).
        classes: How many stages there are.

    Returns:
        B kappas.
    """
    stages, total = np.arange(classes), counts.sum(axis=1)
    of_truth, of_answers = (counts @ (values[:, None] == stages) for values in (targets, predicted))
    found = counts @ (targets - predicted) ** 2 / total
    by_chance = np.einsum("bi,bj,ij->b", of_truth, of_answers, (stages[:, None] - stages) ** 2) / total**2
    return np.asarray(1 - found / by_chance)


def interval(values: np.ndarray) -> str:
    """The first value, with the central 95 % of the others."""
    low, high = np.quantile(values[1:], (0.025, 0.975))
    return f"{values[0]:.2f} [{low:.2f}, {high:.2f}]"


def report(tables: dict[str, Sequence[Predictions]], resamples: int) -> None:
    """Print kappa, accuracy and error in stages of each loss, and the difference of each to the first."""
    first = next(iter(tables.values()))[0]
    subjects, classes = len(first), len(first.classes)
    draws = np.random.default_rng(0).multinomial(subjects, np.full(subjects, 1 / subjects), resamples)
    counts = np.vstack([np.ones(subjects), draws])  # the first row is the data themselves
    found = {}
    for loss, of_seeds in tables.items():
        rows = [(each.targets, each.probabilities.argmax(axis=1)) for each in of_seeds]
        each = np.stack([kappas(targets, predicted, counts, classes) for targets, predicted in rows])
        found[loss] = each.mean(axis=0)
        gaps = np.mean([np.abs(targets - predicted) for targets, predicted in rows], axis=0)
        right = np.mean([targets == predicted for targets, predicted in rows], axis=0)
        error, accuracy = (counts @ values / subjects for values in (gaps, right))
        print(f"{loss}: kappa {interval(found[loss])} ({', '.join(f'{value:.2f}' for value in each[:, 0])} by seed)")
        print(f"    error in stages {interval(error)}, accuracy {interval(accuracy)}")
        predicted = np.concatenate([answers for _, answers in rows])
        print(f"    predicted as each stage: {np.bincount(predicted, minlength=classes).tolist()}")
    names = list(found)
    for place, loss in enumerate(names):
        for other in names[:place]:
            print(f"kappa of {loss} minus {other}: {interval(found[loss] - found[other])}")


def main() -> None:
    """Train what is missing, and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--losses", nargs="+", default=LOSSES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--resamples", type=int, default=2000)
    arguments = parser.parse_args()
    tables: dict[str, list[Predictions]] = {loss: [] for loss in arguments.losses}
    for seed in arguments.seeds:
        for loss in arguments.losses:
            tables[loss].append(out_of_fold(arguments, loss, seed))
            print(f"{loss}, seed {seed}: done", flush=True)
    report(tables, arguments.resamples)


if __name__ == "__main__":
    main()
