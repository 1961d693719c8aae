"""What pretraining without labels gains, by the fraction of labelled subjects.

    python benchmarks/pretraining.py --data slices/ --recipe small-cnn3d --splits 5 --fractions 0.1 0.3 1

Per split by subject (its seed is the number of the split): the network is pretrained on the training subjects, without
labels, and trained on a fraction of them, stratified by class, in three ways: from random weights; from the pretrained
weights with all layers trained; and with a frozen backbone (probe). All are tested on the same subjects, whom neither
has seen. Printed is the mean ROC AUC by subject over splits, the mean paired difference to random weights, and the
standard deviation of that difference over splits. The splits share subjects, so they are no independent repetitions.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from gyrus.configuration import read_assignments
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.evaluation.result import Evaluation
from gyrus.workflows.display import SILENT
from gyrus.workflows.experiment_config import load_config
from gyrus.workflows.pretrain import pretrain
from gyrus.workflows.train import finish_run, train_on_split
from gyrus.workflows.training_plan import data_to_train

WAYS = ("random", "pretrained", "probe")
QUICK = {
    "evaluation.report": False,
    "evaluation.baselines": False,
    "evaluation.unlike_training": False,
    "evaluation.resamples": 100,
}


def with_labels(split: Split, manifest: Manifest, fraction: float, seed: int) -> Split:
    """The split with a fraction of its training subjects of each class, at least two."""
    table = manifest.table[manifest.table["sample"].isin(split.samples["train"])]
    labels = table.groupby("subject")["label"].first()
    kept: set[str] = set()
    for _, subjects in labels.groupby(labels):
        names = np.random.default_rng(seed).permutation(sorted(subjects.index))
        kept |= {*names[: max(2, round(fraction * len(names)))]}
    samples = tuple(sorted(table["sample"][table["subject"].isin(kept)]))
    return replace(
        split,
        samples={**split.samples, "train": samples},
        subjects={**split.subjects, "train": tuple(sorted(kept))},
        dropped=tuple(sorted({*split.samples["train"]} - {*samples})),
    )


def scores_of_split(options: argparse.Namespace, number: int, found: dict[str, Any]) -> None:
    """Train all ways with all fractions on one split."""
    common = {**QUICK, **read_assignments(options.set), "split.seed": number, "seed": number}
    settings = load_config(options.recipe, common, data=options.data)
    manifest, split = data_to_train(settings, SILENT)
    folder = options.runs / f"split-{number}"
    folder.mkdir(parents=True, exist_ok=True)
    split.save(folder / "split.json")
    weights = pretrain(
        options.recipe,
        data=options.data,
        out=folder / "pretrained",
        exclude=[folder / "split.json"],
        overrides=common | {"training.epochs": options.epochs},
    ).weights
    ways: dict[str, dict[str, Any]] = {
        "random": {},
        "pretrained": {"model.pretrained": str(weights)},
        "probe": {"model.pretrained": str(weights), "model.freezing.all_but_last": 0},
    }
    for fraction in options.fractions:
        part = with_labels(split, manifest, fraction, number)
        for way, changes in ways.items():
            own = load_config(settings, changes)
            place = folder / f"{way}-{fraction:g}"
            run = finish_run(place, partial(train_on_split, manifest, part, own, out=place))
            value = Evaluation.load(run.metrics).scores["subject"].metrics["macro_roc_auc"].value
            found.setdefault(f"{way} {fraction:g}", []).append(value)
            print(f"split {number}, {fraction:.0%} of {len(split.subjects['train'])} subjects, {way}: {value:.3f}")


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--recipe", default="small-cnn3d")
    parser.add_argument("--set", nargs="*", default=[], help="fields of the config, as model.name=resnet18")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--fractions", nargs="+", type=float, default=[0.1, 0.3, 1.0])
    parser.add_argument("--epochs", type=int, default=100, help="of the pretraining")
    parser.add_argument(
        "--runs", type=Path, default=Path("pretraining-runs"), help="folder of the runs, which continue"
    )
    parser.add_argument("--out", type=Path, help="JSON file of the scores")
    options = parser.parse_args(arguments)
    found: dict[str, Any] = {}
    for number in range(options.splits):
        scores_of_split(options, number, found)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1))
    print("labelled | random | pretrained | probe | pretrained - random | probe - random")
    for fraction in options.fractions:
        values = {way: np.array(found[f"{way} {fraction:g}"]) for way in WAYS}
        cells = [f"{statistics.fmean(values[way]):.3f}" for way in WAYS]
        for way in WAYS[1:]:
            differences = values[way] - values["random"]
            cells.append(f"{differences.mean():+.3f} (SD {differences.std(ddof=1) if len(differences) > 1 else 0:.3f})")
        print(" | ".join([f"{fraction:.0%}", *cells]))
    return found


if __name__ == "__main__":
    main()
