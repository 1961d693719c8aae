"""Whether training in bfloat16 changes the scores: the same recipe, split and seeds in both precisions.

    python benchmarks/precision_scores.py --data slices/ --recipe dementia-baseline --seeds 0 1 2 --epochs 8

The split is the same in all trainings (by subject, its seed stays 0); the seed decides weights, order and augmentation.
Printed are the scores on the test subjects for each training, then the mean difference of the pairs of equal seed
beside the standard deviation over seeds. The whole is honest only on a device that computes bfloat16 natively.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from gyrus.evaluation.result import Evaluation
from gyrus.workflows.train import train

PRECISIONS = ("32-true", "bf16-mixed")
METRICS = ("macro_roc_auc", "balanced_accuracy")


def scores(options: argparse.Namespace, seed: int, precision: str, folder: Path) -> dict[str, float]:
    """Scores on the test set by subject."""
    changes = {
        "seed": seed,
        "split.seed": 0,
        "training.precision": precision,
        "training.epochs": options.epochs,
        "model.pretrained": False,
        "evaluation.baselines": False,
        "evaluation.resamples": 200,
    }
    run = train(options.recipe, data=options.data, out=folder / f"{precision}-{seed}", overrides=changes)
    metrics = Evaluation.load(run.metrics).scores["subject"].metrics
    return {metric: metrics[metric].value for metric in METRICS}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="labelled slices of subjects")
    parser.add_argument("--recipe", default="dementia-baseline")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, help="JSON file of the scores")
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {"recipe": options.recipe, "epochs": options.epochs, "scores": {}}
    found["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            for precision in PRECISIONS:
                found["scores"][f"{precision} {seed}"] = scores(options, seed, precision, Path(folder))
                if options.out:
                    options.out.write_text(json.dumps(found, indent=1))
    for metric in METRICS:
        exact, mixed = ([found["scores"][f"{p} {seed}"][metric] for seed in options.seeds] for p in PRECISIONS)
        differences = [after - before for before, after in zip(exact, mixed, strict=True)]
        spread = statistics.stdev(exact) if len(exact) > 1 else float("nan")
        print(
            f"{options.recipe} on {found['device']}, {metric}: float32 {' '.join(f'{x:.3f}' for x in exact)}; "
            f"bfloat16 {' '.join(f'{x:.3f}' for x in mixed)}; mean difference {statistics.mean(differences):+.3f}, "
            f"standard deviation over seeds {spread:.3f}"
        )
    return found


if __name__ == "__main__":
    main()
