"""What a linear classifier on pooled voxels reaches, over the same folds as `gyrus crossval`; see docs/volumes.md.

Example:
    python benchmarks/linear_voxels.py slices/ --recipe oasis-heads-cnn --seeds 0 1 2 --out svm
    python benchmarks/linear_voxels.py slices/ --steps "[{step: grayscale}, {step: tissue}]"
    python benchmarks/linear_voxels.py slices/ --beside "together-{seed}/predictions.parquet"

Writes the out-of-fold predictions of each seed, which `gyrus compare` takes beside the folders of `gyrus crossval`.
Each fold learns from its training and validation set together, and nothing is chosen: no C is tuned.
Pooled areas compare people across the folds' classifiers, means over folds within them; a network that is surer of
everything in one fold than in another loses by pooling, though it ranks the people of each fold as well.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC

from gyrus.configuration import read_assignments
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split, kfold
from gyrus.datasets.store import Store, open_store
from gyrus.evaluation.out_of_fold import join_folds
from gyrus.inference.pooling import pool_by_subject
from gyrus.inference.predictions import Predictions
from gyrus.workflows.display import SILENT
from gyrus.workflows.experiment_config import load_config
from gyrus.workflows.load_data import scan_data

MACHINES = {"voxels as they are, C = 0.01": (False, 0.01), "standardised, C = 0.0001": (True, 1e-4)}


def pooled(store: Store, edge: int) -> np.ndarray:
    """Means over cubes of ``edge`` voxels, (N, F) in 0..1; voxels that do not fill a cube at the end are left out."""
    rows = []
    for volume in store.pixels[:, 0]:
        cut = volume[tuple(slice(0, length // edge * edge) for length in volume.shape)]
        blocks = [size for length in cut.shape for size in (length // edge, edge)]
        rows.append(cut.reshape(blocks).mean(axis=(1, 3, 5), dtype=np.float64).ravel() / 255)
    return np.stack(rows)


def answers(
    features: np.ndarray, manifest: Manifest, folds: Sequence[Split], *, standardise: bool, strength: float
) -> Iterator[Predictions]:
    """What is said of the test set of each fold."""
    samples, targets = manifest.table["sample"], manifest.targets.to_numpy()
    for parts in folds:
        tested = samples.isin(parts.samples["test"]).to_numpy()
        known = features[~tested]
        mean, scale = (known.mean(axis=0), np.maximum(known.std(axis=0), 1e-3)) if standardise else (0.0, 1.0)
        machine = LinearSVC(C=strength, max_iter=20_000, random_state=0).fit((known - mean) / scale, targets[~tested])
        margin = machine.decision_function((features[tested] - mean) / scale)
        table = manifest.table[tested]
        yield Predictions.from_logits(
            table["sample"].tolist(),
            np.column_stack([-margin, margin]),
            classes=manifest.classes,
            split_unit="subject",
            part="test",
            subjects=table["subject"].tolist(),
            targets=table["label"].tolist(),
        )


def areas(said: Predictions, folds: Sequence[Split]) -> tuple[float, float]:
    """The area under the ROC curve of the second class, by person: pooled over the folds, and their mean."""
    said = pool_by_subject(said)
    whose = said.table["subject"]
    inside = [whose.isin(fold.subjects["test"]).to_numpy() for fold in folds]
    each = [roc_auc_score(said.targets[rows], said.probabilities[rows, 1]) for rows in inside]
    return float(roc_auc_score(said.targets, said.probabilities[:, 1])), float(np.mean(each))


def show(name: str, found: Sequence[tuple[float, float]]) -> None:
    for title, values in zip(("pooled", "mean over folds"), zip(*found, strict=True), strict=True):
        print(f"{name}, {title}: " + ", ".join(f"{area:.3f}" for area in values) + f"; mean {np.mean(values):.3f}")


def main() -> None:
    """Print the area under the ROC curve, pooled and as the mean over the folds, for each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--recipe", default="oasis-heads-cnn", help="what stacks the slices and takes classes together")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--edge", type=int, default=4, help="voxels along each axis that become one")
    parser.add_argument("--steps", default="[{step: grayscale}]", help="preprocessing.steps before voxels are pooled")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--beside", help="out-of-fold predictions of another classifier, with {seed} in the path")
    arguments = parser.parse_args()
    config = load_config(
        arguments.recipe, {"data.path": arguments.data} | read_assignments([f"preprocessing.steps={arguments.steps}"])
    )
    manifest = scan_data(config.data, SILENT)
    features = pooled(open_store(manifest, config.preprocessing), arguments.edge)
    print(f"{len(manifest)} heads, {features.shape[1]} numbers each")
    area = roc_auc_score(manifest.targets, features.mean(axis=1))
    print(f"nothing learnt, the mean of all voxels of a head: {max(area, 1 - area):.3f}, whichever way is better")
    how = {
        seed: config.split.model_copy(update={"method": "kfold", "folds": 5, "seed": seed}) for seed in arguments.seeds
    }
    folds = {seed: kfold(manifest, each) for seed, each in how.items()}
    for number, (name, (standardise, strength)) in enumerate(MACHINES.items()):
        found = []
        for seed in arguments.seeds:
            said = join_folds(
                list(answers(features, manifest, folds[seed], standardise=standardise, strength=strength))
            )
            found.append(areas(said, folds[seed]))
            if arguments.out:
                said.save(arguments.out / f"svm-{number}-seed-{seed}.parquet")
        show(name, found)
    if arguments.beside:
        tables = {seed: Predictions.load(Path(arguments.beside.format(seed=seed))) for seed in arguments.seeds}
        show(arguments.beside, [areas(tables[seed], folds[seed]) for seed in arguments.seeds])


if __name__ == "__main__":
    main()
