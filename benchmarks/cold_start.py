"""How long commands take to start, each as a fresh process.

Every round runs every command once, beside an empty Python and ``import torch``, so that all are measured under the
same load. The first round, which compiles the modules to bytecode, does not count. The data are a small phantom, and
the run is trained on it for one epoch. Where the machine is shared, the seconds of CPU are the steadier measure.

    python benchmarks/cold_start.py --rounds 5 [word of the commands to measure ...]
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

GYRUS = str(Path(sys.executable).with_name("gyrus"))
EMPTY, TORCH = "python -c pass", "python -c 'import torch'"
PLAIN, SCAN, PREDICT, BUNDLE = 0.5, 1.5, 2.0, 2.0
"""Targets in seconds: above an empty Python for plain commands, a scan and a prediction with a bundle, above ``import
torch`` for a prediction with a run."""


def commands(folder: Path, wanted: Sequence[str] = ()) -> dict[str, tuple[list[str], str, float | None]]:
    """Name to words of the command, the measurement it is compared with, and the target above it.

    Args:
        folder: Holds the data and the run.
        wanted: Commands with one of these words, beside the two that they are compared with; by default all.
    """
    run, data = folder / "runs" / "run", folder / "data"
    image = next(data.rglob("*.png"))
    plain = [
        "--version",
        "--help",
        "train --help",
        "explain --help",
        "recipes",
        "recipes show dementia-baseline",
        "models",
    ]
    found: dict[str, tuple[list[str], str, float | None]] = {
        EMPTY: ([sys.executable, "-c", "pass"], EMPTY, None),
        TORCH: ([sys.executable, "-c", "import torch"], EMPTY, None),
        **{f"gyrus {words}": ([GYRUS, *words.split()], EMPTY, PLAIN) for words in plain},
        "gyrus runs list": ([GYRUS, "runs", "list", str(run.parent)], EMPTY, PLAIN),
        "gyrus config import": (
            [GYRUS, "config", "import", str(folder / "resnet50_config.json"), "--out", str(folder / "recipe.yaml")],
            EMPTY,
            PLAIN,
        ),
        "gyrus data scan (96 images)": ([GYRUS, "data", "scan", str(data)], EMPTY, SCAN),
        "gyrus predict (1 image)": (
            [GYRUS, "predict", str(run), str(image), "--out", str(folder / "predictions.csv"), "--device", "cpu"],
            TORCH,
            PREDICT,
        ),
        "gyrus predict (1 image, bundle)": (
            [GYRUS, "predict", str(folder / "bundle"), str(image), "--out", str(folder / "predictions.csv")],
            EMPTY,
            BUNDLE,
        ),
    }
    chosen = [name for name in found if name in (EMPTY, TORCH) or not wanted or any(word in name for word in wanted)]
    return {name: found[name] for name in chosen}


def prepare(folder: Path) -> None:
    """The data, the run and a config of another tool."""
    import gyrus

    gyrus.phantom(folder / "data", subjects=24, slices=4, classes=2, size=32)
    small = {
        "preprocessing.steps.1.size": [32, 32],
        "training.epochs": 1,
        "evaluation.resamples": 0,
        "evaluation.baselines": False,
    }
    gyrus.train("dementia-baseline", data=folder / "data", out=folder / "runs" / "run", overrides=small)
    gyrus.export(folder / "runs" / "run", out=folder / "bundle")
    (folder / "resnet50_config.json").write_text('{"epochs": 3}', encoding="utf-8")


def cpu_of_children() -> float:
    """Seconds of CPU of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(folder: Path, rounds: int, wanted: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """Seconds, and seconds of CPU, of each command in each round."""
    # An installed package has its modules compiled; here they are compiled into the folder in the first round.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "bytecode"), "GYRUS_CACHE": str(folder / "cache")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in commands(folder, wanted)}
    for number in range(rounds + 1):
        for name, (words, _, _) in commands(folder, wanted).items():
            start, cpu = time.perf_counter(), cpu_of_children()
            subprocess.run(words, env=environment, check=True, capture_output=True)
            if number:
                seconds[name].append((time.perf_counter() - start, cpu_of_children() - cpu))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("wanted", nargs="*", help="words of the commands to measure; by default all")
    arguments = parser.parse_args()
    rounds, wanted = arguments.rounds, arguments.wanted
    with tempfile.TemporaryDirectory(prefix="gyrus-") as name:
        folder = Path(name)
        prepare(folder)
        seconds = measure(folder, rounds, wanted)
        print(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, minimum of {rounds} rounds\n")
        print("| command | seconds | CPU | compared with | seconds more | CPU more | target | ratio to import torch |")
        print("|---|---:|---:|---|---:|---:|---:|---:|")
        best = {command: tuple(map(min, zip(*values, strict=True))) for command, values in seconds.items()}
        for command, (_, base, target) in commands(folder, wanted).items():
            wall, cpu = best[command]
            more, cpu_more = wall - best[base][0], cpu - best[base][1]
            met = "" if target is None else f"{target} ({'met' if more <= target else 'missed'})"
            columns = [f"`{command}`", f"{wall:.2f}", f"{cpu:.2f}", base, f"{more:.2f}", f"{cpu_more:.2f}", met]
            print(f"| {' | '.join(columns)} | {wall / best[TORCH][0]:.2f} |")


if __name__ == "__main__":
    main()
