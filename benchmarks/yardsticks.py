"""Candidates on public data sets with published scores; see docs/candidates.md.

    python benchmarks/yardsticks.py FOLDER --out yardsticks [--sets NAME ...] [--recipes NAME ...]
        [--part val] [--folds 5] [--minutes 30]

FOLDER holds the .npz files of MedMNIST. A candidate is a recipe, or the mean of the probabilities of several
("shape-masks+small-cnn3d-masks"). Each candidate is cross-validated within the training part, and the one with
the highest mean area under the ROC curve is chosen. Only then the scored part is read: the ensemble of the folds of the
chosen candidate predicts it once. The same is done with the labels of the training part shuffled, whose score must be
that of chance. ``--part test`` scores the test part, which published scores are of. With ``--minutes`` `gyrus auto`,
where this version has it, also gets the training part and predicts the scored part.

A finished cross-validation in the folder ``--out`` is not repeated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import gyrus
from gyrus.datasets.scan import scan
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.result import Evaluation
from gyrus.inference.pooling import average_predictions
from gyrus.inference.predictions import Predictions
from gyrus.workflows.crossval_folder import CrossValidation


@dataclass(frozen=True)
class Yardstick:
    """A public data set.

    Attributes:
        candidates: Recipes, and means of recipes, by default.
        published: Name of the classifier, AUC and accuracy on the official test part, of MedMNIST v2 (Yang et al. 2023,
            https://doi.org/10.1038/s41597-022-01721-8), Tables 3 and 4; empty for images of more pixels.
        majority: Accuracy of always predicting the more frequent class of the official test part.
    """

    candidates: tuple[str, ...]
    published: tuple[tuple[str, float, float], ...]
    majority: float


YARDSTICKS = {
    "breastmnist": Yardstick(
        ("random-convolutions-images", "small-cnn2d"),
        (
            ("ResNet-18, 28 pixels", 0.901, 0.863),
            ("ResNet-50, 28 pixels", 0.857, 0.812),
            ("auto-sklearn", 0.836, 0.803),
            ("AutoKeras", 0.871, 0.831),
            ("Google AutoML Vision", 0.919, 0.861),
        ),
        0.731,
    ),
    "adrenalmnist3d": Yardstick(
        ("shape-masks", "shape-convolutions-masks", "small-cnn3d-masks", "shape-masks+small-cnn3d-masks"),
        (
            ("ResNet-18, 3D", 0.827, 0.721),
            ("ResNet-18, ACS", 0.839, 0.754),
            ("ResNet-50, 3D", 0.828, 0.745),
            ("auto-sklearn", 0.828, 0.802),
            ("AutoKeras", 0.804, 0.705),
        ),
        0.768,
    ),
    "adrenalmnist3d_64": Yardstick(("shape-masks", "shape-convolutions-masks"), (), 0.768),
}


def write_part(source: Path, target: Path, parts: Sequence[str], *, shuffled: bool = False) -> Path:
    """Write some parts of a file of MedMNIST as its training part; existing files stay.

    Args:
        source: The file.
        target: The file to write.
        parts: The parts, such as "train".
        shuffled: Shuffle the labels, seed 0.
    """
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        with np.load(source) as arrays:
            images, labels = (
                np.concatenate([arrays[f"{part}_{what}"] for part in parts]) for what in ("images", "labels")
            )
        if shuffled:
            labels = labels[np.random.default_rng(0).permutation(len(labels))]
        np.savez_compressed(target, train_images=images, train_labels=labels)
    return target


def cross_validate(candidate: str, data: Path, out: Path, folds: int) -> list[CrossValidation]:
    """The cross-validations of the recipes of a candidate, which are continued if they were started before.

    Args:
        candidate: A recipe, or several joined by "+".
        data: The training part.
        out: Folder of the cross-validations, each of which gets the name of its recipe.
        folds: Their number.
    """
    settings = {"evaluation.baselines": False, "evaluation.unlike_training": False}
    return [
        gyrus.crossval(recipe, data=data, out=out / recipe, folds=folds, overrides=settings)
        for recipe in candidate.split("+")
    ]


def score(runs: Sequence[Path], data: Path) -> Evaluation:
    """The evaluation of a classifier, or the mean of several, on all images of a file."""
    manifest = scan(data)
    labels = {str(manifest.root / row.sample): row.label for row in manifest.table.itertuples()}
    members = []
    for run in runs:
        found = gyrus.predict(run, [data])
        samples = found.table["sample"].tolist()
        members.append(
            Predictions.from_logits(
                samples,
                np.log(np.maximum(found.probabilities, 1e-30)),
                classes=found.classes,
                targets=[labels[sample] for sample in samples],
                split_unit=found.split_unit,
                subset="test",
                subjects=samples,
            )
        )
    return evaluate(average_predictions(members))


def fold_auc(members: Sequence[CrossValidation]) -> float:
    """The mean over the folds of the area under the ROC curve, of the mean of the members."""
    scores = []
    for runs in zip(*(member.runs for member in members), strict=True):
        mean = average_predictions([Predictions.load(run.predictions("test")) for run in runs])
        scores.append(evaluate(mean).headline.metrics["macro_roc_auc"].value)
    return float(np.mean(scores))


def main() -> None:
    """Run the yardsticks and print one table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", choices=list(YARDSTICKS), help="by default those in FOLDER")
    parser.add_argument("--recipes", nargs="+")
    parser.add_argument("--part", choices=["val", "test"], default="val")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--minutes", type=float, help="also run gyrus auto for so long")
    options = parser.parse_args()
    present = [name for name in YARDSTICKS if (options.folder / f"{name}.npz").is_file()]
    for name in options.sets or present:
        yardstick, source, out = YARDSTICKS[name], options.folder / f"{name}.npz", options.out / name
        known = ["train"] if options.part == "val" else ["train", "val"]
        train = write_part(source, out / f"{'-'.join(known)}.npz", known)
        shuffled = write_part(source, out / f"{'-'.join(known)}-shuffled.npz", known, shuffled=True)
        scored = write_part(source, out / f"scored-{options.part}.npz", [options.part])
        found = {
            candidate: cross_validate(candidate, train, out / options.part, options.folds)
            for candidate in options.recipes or yardstick.candidates
        }
        aucs = {candidate: fold_auc(members) for candidate, members in found.items()}
        best = max(aucs, key=lambda candidate: aucs[candidate])
        control = cross_validate(best, shuffled, out / f"{options.part}-shuffled", options.folds)
        rows = {
            f"{best}, ensemble of {options.folds} folds": [member.folder for member in found[best]],
            "the same, labels shuffled": [member.folder for member in control],
        }
        if options.minutes and hasattr(gyrus, "auto"):
            automatic = out / options.part / "auto"
            gyrus.auto(train, out=automatic, minutes=options.minutes)
            rows[f"gyrus auto, {options.minutes:g} minutes"] = [automatic / "classifier"]
        print(f"\n{name}: cross-validated AUC within the training part")
        for candidate, auc in aucs.items():
            print(f"  {candidate:45} {auc:.3f}{'  (chosen)' if candidate == best else ''}")
        print(f"{name}: the {options.part} part, predicted once (95 % confidence interval)")
        for title, runs in rows.items():
            metrics = score(runs, scored).headline.metrics
            print(f"  {title:45} AUC {metrics['macro_roc_auc'].text()}, accuracy {metrics['accuracy'].text()}")
        print(f"{name}: published, on the official test part (majority class: accuracy {yardstick.majority})")
        for title, auc, accuracy in yardstick.published:
            print(f"  {title:45} AUC {auc:.3f}, accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
