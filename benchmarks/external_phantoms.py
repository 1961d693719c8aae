"""What ``gyrus test`` says about cohorts of phantoms, from the image files on, beside what is true of them.

Run: ``python benchmarks/external_phantoms.py``. A network is trained on phantoms and exported. Each cohort is tested
with the run and with the bundle: new subjects of the same population; new subjects together with people of the data of
the run, as they are, under other names, saved again and changed; another prevalence; and another scanner (blurred,
another contrast, noise). The true ROC AUC and sensitivity of each population are those on many further subjects of it.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

import gyrus
from gyrus.datasets.splits import Split
from gyrus.evaluation.external_validation import ExternalValidation
from gyrus.inference.columns import BY_SUBJECT, DECISION
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write

SLICES, SIZE, SEED = 4, 64, 0
SETTINGS = {
    "preprocessing.steps.1.size": [SIZE, SIZE],
    "split.val": 0.25,
    "split.test": 0.25,
    "training.epochs": 15,
    "training.device": "cpu",
    "evaluation.baselines": False,
    "evaluation.resamples": 500,
}
SHARED = 4
"""People of the data of the run in the second cohort, in each of the ways of :func:`share`."""

Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def another_scanner(pixels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Blurred, with less contrast between gray and white matter, and noise."""
    values = ndimage.gaussian_filter(pixels / 255, 0.8) ** 0.6
    return np.clip(255 * (values + generator.normal(0, 0.02, values.shape)), 0, 255).astype(np.uint8)


def people(folder: Path, subjects: int, seed: int, prevalence: float = 0.5, change: Change | None = None) -> Path:
    """New subjects, named by the seed."""
    write(generate(subjects, SLICES, 2, SIZE, seed, balance=[1 - prevalence, prevalence]), folder)
    generator = np.random.default_rng(seed)
    for path in sorted(folder.rglob("*.png")):
        if change:
            Image.fromarray(change(np.asarray(Image.open(path)), generator)).save(path)
        path.rename(path.with_name(path.name.replace("sub-P", f"sub-N{seed}x")))
    return folder


def share(data: Path, split: Split, folder: Path) -> int:
    """Put people of a data set into a cohort in four ways, and return how many."""
    names = iter([name for group in zip(*map(sorted, split.subjects.values()), strict=False) for name in group])

    def put(change: Callable[[Path, Path], object], prefix: str | None) -> None:
        for number in range(SHARED):
            name = next(names)
            for path in sorted(data.rglob(f"{name}_*.png")):
                new = path.name.replace(name, f"sub-{prefix}{number}") if prefix else path.name
                change(path, folder / path.parent.name / new)

    def changed(source: Path, target: Path) -> None:
        image = Image.open(source).resize((SIZE - 6, SIZE - 6))
        Image.fromarray((0.9 * np.asarray(image)).astype(np.uint8)).save(target)

    put(shutil.copy, None)
    put(shutil.copy, "Copy")
    put(lambda source, target: Image.open(source).save(target, compress_level=1), "Again")
    put(changed, "Other")
    return 4 * SHARED


def truth(bundle: Path, folder: Path) -> tuple[float, float]:
    """ROC AUC and sensitivity at the shipped operating point on many subjects."""
    found = gyrus.predict_bundle(bundle, [folder]).predictions().table
    found = found.assign(ill=[Path(sample).parent.name == "Dementia" for sample in found["sample"]])
    rows = found.groupby("subject").agg(
        ill=("ill", "first"), score=("subject_calibrated_probability:Dementia", "first"), decided=(DECIDED, "first")
    )
    ill, well = rows[rows["ill"]], rows[~rows["ill"]]
    above = ill["score"].to_numpy()[:, None] - well["score"].to_numpy()[None]
    return float((above > 0).mean() + (above == 0).mean() / 2), float((ill["decided"] == "positive").mean())


DECIDED = BY_SUBJECT + DECISION


def cells(found: ExternalValidation, shared: int, prevalence: float, true: tuple[float, float], same: float) -> str:
    """What is said beside what is true."""
    gap = found.scores["macro_roc_auc"].difference
    said = "lower" if gap.high < 0 else "higher" if gap.low > 0 else "not shown to differ"
    shift = "differs" if found.prevalence_p < 0.05 else "not shown to differ"
    rate = found.points[0].rates["sensitivity"].external
    learnt = found.fractions[1]
    return " | ".join(
        [
            f"{len(found.set_aside)} of {shared}",
            f"{learnt.external:.2f} ({prevalence:.2f}): {shift}",
            f"{gap.text(2)} ({true[0] - same:+.2f}): {said}",
            f"{rate.text(2)} ({true[1]:.2f})",
            f"{found.likeness.unlike} of {found.likeness.count} ({found.likeness.alarm * found.likeness.count:.0f})",
        ]
    )


def main() -> None:
    """Train, test the cohorts, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--training", type=int, default=80, help="subjects of the run")
    parser.add_argument("--cohort", type=int, default=100, help="new subjects of a cohort")
    parser.add_argument("--truth", type=int, default=400, help="subjects that the truth is measured on")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gyrus-") as place:
        folder = Path(place)
        data = gyrus.phantom(folder / "data", subjects=options.training, slices=SLICES, classes=2, size=SIZE, seed=SEED)
        run = gyrus.train("dementia-baseline", data=data, out=folder / "run", overrides=SETTINGS)
        gyrus.export(run.folder, out=folder / "bundle")
        split = Split.load(run.split)
        many = [
            truth(folder / "bundle", people(folder / name, options.truth, 900 + number, change=change))
            for number, (name, change) in enumerate((("many", None), ("many of another scanner", another_scanner)))
        ]
        cohorts = {
            "same population": (0.5, None, many[0]),
            "the same, and people of the data": (0.5, None, many[0]),
            "prevalence of 20 %": (0.2, None, many[0]),
            "another scanner (simulated)": (0.5, another_scanner, many[1]),
        }
        print(
            "| cohort | with | people found | prevalence (true): said | difference in ROC AUC (true): said | "
            "sensitivity as shipped (true) | unlike (by chance) |\n|---|---|---|---|---|---|---|",
            flush=True,
        )
        for number, (name, (prevalence, change, true)) in enumerate(cohorts.items(), 1):
            cohort = people(folder / str(number), options.cohort, 100 + number, prevalence, change)
            shared = share(data, split, cohort) if number == 2 else 0
            for kind in ("run", "bundle"):
                found = gyrus.external_validation(folder / kind, cohort, out=folder / f"{kind} {number}", device="cpu")
                found = ExternalValidation.load(folder / f"{kind} {number}" / "external_validation.json")
                print(f"| {name} | {kind} | {cells(found, shared, prevalence, true, many[0][0])} |", flush=True)
        internal = found.internal.scores["subject"]
        area = internal.metrics["macro_roc_auc"].text(2)
        print(f"\nInternal test set: {internal.count} subjects, ROC AUC {area}; true {many[0][0]:.2f}.")


if __name__ == "__main__":
    main()
