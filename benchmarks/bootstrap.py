"""Time and memory of an evaluation with intervals: a million prediction rows, two thousand resamples.

Run: ``python benchmarks/bootstrap.py``; ``--rows``, ``--slices``, ``--classes`` and ``--resamples`` change the size.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from gyrus.evaluation.bootstrap import cluster_samples, resample_counts
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.metrics import f1
from gyrus.inference.predictions import Predictions


def make(rows: int, slices: int, classes: int, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    people = -(-rows // slices)
    person = np.arange(rows) // slices
    target = random.integers(classes, size=people)[person]
    logits = random.normal(size=(rows, classes)) + random.normal(size=(people, classes))[person]
    logits[np.arange(rows), target] += 1
    names = np.array([f"class {index}" for index in range(classes)])
    return Predictions.from_logits(
        pd.Series(np.arange(rows)).astype(str).tolist(),
        logits,
        classes=names.tolist(),
        split_unit="subject",
        subjects=[f"person {index}" for index in person],
        targets=names[target].tolist(),
    )


def timed(title: str, work: Callable[[], object]) -> None:
    start, used = time.perf_counter(), time.process_time()
    work()
    print(f"{title:<70} {time.perf_counter() - start:7.1f} s, {time.process_time() - used:.1f} s of processor time")


def confusion_metrics(predictions: Predictions, resamples: int) -> None:
    clusters = pd.factorize(predictions.table["subject"])[0].astype(np.int64)
    flat = np.zeros((len(predictions), len(predictions.classes)))
    cells = cluster_samples(predictions.targets, predictions.predicted, flat, clusters).cells
    for start in range(0, resamples, 32):
        tallies = cells @ resample_counts(cells.shape[1], range(start, min(start + 32, resamples)), seed=0)
        f1(tallies.T.reshape(-1, len(predictions.classes), len(predictions.classes)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--slices", type=int, default=32)
    parser.add_argument("--classes", type=int, default=4)
    parser.add_argument("--resamples", type=int, default=2000)
    options = parser.parse_args()
    predictions = make(options.rows, options.slices, options.classes)
    size = f"{options.rows:,} rows, {options.resamples:,} resamples"
    timed(f"confusion metrics, {size}", lambda: confusion_metrics(predictions, options.resamples))
    timed(f"evaluate (all metrics, both units), {size}", lambda: evaluate(predictions, resamples=options.resamples))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
