"""The winner's curse of `gyrus auto`, and the coverage of its interval, in simulation.

Made-up candidates with known ROC AUC answer for made-up subjects. The race of `gyrus auto` chooses among them, once
with all folds (the choice of the classifier) and once without each outer fold (the honest score). The truth is the
known AUC of what was chosen: its score on fresh subjects without limit.

    python benchmarks/auto_selection.py --simulations 60

Prints the mean error of the score that chose and of the honest score, and how often each interval contains the truth.
No training takes place, so that differences between trainings on fewer and on more subjects are not simulated.
"""

from __future__ import annotations

import argparse
from functools import partial

import numpy as np
from scipy.stats import norm

from gyrus.auto.selection import Race
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.out_of_fold import join_folds
from gyrus.inference.predictions import Predictions

FOLDS = 5
SETTINGS = (
    # subjects, true AUC of each candidate
    (40, (0.70,) * 8),
    (100, (0.70,) * 8),
    (100, (0.60, 0.63, 0.66, 0.69, 0.72, 0.75, 0.78, 0.80)),
    (160, (0.78,) * 8),
)
RESAMPLES = 200
SHARED = 0.6
"""Correlation of the errors of two candidates: some subjects are hard for all."""


def draw(subjects: int, areas: tuple[float, ...], random: np.random.Generator) -> list[list[Predictions]]:
    """Predictions of each candidate, one table per fold, with binormal scores of the given areas."""
    classes = np.arange(subjects) % 2
    folds = (np.arange(subjects) // 2) % FOLDS
    common = random.normal(size=subjects)
    names = np.array([f"s{number:04}" for number in range(subjects)])
    found = []
    for area in areas:
        noise = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * random.normal(size=subjects)
        logit = np.sqrt(2) * norm.ppf(area) * classes + noise
        logits = np.column_stack([np.zeros(subjects), logit - logit.mean()])
        found.append(
            [
                Predictions.from_logits(
                    names[folds == fold].tolist(),
                    logits[folds == fold],
                    classes=("control", "case"),
                    split_unit="subject",
                    subjects=names[folds == fold].tolist(),
                    targets=np.array(["control", "case"])[classes[folds == fold]].tolist(),
                )
                for fold in range(FOLDS)
            ]
        )
    return found


def answer(tables: list[list[Predictions]], fold: int, name: str) -> Predictions:
    return tables[int(name)][fold]


def chosen(tables: list[list[Predictions]], folds: list[int], seed: int) -> int:
    """The candidate that the race chooses on some folds."""
    race = Race(
        {str(number): number for number in range(len(tables))}, metric="macro_roc_auc", seed=seed, resamples=RESAMPLES
    )
    for fold in folds:
        race.run_fold(partial(answer, tables, fold))
    return int(race.choose().chosen)


def simulate(subjects: int, areas: tuple[float, ...], seed: int) -> dict[str, float]:
    tables = draw(subjects, areas, np.random.default_rng((seed, subjects)))
    final = chosen(tables, list(range(FOLDS)), seed)
    outer = [chosen(tables, [fold for fold in range(FOLDS) if fold != left], seed) for left in range(FOLDS)]
    inside = evaluate(join_folds(tables[final]), resamples=RESAMPLES, seed=seed).headline.metrics["macro_roc_auc"]
    pooled = join_folds([tables[outer[fold]][fold] for fold in range(FOLDS)])
    honest = evaluate(pooled, resamples=RESAMPLES, seed=seed).headline.metrics["macro_roc_auc"]
    truth, nested_truth = areas[final], float(np.mean([areas[each] for each in outer]))
    return {
        "curse": inside.value - truth,
        "curse covered": inside.low <= truth <= inside.high,
        "honest": honest.value - nested_truth,
        "honest covered": honest.low <= nested_truth <= honest.high,
        "lost": max(areas) - truth,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(
        f"{options.simulations} simulations of each setting, {FOLDS} folds, 95 % intervals (BCa, {RESAMPLES} resamples)"
    )
    print("subjects  candidates  true AUC      score that chose   covered   honest score   covered   AUC lost")
    for subjects, areas in SETTINGS:
        found = [simulate(subjects, areas, options.seed + number) for number in range(options.simulations)]
        mean = {name: float(np.mean([each[name] for each in found])) for name in found[0]}
        low, high = min(areas), max(areas)
        spread = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
        print(
            f"{subjects:8}  {len(areas):10}  {spread:12}  {mean['curse']:+16.3f}  {mean['curse covered']:8.0%}"
            f"  {mean['honest']:+13.3f}  {mean['honest covered']:8.0%}  {mean['lost']:8.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
