"""Does Gyrus notice scans that are unlike the training data, and how often does it raise a false alarm?

Run: ``python benchmarks/unlike_training.py volumes IXI`` or ``... slices OASIS``, with the folder of BIDS heads (with a
column sex) or of slices in class folders; ``--real KIND=PATH`` adds other scans that are at hand. A classifier is
trained once, and the reference of its training data is fitted as ``gyrus train`` does. The subjects outside of the
training set are divided into two halves a hundred times: one half calibrates, the other half is new. Altered copies of
the new half, and the other scans, are compared with the new half itself: the area under the ROC curve of the
strangeness, and the fraction called unlike at the level of alarm. The first line is the rate of false alarms.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage
from sklearn.metrics import roc_auc_score

import gyrus
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.sample_files import VolumeFiles
from gyrus.datasets.store import open_store
from gyrus.errors import GyrusError
from gyrus.inference.predict import predict_embeddings
from gyrus.inference.unlike_training import (
    PARTS,
    UnlikeTraining,
    _centre_and_scale,
    _means,
    _strangeness,
    measure_images,
    some_of_each,
)
from gyrus.workflows.display import SILENT
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.load_data import scan_unlabelled
from gyrus.workflows.predict import TrainedClassifier

DIVISIONS = 100

SETTINGS = {
    "volumes": (
        "small-cnn3d",
        {"split.val": 0.25, "split.test": 0.25, "training.epochs": 10, "data.columns.label": "sex"},
    ),
    "slices": ("dementia-baseline", {"split.val": 0.3, "split.test": 0.3, "training.epochs": 3}),
}


def alterations(generator: np.random.Generator) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What is done to an array whose last axis but one (slices: first) runs from front to back, and others likewise."""

    def lesion(values: np.ndarray, size: float = 0.09) -> np.ndarray:
        grid = np.stack(np.meshgrid(*(np.linspace(0, 1, n) for n in values.shape), indexing="ij"))
        centre = np.array([0.58, 0.55, 0.6][: values.ndim])[(slice(None), *[None] * values.ndim)]
        inside = ((grid - centre) ** 2).sum(axis=0) < size**2
        return np.where(inside, np.percentile(values, 99), values)

    def noise(values: np.ndarray, level: float) -> np.ndarray:
        unit = float(np.median(values[values > values.mean()]))
        return np.abs(values + generator.normal(0, level * unit, values.shape))

    def cropped(values: np.ndarray) -> np.ndarray:
        """The upper third is missing, as a field of view that was set too low."""
        cut = values.copy()
        cut[..., -values.shape[-1] // 3 :] = 0 if values.ndim == 3 else cut[..., -values.shape[-1] // 3 :]
        if values.ndim == 2:
            cut[: len(cut) // 3] = 0
        return cut

    def inverted(values: np.ndarray) -> np.ndarray:
        """Dark fluid bright, white matter dark, as T2 weighting has it; the background stays black."""
        head = values > 0.15 * np.percentile(values, 99)
        return np.where(head, np.maximum(1.15 * np.percentile(values, 99) - values, 0), values)

    def scanner(values: np.ndarray) -> np.ndarray:
        """Another contrast curve, a smoother image and a bias field."""
        top = np.percentile(values, 99.9)
        field = 1 + 0.3 * np.linspace(-1, 1, values.shape[0]).reshape(-1, *[1] * (values.ndim - 1))
        return ndimage.gaussian_filter(top * np.clip(values / top, 0, None) ** 0.8, 0.7) * field

    def small(values: np.ndarray) -> np.ndarray:
        """A head of 45 % of the length, elongated, on the same grid, as of a small animal."""
        zoom = np.array([0.4, 0.6, 0.4][: values.ndim])
        shrunk = ndimage.zoom(values, zoom, order=1)
        before = [(whole - part) // 2 for whole, part in zip(values.shape, shrunk.shape, strict=True)]
        after = [whole - part - first for whole, part, first in zip(values.shape, shrunk.shape, before, strict=True)]
        return np.pad(shrunk, list(zip(before, after, strict=True)))

    def computed_tomography(values: np.ndarray) -> np.ndarray:
        """Air at -1000, soft tissue near 40, and a bright rim for bone."""
        head = ndimage.binary_fill_holes(values > 0.15 * np.percentile(values, 99))
        rim = head & ~ndimage.binary_erosion(head, iterations=3)
        hounsfield = np.where(head, 40 + generator.normal(0, 8, values.shape), -1000.0)
        return np.where(rim, 900.0, hounsfield)

    last = -1
    return {
        "mirrored left to right": lambda values: np.flip(values, 0 if values.ndim == 3 else 1),
        "upside down": lambda values: np.flip(values, last if values.ndim == 3 else 0),
        "upper third missing": cropped,
        "noise of 10 %": lambda values: noise(values, 0.1),
        "noise of 30 %": lambda values: noise(values, 0.3),
        "bright lesion, 9 % of the field of view": lesion,
        "bright lesion, 5 % of the field of view": lambda values: lesion(values, 0.05),
        "contrast inverted (as T2)": inverted,
        "other scanner (gamma, blur, bias field)": scanner,
        "small elongated head (as an animal)": small,
        "as CT": computed_tomography,
    }


def write_volumes(manifest: Manifest, change: Callable[[np.ndarray], np.ndarray], folder: Path) -> None:
    """Altered copies of volumes as NIfTI."""
    import nibabel

    files = VolumeFiles(manifest.root, manifest.table)
    for row, subject in enumerate(manifest.table["subject"]):
        volume = files.read(row)
        values = np.round(np.clip(change(volume.array), -32000, 32000)).astype(np.int16)
        image = nibabel.Nifti1Image(values, volume.affine)
        image.header.set_xyzt_units("mm")
        nibabel.save(image, folder / f"sub-{subject.removeprefix('sub-')}_T1w.nii.gz")


def write_slices(manifest: Manifest, change: Callable[[np.ndarray], np.ndarray], folder: Path) -> None:
    """Altered copies of slices as PNG."""
    from PIL import Image

    for path, subject, number in zip(
        manifest.table["path"], manifest.table["subject"], manifest.table["slice"].fillna(0), strict=True
    ):
        with Image.open(manifest.root / path) as image:
            values = np.asarray(image.convert("L"), np.float32)
        changed = change(values)
        changed = (changed + 1000) / 8 if changed.min() < 0 else changed
        name = f"sub-{subject.removeprefix('sub-')}_slice-{int(number):03d}.png"
        Image.fromarray(np.clip(changed, 0, 255).astype(np.uint8)).save(folder / name)


def distances(trained: TrainedClassifier, unlike: UnlikeTraining, manifest: Manifest) -> np.ndarray:
    """The distances of all images of a manifest."""
    with tempfile.TemporaryDirectory() as cache:
        store = open_store(manifest, trained.settings.preprocessing, cache=Path(cache))
        rows = np.arange(len(manifest))
        features = predict_embeddings(trained.model, trained.datasets(manifest, store)[0], rows)
        return unlike.distances(measure_images(manifest, store, features, rows))


def read(trained: TrainedClassifier, path: Path) -> Manifest:
    """New images as ``gyrus predict`` reads them."""
    config = trained.reading(DataConfig(files=("*",), on_bad_file="skip"))
    return trained.require_dimensions(scan_unlabelled(path, config, SILENT))


def divisions(subjects: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Halves of the subjects, as two masks."""
    for seed in range(DIVISIONS):
        first = np.zeros(subjects, bool)
        first[np.random.default_rng(seed).permutation(subjects)[: subjects // 2]] = True
        yield first, ~first


def main() -> None:
    """Train, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=SETTINGS)
    parser.add_argument("data", type=Path)
    parser.add_argument("--real", action="append", default=[], metavar="KIND=PATH")
    parser.add_argument("--run", type=Path, help="folder of an earlier training of this benchmark")
    parser.add_argument("--every", type=int, default=1, help="use every n-th image of a subject")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    recipe, overrides = SETTINGS[options.kind]
    with tempfile.TemporaryDirectory() as work:
        folder = options.run or Path(work) / "run"
        if not (folder / "unlike_training.npz").is_file():
            gyrus.train(recipe, data=options.data, out=folder, overrides={**overrides, "evaluation.resamples": 0})
        run = gyrus.Run(folder)
        trained, unlike = TrainedClassifier.load(run), UnlikeTraining.load(run.unlike_training)
        split, manifest = gyrus.Split.load(run.split), gyrus.Manifest.load(run.manifest)
        outside = manifest.select([*split.samples["val"], *split.samples["test"]])
        names = outside.table["subject"].to_numpy(dtype=object)
        chosen = some_of_each(names, 500, 0)
        chosen = chosen[pd.Series(names[chosen]).groupby(names[chosen]).cumcount() % options.every == 0]
        outside = outside.select(outside.table["sample"].iloc[chosen].tolist())
        codes, subjects = (lambda pair: (pair[1], pair[0]))(
            np.unique(outside.table["subject"].to_numpy(str), return_inverse=True)
        )
        like = distances(trained, unlike, outside)
        trials = {"new subjects, unchanged": like}
        write = write_volumes if options.kind == "volumes" else write_slices
        for name, change in alterations(np.random.default_rng(0)).items():
            place = Path(work) / "altered" / str(len(trials))
            place.mkdir(parents=True)
            write(outside, change, place)
            altered = read(trained, place)
            order = np.unique(altered.table["subject"].to_numpy(str), return_inverse=True)[1]
            trials[name] = np.concatenate([distances(trained, unlike, altered), order[:, None]], axis=1)
        others = {}
        for text in options.real:
            name, _, path = text.partition("=")
            try:
                others[name] = distances(trained, unlike, read(trained, Path(path)))
            except GyrusError as error:
                print(f"{name}: refused: {str(error).splitlines()[0][:160]}")
        print(f"{len(subjects)} subjects outside of the training set, {DIVISIONS} divisions into halves")
        print("| scans | n | AUROC by image | by subject | called unlike, by subject | differs most in |")
        print("|---|---|---|---|---|---|")
        for name, found in {**trials, **others}.items():
            _print_row(name, found, like, codes, unlike, other=name in others)


def _print_row(
    name: str, found: np.ndarray, like: np.ndarray, codes: np.ndarray, unlike: UnlikeTraining, *, other: bool
) -> None:
    same = name.startswith("new subjects")
    groups = np.arange(len(found)) if other else codes if same else found[:, -1].astype(int)
    found = found if other or same else found[:, :-1]
    images, by_subject, called, alarms = [], [], [], []
    for first, second in divisions(int(codes.max()) + 1):
        kept, new = first[codes], second[codes]
        number = np.unique(codes[kept], return_inverse=True)[1]
        local = replace(unlike, reference=like[kept], subjects=number)
        strange = np.full(len(found), True) if other else second[groups]
        numbers = np.unique(groups[strange], return_inverse=True)[1]
        called.append((local.subject_p_values(found[strange], numbers) <= local.alarm).mean())
        alarms.append(local.alarm)
        if same:
            continue
        scale = _centre_and_scale(like[kept])
        images.append(_area(_strangeness(like[new], *scale), _strangeness(found[strange], *scale)))
        known = np.unique(codes[new], return_inverse=True)[1]
        means = _means(like[kept], number), _means(like[new], known), _means(found[strange], numbers)
        scale = _centre_and_scale(means[0])
        by_subject.append(_area(*(_strangeness(each, *scale) for each in means[1:])))
    areas = ["", ""] if same else [f"{np.mean(each):.2f}" for each in (images, by_subject)]
    where = unlike.most_unlike(found)
    most = max(PARTS, key=where.count)
    expected = f" (expected at most {np.mean(alarms):.2f})" if same else ""
    count = len(np.unique(groups))
    cells = [name, str(count), *areas, f"{np.mean(called):.2f}{expected}", "" if same else PARTS[most]]
    print(f"| {' | '.join(cells)} |", flush=True)


def _area(like: np.ndarray, strange: np.ndarray) -> float:
    truth = np.repeat([0, 1], [len(like), len(strange)])
    return float(roc_auc_score(truth, np.concatenate([like, strange])))


if __name__ == "__main__":
    main()
