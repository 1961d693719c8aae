"""What simple classifiers reach on phantom data, by image and by subject.

Run ``python benchmarks/phantom_baselines.py --seeds 5``; add ``--cnn`` for a small network too, which takes minutes.
``--figure FILE`` draws people of the first population instead.
Each seed is another population. Scores are accuracies; those by subject are means over 5 folds of subjects, in which
each subject of the test fold counts once, except where the table says "per image".
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from gyrus.synthetic.phantom import SULCUS, VENTRICLE, Phantom, generate

Score = Callable[[Phantom, int], float]


def pooled(phantom: Phantom, side: int) -> np.ndarray:
    """Slices made small by averaging squares: (subjects, slices, side, side)."""
    subjects, slices, size, _ = phantom.volumes.shape
    step = size // side
    shape = (subjects, slices, side, step, side, step)
    return phantom.volumes[..., : side * step, : side * step].reshape(shape).mean(axis=(3, 5))


def folds(phantom: Phantom, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Five folds of subjects, stratified by class."""
    splitter = StratifiedKFold(5, shuffle=True, random_state=seed)
    return list(splitter.split(phantom.labels, phantom.labels))


def by_subject(phantom: Phantom, seed: int, features: np.ndarray, model) -> float:
    """Accuracy over held-out subjects of a model on one row of features a subject."""
    hits = [
        model.fit(features[train], phantom.labels[train]).predict(features[test]) == phantom.labels[test]
        for train, test in folds(phantom, seed)
    ]
    return float(np.concatenate(hits).mean())


def nearest_by_image(phantom: Phantom, seed: int) -> float:
    pixels = phantom.volumes.reshape(-1, phantom.volumes[0, 0].size).astype(np.float32)
    targets = np.repeat(phantom.labels, phantom.volumes.shape[1])
    parts = train_test_split(pixels, targets, test_size=0.2, random_state=seed, stratify=targets)
    return float(KNeighborsClassifier(1).fit(parts[0], parts[2]).score(parts[1], parts[3]))


def nearest_by_subject(phantom: Phantom, seed: int) -> float:
    slices = phantom.volumes.shape[1]
    pixels = phantom.volumes.reshape(len(phantom.labels), slices, -1).astype(np.float32)
    hits = []
    for train, test in folds(phantom, seed):
        model = KNeighborsClassifier(1).fit(
            pixels[train].reshape(len(train) * slices, -1), np.repeat(phantom.labels[train], slices)
        )
        hits.append(
            model.predict(pixels[test].reshape(len(test) * slices, -1)) == np.repeat(phantom.labels[test], slices)
        )
    return float(np.concatenate(hits).mean())


def linear_svm(phantom: Phantom, seed: int) -> float:
    features = pooled(phantom, 32).reshape(len(phantom.labels), -1)
    return by_subject(phantom, seed, features, make_pipeline(StandardScaler(), SVC(kernel="linear", C=1e-3)))


def dark_fraction(phantom: Phantom, seed: int) -> float:
    inside = phantom.volumes > 15
    dark = inside & (phantom.volumes < 80)
    features = (dark.sum(axis=(1, 2, 3)) / inside.sum(axis=(1, 2, 3)))[:, None]
    return by_subject(phantom, seed, features, make_pipeline(StandardScaler(), LogisticRegression(C=10)))


def oracle(phantom: Phantom, seed: int) -> float:
    volumes = [(phantom.structures == kind).mean(axis=(1, 2, 3)) for kind in (VENTRICLE, SULCUS)]
    features = np.log(np.stack(volumes, axis=1) + 1e-4)
    return by_subject(phantom, seed, features, make_pipeline(StandardScaler(), LogisticRegression(C=10)))


def _network(classes: int):
    from torch import nn

    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.BatchNorm2d(32)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.LazyLinear(128), nn.ReLU(), nn.Linear(128, classes)),
    )


def cnn_probabilities(train: np.ndarray, targets: np.ndarray, test: np.ndarray, seed: int, epochs: int) -> np.ndarray:
    """Probabilities that a network of two convolutions, trained for some epochs, gives the test images."""
    import torch

    torch.manual_seed(seed)
    mean, deviation = train.mean(), train.std()
    inputs, held_out = (torch.from_numpy((part - mean) / deviation)[:, None] for part in (train, test))
    answers = torch.from_numpy(targets)
    model = _network(int(targets.max()) + 1)
    model(inputs[:2])
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(epochs):
        model.train()
        for batch in torch.randperm(len(inputs)).split(32):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs[batch]), answers[batch]).backward()
            optimiser.step()
    model.eval()
    with torch.no_grad():
        return torch.cat([model(part).softmax(1) for part in held_out.split(128)]).numpy()


def cnn(phantom: Phantom, seed: int, epochs: int) -> tuple[float, float, float]:
    """By image: accuracy. By subject, on 30 % of the people: accuracy and macro AUC of their mean probability."""
    side = 64
    slices = phantom.volumes.shape[1]
    images = pooled(phantom, side).astype(np.float32).reshape(-1, side, side)
    targets = np.repeat(phantom.labels, slices)
    train, test = train_test_split(np.arange(len(images)), test_size=0.25, random_state=seed, stratify=targets)
    mixed = cnn_probabilities(images[train], targets[train], images[test], seed, epochs)
    people = np.arange(len(phantom.labels))
    known, unknown = train_test_split(people, test_size=0.3, random_state=seed, stratify=phantom.labels)
    owner = np.repeat(people, slices)
    seen = np.isin(owner, known)
    apart = cnn_probabilities(images[seen], targets[seen], images[~seen], seed, epochs)
    order = np.sort(unknown)
    mean = np.stack([apart[owner[~seen] == person].mean(axis=0) for person in order])
    mean = mean.astype(np.float64)
    mean /= mean.sum(axis=1, keepdims=True)
    truth = phantom.labels[order]
    score = mean[:, 1] if mean.shape[1] == 2 else mean
    area = roc_auc_score(truth, score, multi_class="ovr")
    return float((mixed.argmax(1) == targets[test]).mean()), float((mean.argmax(1) == truth).mean()), float(area)


def figure(phantom: Phantom, path: Path) -> None:
    """Two subjects of each class at three positions, and the structures that widen with the class."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap

    classes, slices = len(phantom.class_names), phantom.volumes.shape[1]
    heights = [slices // 8, slices * 7 // 16, slices * 7 // 8]
    canvas, axes = plt.subplots(classes, 7, figsize=(9.4, 1.31 * classes + 0.2), layout="constrained")
    canvas.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.0, hspace=0.0)
    for row, name in enumerate(phantom.class_names):
        first, second = np.flatnonzero(phantom.labels == row)[:2]
        shown = [(subject, height) for subject in (first, second) for height in heights] + [(second, heights[1])]
        for axis, (subject, height) in zip(axes[row], shown, strict=True):
            axis.imshow(phantom.volumes[subject, height], cmap="gray", vmin=0, vmax=255)
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
        mask = np.ma.masked_equal(phantom.structures[shown[-1]], 0)
        axes[row, -1].imshow(mask, cmap=ListedColormap(["#e69f00", "#56b4e9"]), vmin=1, vmax=2, alpha=0.85)
        axes[row, 0].set_ylabel(name.replace("_", " ").replace(" Demented", "\ndemented"), fontsize=9)
    for column, title in ((1, "one subject"), (4, "another subject"), (6, "fluid spaces")):
        axes[0, column].set_title(title, fontsize=9)
    canvas.savefig(path, dpi=150)


BASELINES: dict[str, Score] = {
    "1-nearest-neighbour on pixels, split by image (per image)": nearest_by_image,
    "1-nearest-neighbour on pixels, split by subject (per image)": nearest_by_subject,
    "linear SVM on pooled pixels, split by subject": linear_svm,
    "fraction of dark pixels in the brain, split by subject": dark_fraction,
    "true volumes of ventricles and sulci, split by subject": oracle,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("subjects", 60), ("slices", 16), ("classes", 4), ("size", 128), ("seeds", 5), ("epochs", 10)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--cnn", action="store_true", help="train a small network too, on slices of 64 pixels")
    parser.add_argument("--figure", type=Path, help="draw people into this file and stop")
    options = parser.parse_args()
    if options.figure:
        figure(generate(options.subjects, options.slices, options.classes, options.size, 0), options.figure)
        return
    rows: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        phantom = generate(options.subjects, options.slices, options.classes, options.size, seed)
        for name, score in BASELINES.items():
            rows.setdefault(name, []).append(score(phantom, seed))
        if options.cnn:
            names = ("split by image (per image)", "split by subject", "split by subject: macro AUC")
            for name, value in zip(names, cnn(phantom, seed, options.epochs), strict=True):
                rows.setdefault(f"CNN of 2 convolutions, {options.epochs} epochs, {name}", []).append(value)
    print(f"| classifier | mean of {options.seeds} populations | lowest to highest |\n|---|---|---|")
    for name, values in rows.items():
        print(f"| {name} | {np.mean(values):.2f} | {min(values):.2f} to {max(values):.2f} |")


if __name__ == "__main__":
    main()
