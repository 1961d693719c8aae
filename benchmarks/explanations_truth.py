"""Which heat maps find a lesion or tumour whose place is known, and whether the verdict of the checks predicts it.

    python benchmarks/explanations_truth.py --out runs/truth [--data phantom-bright,phantom-faint,tumours,glioma]
        [--tumours DIR] [--glioma DIR] [--methods grad-cam,occlusion,...] [--images 40] [--minutes 10] [--seed 0]

Each data set trains the recipe ``small-cnn2d`` (three convolutions, averaged over the image) and explains images that
it was not trained on:

- ``phantom-bright``, ``phantom-faint``: heads without lesions against heads with one to three, by 110 or 35 gray values
  brighter than their surroundings. The truth comes from the generator. Fresh heads with lesions are explained.
- ``phantom-3d``: the same as volumes.
- ``tumours``: 2D slices with a box around each tumour, ``labels.csv`` with path, label, box_left, box_top, box_right,
  box_bottom; the classes are the kinds of tumour. Some of the slices; the test set of the split by image is explained.
- ``glioma``: slices of patients with ``labels.csv`` (file, subject, has_lesion), ``images`` and ``masks``; the classes
  are slices with and without a lesion. Each patient is explained by a network that has not seen the patient (3 folds).

Finished runs are kept: the same command continues. Prints a table per data set, and writes ``scores.csv``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy import stats

import gyrus
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.result import Estimate, Evaluation
from gyrus.explanation.checks import ExplanationChecks, MethodReport
from gyrus.explanation.explanation_folder import ExplanationFolder
from gyrus.explanation.localisation import REFERENCES, Localisation, LocalisationScore
from gyrus.explanation.methods import METHODS
from gyrus.runs.run_folder import Run
from gyrus.synthetic.phantom_lesions import generate_lesions

QUICK = (
    "grad-cam,grad-cam++,hires-cam,layer-cam,xgrad-cam,eigen-cam,integrated-gradients,smooth-grad,"
    "guided-backpropagation,input-x-gradient,occlusion"
)
"""The methods that need no more than some hundred passes for one map."""

LESION, RADIUS = "Lesions", (5.0, 8.0)
CNN: Mapping[str, object] = {
    "training.device": "cpu",
    "evaluation.baselines": False,
    "evaluation.report": False,
    "evaluation.resamples": 200,
}


@dataclass(frozen=True)
class Case:
    """A data set.

    Attributes:
        prepare: Writes ``data`` (images and labels), ``truth`` (masks) and perhaps ``fresh`` (images to explain).
        target: What the maps are about.
        size: Rows and columns of the network's input.
        overrides: Further settings.
        truth: Names of the masks.
        folds: Folds of a cross-validation; 0 for a single split.
    """

    prepare: Callable[[Path, argparse.Namespace], None]
    target: str
    size: int
    overrides: Mapping[str, object]
    truth: str = "{sample}.png"
    folds: int = 0


def phantom(folder: Path, options: argparse.Namespace, *, brighter: float, slices: int = 1, size: int = 64) -> None:
    """Heads with and without lesions, and fresh ones that all have lesions."""
    for name, subjects, fewest, seed in (("data", 400, 0, 0), ("fresh", options.images, 1, 1)):
        made = generate_lesions(
            subjects,
            slices,
            size,
            seed=10 * options.seed + seed,
            counts=((fewest, 3 * fewest), (1, 3)),
            radius=RADIUS,
            brighter=brighter,
        )
        rows = []
        for subject, volume, lesions in zip(made.subjects, made.volumes, made.structures, strict=True):
            for number, image in enumerate(volume):
                path = f"images/{name}-{subject}-{number:02d}.png"
                save(image, folder / name / path)
                rows.append((path, LESION if lesions.any() else "Control", f"{name}-{subject}", number))
            if slices == 1:
                save(255 * lesions[0], folder / "truth" / f"{name}-{subject}-00.png")
            else:
                np.save(folder / "truth" / f"{name}-{subject}.npy", lesions)
        table = pd.DataFrame(rows, columns=["path", "label", "subject", "slice"])
        table.to_csv(folder / name / "labels.csv", index=False)


def tumours(folder: Path, options: argparse.Namespace) -> None:
    """Some of the slices of each class at 128 pixels, and their boxes as masks."""
    table = pd.read_csv(options.tumours / "labels.csv")
    table = table.groupby("label").sample(options.per_class, random_state=options.seed)
    rows = []
    for row in table.to_dict("records"):
        image = Image.open(options.tumours / row["path"]).convert("L")
        truth = np.zeros((image.height, image.width), np.uint8)
        truth[row["box_top"] : row["box_bottom"], row["box_left"] : row["box_right"]] = 255
        path = f"images/{row['path'].replace('/', '-').rsplit('.', 1)[0]}.png"
        save(np.asarray(image.resize((128, 128), Image.Resampling.BOX)), folder / "data" / path)
        mask = Image.fromarray(truth).resize((128, 128), Image.Resampling.NEAREST)
        save(np.asarray(mask), folder / "truth" / Path(path).name)
        rows.append((path, row["label"]))
    pd.DataFrame(rows, columns=["path", "label"]).to_csv(folder / "data" / "labels.csv", index=False)


def glioma(folder: Path, options: argparse.Namespace) -> None:
    """The slices with the question whether there is a lesion."""
    table = pd.read_csv(options.glioma / "labels.csv")
    for file in table["file"]:
        save(np.asarray(Image.open(options.glioma / "images" / file).convert("L")), folder / "data" / "images" / file)
        mask = np.asarray(Image.open(options.glioma / "masks" / file).convert("L"))
        save(np.where(mask > 0, 255, 0).astype(np.uint8), folder / "truth" / file)
    labels = {"path": "images/" + table["file"], "label": table["has_lesion"].map({0: "None", 1: LESION})}
    pd.DataFrame(labels | {"subject": table["subject"], "slice": table["slice"]}).to_csv(
        folder / "data" / "labels.csv", index=False
    )


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


CASES = {
    "phantom-bright": Case(
        lambda folder, options: phantom(folder, options, brighter=110), LESION, 64, {"training.epochs": 25}
    ),
    "phantom-faint": Case(
        lambda folder, options: phantom(folder, options, brighter=35), LESION, 64, {"training.epochs": 40}
    ),
    "phantom-3d": Case(
        lambda folder, options: phantom(folder, options, brighter=110, slices=16, size=48),
        LESION,
        48,
        {"training.epochs": 15, "data.stack.slices": 16, "model.options.channels": [16, 32, 64]},
        truth="{subject}.npy",
    ),
    "tumours": Case(tumours, "true", 96, {"training.epochs": 20, "split.unit": "image", "split.test": 0.15}),
    "glioma": Case(
        glioma,
        LESION,
        64,
        {"training.epochs": 40, "data.columns.session": "slice", "data.label_changes": "each"},
        folds=3,
    ),
}


def runs_of(case: Case, folder: Path, options: argparse.Namespace) -> list[Run]:
    """The trained runs of a data set: one, or one per fold."""
    overrides = {
        **CNN,
        **case.overrides,
        "preprocessing.steps.1.size": [case.size, case.size],
        "seed": options.seed,
    }
    if not (folder / "data" / "labels.csv").exists():
        (folder / "truth").mkdir(parents=True, exist_ok=True)
        case.prepare(folder, options)
    if case.folds:
        found = gyrus.crossval(
            "small-cnn2d", data=folder / "data", out=folder / "run", folds=case.folds, overrides=overrides
        )
        return list(found.runs)
    run = Run(folder / "run")
    if not (run.exists and run.status == "finished"):
        gyrus.train("small-cnn2d", data=folder / "data", out=run.folder, overrides=overrides)
    return [run]


def explain(run: Run, case: Case, folder: Path, options: argparse.Namespace, out: Path) -> ExplanationFolder:
    config = gyrus.ExplainConfig(
        methods=tuple(options.methods.split(",")),
        target=case.target,
        shown=1,
        images=options.images,
        truth=str(folder / "truth" / case.truth),
        settings=gyrus.MethodSettings(seed=options.seed),
        device="cpu",
        minutes=options.minutes,
    )
    fresh = folder / "fresh"
    found = gyrus.explain(run, [fresh] if fresh.exists() else (), config=config, out=out, display=gyrus.Terminal())
    assert isinstance(found, ExplanationFolder)
    return found


def measure(name: str, options: argparse.Namespace) -> pd.DataFrame:
    """Train, explain and print a data set; returns one row per map."""
    case, folder = CASES[name], options.out / name
    runs = runs_of(case, folder, options)
    explained = [explain(run, case, folder, options, folder / f"explanation-{n}") for n, run in enumerate(runs)]
    tables = [pd.read_csv(each.localisation_by_image) for each in explained]
    parts = [Localisation.load(each.localisation) for each in explained]
    table = pd.concat([one.assign(subject=f"{n} " + one["subject"].astype(str)) for n, one in enumerate(tables)])
    found = Localisation.from_table(
        table,
        target=case.target,
        without_truth=sum(part.without_truth for part in parts),
        unit=parts[0].unit,
        bootstrap=BootstrapConfig(seed=options.seed),
    )
    reports: dict[str, list[MethodReport]] = {}
    for each in explained:
        for report in ExplanationChecks.load(each.checks).methods:
            reports.setdefault(report.method, []).append(report)
    accuracy = [Evaluation.load(run.metrics).headline.metrics["balanced_accuracy"].text(2) for run in runs]
    print(f"\n## {name}\n\nBalanced accuracy on the test set: {'; '.join(accuracy)}.", end=" ")
    print(f"{found.images} images of {found.units} {found.unit}s; the truth covers {100 * found.area:.1f} % of them.\n")
    rows = [row(score, reports.get(score.map, [])) for score in (*found.methods, *found.references)]
    rows.sort(key=lambda one: (one["map"] in REFERENCES, -float(one["energy"])))
    show(rows)
    return pd.DataFrame(rows).assign(data=name)


def row(score: LocalisationScore, reports: Sequence[MethodReport]) -> dict[str, Any]:
    """The localisation of a map with its intervals, and of a method its checks, means over the runs."""
    found: dict[str, Any] = {"map": score.map}
    for measure in ("energy", "energy_gain", "pointing", "pointing_gain"):
        estimate: Estimate | None = getattr(score, measure)
        if estimate is not None:
            found |= {measure: estimate.value, f"{measure}_low": estimate.low, f"{measure}_high": estimate.high}
    if reports:
        verdicts = [report.verdict for report in reports]
        found["verdict"] = "; ".join(
            verdict if len(reports) == 1 else f"{verdicts.count(verdict)} of {len(reports)}: {verdict}"
            for verdict in dict.fromkeys(verdicts)
        )
        found["score"] = float(np.mean([report.score for report in reports]))
        found["over_edges"] = float(np.mean([report.over_edges.value or 0 for report in reports]))
        found["weights"] = float(np.mean([report.weights.whole for report in reports]))
        found["stability"] = float(np.mean([min(each.stability.noise, each.stability.shift) for each in reports]))
    return found


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """The table of a data set, and how the checks go with the localisation of the methods."""
    print("| map | energy inside | above best reference | pointing game | above best reference | verdict | score |")
    print("|---|---|---|---|---|---|---|")
    for one in rows:
        is_method = one["map"] in METHODS
        cells = [METHODS[one["map"]].title if is_method else REFERENCES[one["map"]], interval(one, "energy")]
        cells += [interval(one, "energy_gain"), interval(one, "pointing"), interval(one, "pointing_gain")]
        print(
            "| " + " | ".join([*cells, one.get("verdict", ""), f"{one['score']:.2f}" if "score" in one else ""]) + " |"
        )
    methods = pd.DataFrame([one for one in rows if "score" in one])
    if len(methods) > 2:
        print(f"\nRank correlation over {len(methods)} checked methods with energy inside, and with the pointing game:")
        for check in ("score", "over_edges", "weights", "stability"):
            found = [stats.spearmanr(methods[check], methods[measure])[0] for measure in ("energy", "pointing")]
            print(f"- {check}: {found[0]:.2f}, {found[1]:.2f}")


def interval(one: Mapping[str, Any], name: str) -> str:
    if one.get(name) is None:
        return ""
    low, high = one[f"{name}_low"], one[f"{name}_high"]
    return f"{one[name]:.2f}" + (f" [{low:.2f}, {high:.2f}]" if low is not None else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", default="phantom-bright,phantom-faint", help=f"some of {', '.join(CASES)}")
    parser.add_argument("--tumours", type=Path, help="folder of the tumour slices")
    parser.add_argument("--glioma", type=Path, help="folder of the glioma slices")
    parser.add_argument("--methods", default=QUICK)
    parser.add_argument("--images", type=int, default=40, help="images to explain, of each run")
    parser.add_argument("--minutes", type=float, help="limit of each explanation; checks that exceed it are left out")
    parser.add_argument("--per-class", type=int, default=300, help="tumour slices of each class")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = [measure(name, options) for name in options.data.split(",")]
    pd.concat(found).to_csv(options.out / "scores.csv", index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
