"""How good are the volumes of `gyrus features`? Against segmentations, age and sex, and dementia in slices.

    gyrus features IXI --column label=sex --jobs 2 --out ixi.csv
    python benchmarks/volumetry.py --heads IXI --segmentations IXI/derivatives/dlmuse --table ixi.csv --slices OASIS

Prints a table for docs/volumetry.md. Segmentations have the labels of MUSE: 47 and 48 hippocampus, 4 and 49 to 52
ventricles, 1, 11 and 46 other fluid; everything but 0 lies within the skull.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import gyrus
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.reader import Reader
from gyrus.errors import GyrusError
from gyrus.imaging.resampling import resample_to
from gyrus.imaging.volume_formats import read_volume
from gyrus.volumetry.measure import measure_head
from gyrus.volumetry.template import load_template
from gyrus.volumetry.tissue_mixture import PIXEL_FEATURES, pixel_features

HIPPOCAMPUS, VENTRICLES, FLUID = (47, 48), (4, 49, 50, 51, 52), (1, 11, 46)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=Path, help="BIDS data set of T1-weighted heads, with age and sex.")
    parser.add_argument("--segmentations", type=Path, help="BIDS derivatives with MUSE labels of some of the heads.")
    parser.add_argument("--table", type=Path, help="What `gyrus features` wrote for the heads.")
    parser.add_argument("--slices", type=Path, help="Skull-stripped slices with subjects and classes.")
    parser.add_argument("--healthy", default="Non_Demented", help="Class that is compared with all others.")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.heads and options.segmentations:
        compare_segmentations(options.heads, options.segmentations)
    if options.table:
        compare_people(options.table)
    if options.slices:
        classify_slices(options.slices, options.healthy, options.seed)


def compare_segmentations(heads: Path, segmentations: Path) -> None:
    load_template()
    rows: list[Mapping[str, float]] = []
    for file in sorted(segmentations.glob("sub-*/**/*_dseg.nii.gz")):
        name = file.name.split("_")[0]
        started, cpu = time.perf_counter(), time.process_time()
        try:
            head = measure_head(read_volume(next((heads / name).glob("**/*_T1w.nii.gz"))), load_template())
        except GyrusError as error:
            print(f"failed: {name}: {error}", flush=True)
            continue
        spent = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
        rows.append(spent | _compared(head, read_volume(file)))
        print(name, {key: round(value, 3) for key, value in rows[-1].items()}, flush=True)
    table = pd.DataFrame(rows)
    print(f"\nAgainst {len(table)} segmentations")
    print(f"Dice of brain and fluid: mean {table['dice'].mean():.3f}, lowest {table['dice'].min():.3f}")
    for name in ("intracranial", "brain", "ventricles", "hippocampus"):
        ours, theirs = table[name], table[f"{name}_reference"]
        low, high = correlation_interval(ours, theirs)
        print(
            f"{name}: correlation {ours.corr(theirs):.2f} (95 % CI {low:.2f} to {high:.2f}), mean "
            f"{ours.mean():.1f} mL against {theirs.mean():.1f} mL"
        )
    print(f"CPU seconds per head: median {table['cpu_seconds'].median():.1f}")


def _compared(head, segmentation) -> dict[str, float]:
    from gyrus.imaging.volume import Volume

    mask = resample_to(Volume(head.brain.astype(np.float32), head.affine), segmentation, order=0).array > 0.5
    labels = np.rint(segmentation.array).astype(int)
    unit = float(np.prod(segmentation.spacing)) / 1000
    inside = labels > 0
    found = head.features
    return {
        "dice": float(2 * (mask & inside).sum() / (mask.sum() + inside.sum())),
        "intracranial": found["intracranial_ml"],
        "intracranial_reference": float(inside.sum()) * unit,
        "brain": found["brain_ml"],
        "brain_reference": float((inside & ~np.isin(labels, (*VENTRICLES, *FLUID))).sum()) * unit,
        "ventricles": found["ventricle_left_ml"] + found["ventricle_right_ml"],
        "ventricles_reference": float(np.isin(labels, VENTRICLES).sum()) * unit,
        "hippocampus": found["hippocampal_left_ml"] + found["hippocampal_right_ml"],
        "hippocampus_reference": float(np.isin(labels, HIPPOCAMPUS).sum()) * unit,
    }


def correlation_interval(first: Sequence[float], second: Sequence[float]) -> tuple[float, float]:
    """95 % confidence interval of Pearson's correlation by Fisher's transformation."""
    z = np.arctanh(np.corrcoef(first, second)[0, 1])
    width = 1.96 / np.sqrt(max(1, len(first) - 3))
    return float(np.tanh(z - width)), float(np.tanh(z + width))


def compare_people(table: Path) -> None:
    from sklearn.metrics import roc_auc_score

    records = [json.loads(file.read_text()) for file in sorted((table.with_suffix("") / "records").glob("*.json"))]
    failed = [(record["name"], record["reason"]) for record in records if record["reason"]]
    people = pd.read_csv(table)
    people = people[people["intracranial_ml"].notna()]
    print(f"\n{len(people)} heads, {len(failed)} failed")
    for name, reason in failed:
        print(f"failed: {name}: {reason}")
    ventricles = (people["ventricle_left_ml"] + people["ventricle_right_ml"]) / people["intracranial_ml"]
    hippocampus = (people["hippocampal_left_ml"] + people["hippocampal_right_ml"]) / people["intracranial_ml"]
    shown = {
        "ventricles, fraction": ventricles,
        "fluid, fraction": people["csf_fraction"],
        "gray matter, fraction": people["gray_matter_fraction"],
        "hippocampal region, fraction": hippocampus,
    }
    for title, values in shown.items():
        low, high = correlation_interval(values, people["age"])
        print(f"age and {title}: correlation {values.corr(people['age']):.2f} (95 % CI {low:.2f} to {high:.2f})")
    men = people["label"].eq("M")
    print(f"sex by intracranial volume: AUC {roc_auc_score(men, people['intracranial_ml']):.2f} ({men.sum()} men)")


def classify_slices(path: Path, healthy: str, seed: int) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    manifest = gyrus.scan(path)
    features, ill = _of_subjects(manifest, healthy)
    print(f"\n{len(ill)} subjects in slices, {ill.sum()} not {healthy}")
    scores = []
    for repeat in range(5):
        out = np.zeros(len(ill))
        for train, test in StratifiedKFold(5, shuffle=True, random_state=seed + repeat).split(features, ill):
            model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features[train], ill[train])
            out[test] = model.predict_proba(features[test])[:, 1]
        scores.append(roc_auc_score(ill, out))
    generator = np.random.default_rng(seed)
    drawn = [generator.integers(0, len(ill), len(ill)) for _ in range(2000)]
    resampled = [roc_auc_score(ill[places], out[places]) for places in drawn if 0 < ill[places].sum() < len(ill)]
    low, high = np.percentile(resampled, [2.5, 97.5])
    print(
        f"tissue fractions, logistic regression, 5 folds by subject: AUC {np.mean(scores):.3f} (mean of 5 repeats, "
        f"{min(scores):.3f} to {max(scores):.3f}; 95 % CI of the last {low:.3f} to {high:.3f})"
    )
    for number, name in enumerate(PIXEL_FEATURES):
        auc = roc_auc_score(ill, features[:, number])
        print(f"{name} alone: AUC {max(auc, 1 - auc):.3f}")


def _of_subjects(manifest: Manifest, healthy: str) -> tuple[np.ndarray, np.ndarray]:
    reader = Reader(manifest)
    rows, ill = [], []
    for places in manifest.table.groupby("subject").indices.values():
        rows.append(pixel_features(np.stack([reader.read(int(place)) for place in places])))
        ill.append(manifest.table["label"].iloc[places[0]] != healthy)
    return np.array(rows), np.array(ill)


if __name__ == "__main__":
    main()
