"""Train recipes split by image and by person, and print the table of docs/recipes.md.

Example:
    python benchmarks/recipes_on_slices.py slices/ --out runs/recipes --recipes "dementia-hem*" --size 64 --epochs 8

Finished runs are kept: the same command goes on where it was stopped, and the table is made from all that is there.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import shutil
import time
from pathlib import Path

from gyrus.evaluation.result import Evaluation
from gyrus.runs.run_folder import Run
from gyrus.workflows.experiment_config import load_config, recipes
from gyrus.workflows.train import train

UNITS = ("image", "subject")


def overrides_of(name: str, unit: str, arguments: argparse.Namespace) -> dict[str, object]:
    config = load_config(name)
    changes: dict[str, object] = {"split.unit": unit, "seed": arguments.seed, "model.pretrained": False}
    if arguments.epochs:
        changes["training.epochs"] = min(config.training.epochs, arguments.epochs)
    if arguments.size:
        position = next(number for number, step in enumerate(config.preprocessing.steps) if step.step == "resize")
        changes[f"preprocessing.steps.{position}.size"] = [arguments.size, arguments.size]
    return changes


def run_one(name: str, unit: str, arguments: argparse.Namespace) -> None:
    folder = arguments.out / name / unit
    if (folder / "seconds.json").exists():
        return
    if folder.exists():
        shutil.rmtree(folder)  # stopped in the middle; its time would not be whole
    begun = time.process_time()  # of all threads: what else runs on the machine does not count
    run = train(name, data=arguments.data, out=folder, overrides=overrides_of(name, unit, arguments))
    if run.status != "finished":
        raise KeyboardInterrupt
    seconds = time.process_time() - begun
    (folder / "seconds.json").write_text(json.dumps(seconds))
    print(f"{name} by {unit}: {seconds:.0f} CPU s", flush=True)


def row(name: str, folder: Path) -> str:
    about = load_config(name).about
    assert about is not None
    cells = [f"`{name}`", about.published]
    for unit in UNITS:
        run = Run(folder / unit)
        scores = Evaluation.load(run.metrics).scores
        cells += [scores["image"].metrics["accuracy"].text(2)]
    scores = Evaluation.load(Run(folder / "subject").metrics).scores["subject"]
    cells += [scores.metrics["accuracy"].text(2), scores.metrics["balanced_accuracy"].text(2)]
    config = load_config(Run(folder / "subject").config)
    size = next(step.size[0] for step in config.preprocessing.steps if step.step == "resize")
    minutes = sum(json.loads((folder / unit / "seconds.json").read_text()) for unit in UNITS) / 60
    return "| " + " | ".join([*cells, f"{size}", f"{config.training.epochs}", f"{minutes:.1f}"]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="labelled slices")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--recipes", default="dementia-*", help="pattern of names, several with commas between")
    parser.add_argument("--size", type=int, help="rows and columns; by default the recipe's")
    parser.add_argument("--epochs", type=int, help="at most so many")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    patterns = arguments.recipes.split(",")
    chosen = [name for name in recipes() if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    for name in chosen:
        for unit in UNITS:
            run_one(name, unit, arguments)
    print("| recipe | published | by image | by person: images | people | balanced | px | epochs | CPU min |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in recipes():
        if all((arguments.out / name / unit / "seconds.json").exists() for unit in UNITS):
            print(row(name, arguments.out / name))


if __name__ == "__main__":
    main()
