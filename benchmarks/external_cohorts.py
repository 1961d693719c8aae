"""What ``gyrus test`` says about cohorts whose truth is known.

Run: ``python benchmarks/external_cohorts.py``; ``--repeats`` and ``--subjects`` change the work. Each subject has true
log odds of disease given the image; a classifier that is right about it is evaluated on an internal test set with a
prevalence of one half, and on cohorts: of the same population, of another prevalence, of a site where the images carry
less of the disease, and of one where all probabilities are shifted. Of each kind many cohorts are drawn. The table
counts how often the verdict finds a lower discrimination, a shifted prevalence and miscalibration, and how often the
interval of the difference in ROC AUC holds the true one.
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import norm

from gyrus.evaluation.assessment import assess
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.external_validation import InternalScores, validate_externally
from gyrus.inference.predictions import Predictions

SEPARATION = 1.5
"""Distance of the two classes in standard deviations; the true ROC AUC is Phi(distance / sqrt(2))."""

KINDS = {
    "same population": (0.5, SEPARATION, 0.0),
    "prevalence of 20 %": (0.2, SEPARATION, 0.0),
    "other site, weaker signal": (0.5, 0.7, 0.0),
    "other site, probabilities shifted": (0.5, SEPARATION, 1.0),
}
"""Prevalence, separation, and what is added to the log odds, by kind of cohort."""


def draw(
    generator: np.random.Generator, subjects: int, prevalence: float, separation: float, shift: float, subset: str
) -> Predictions:
    """Subjects with the log odds that are right at a prevalence of one half and the full separation."""
    ill = generator.random(subjects) < prevalence
    score = generator.normal(np.where(ill, separation / 2, -separation / 2), 1.0)
    names = [f"{subset}-{number}" for number in range(subjects)]
    return Predictions.from_logits(
        names,
        np.column_stack([np.zeros(subjects), SEPARATION * score + shift]),
        classes=["healthy", "ill"],
        split_unit="subject",
        subset=subset,
        subjects=names,
        targets=["ill" if one else "healthy" for one in ill],
    )


def main() -> None:
    """Draw cohorts and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--subjects", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=200)
    options = parser.parse_args()
    header = ("cohort", "true difference in ROC AUC", "interval holds it", "lower discrimination found")
    header += ("prevalence shift found", "in the large: wrong found", "slope: wrong found")
    print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
    for kind, (prevalence, separation, shift) in KINDS.items():
        true = float(norm.cdf(separation / np.sqrt(2)) - norm.cdf(SEPARATION / np.sqrt(2)))
        found = []
        for seed in range(options.repeats):
            generator = np.random.default_rng((seed, len(kind)))
            val = draw(generator, options.subjects, 0.5, SEPARATION, 0.0, "val")
            test = draw(generator, options.subjects, 0.5, SEPARATION, 0.0, "test")
            cohort = draw(generator, options.subjects, prevalence, separation, shift, "cohort")
            few = {"resamples": options.resamples}
            internal = InternalScores.measure(evaluate(test, **few), test, assess(val, test, healthy="healthy", **few))
            result = validate_externally(internal, evaluate(cohort, **few), cohort, BootstrapConfig(options.resamples))
            gap = result["scores"]["macro_roc_auc"].difference
            (line,) = result["calibration_lines"]
            found.append(
                (
                    gap.low <= true <= gap.high,
                    gap.high < 0,
                    result["prevalence_p"] < 0.05,
                    not line.in_the_large.low <= 0 <= line.in_the_large.high,
                    not line.slope.low <= 1 <= line.slope.high,
                )
            )
        cells = [f"{value:.2f}" for value in np.mean(found, axis=0)]
        print(f"| {kind} | {true:.2f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
