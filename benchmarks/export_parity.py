"""Does a bundle give the probabilities of its run, from the raw files, for every kind of network?

And are wrong bundles caught?

Each network is trained for one epoch on phantoms, exported, and predicts all files of the phantoms, the bundle by ONNX
Runtime and the run by PyTorch on the CPU. Then two mistakes are put into the bundle, each with right checksums: a
standard deviation of the intensity scaling that is 2 % larger, and images that reach the network with their last axis
reversed. ``gyrus export verify`` must notice both. The speed is that of a loaded classifier, the faster of two rounds
by turns.

    python benchmarks/export_parity.py [NAME ...]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import gyrus
from gyrus.errors import GyrusError
from gyrus.export.bundle import read_manifest
from gyrus.export.manifest import BUNDLE, write_checksums
from gyrus.inference.columns import LIKE_TRAINING
from gyrus.workflows.predict import Predictor

SEED = 0
FAST: dict[str, Any] = {
    "training.epochs": 1,
    "training.device": "cpu",
    "evaluation.resamples": 0,
    "evaluation.baselines": False,
}
SLICES = {"preprocessing.steps.1.size": [64, 64]}
VOLUMES = {"preprocessing.steps": [], "data.stack": {"slices": 32}}
SMALL_CONVNEXT = {"depths": [1, 1], "dims": [8, 16], "kernel": 3}


@dataclass(frozen=True)
class Case:
    """A classifier to export: the name of its network, and what differs from the recipe."""

    model: str
    volumes: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)
    members: int = 1


CASES: dict[str, Case] = {
    **{
        name: Case(name)
        for name in (
            "baseline-cnn",
            "conv5-cnn",
            "study-cnn",
            "keras-like-cnn",
            "gpt-cnn",
            "neuroflux-cnn",
            "resnet",
            "densenet",
            "timm:resnet18",
            "timm:efficientnet_b0",
            "timm:convnext_tiny",
            "timm:densenet121",
            "timm:mobilenetv2_035",
        )
    },
    "convnext": Case("convnext", overrides={"model.options": SMALL_CONVNEXT}),
    "ensemble of two": Case("baseline-cnn", members=2),
    "patches": Case("baseline-cnn", overrides={"data.patches.size": [32, 32]}),
    "2.5D": Case(
        "baseline-cnn",
        volumes=True,
        overrides={"data.stack": None, "data.slices": {"range": [0.3, 0.7], "neighbours": 1}},
    ),
    "3D baseline-cnn": Case("baseline-cnn", volumes=True),
    "3D resnet": Case("resnet", volumes=True, overrides={"model.options": {"depth": 10, "width": 8}}),
    "3D densenet": Case("densenet", volumes=True, overrides={"model.options": {"growth": 4, "width": 8}}),
    "3D convnext": Case("convnext", volumes=True, overrides={"model.options": SMALL_CONVNEXT}),
    "3D patches": Case("baseline-cnn", volumes=True, overrides={"data.patches.size": [16, 16, 16]}),
}


def make(case: Case, data: Path, folder: Path) -> tuple[Path, list[Path]]:
    """Train the networks of a case: what is exported, and the runs."""
    about = {"model.name": case.model, **(VOLUMES if case.volumes else SLICES), **case.overrides}
    config = {name: value for name, value in about.items() if value is not None}
    runs = []
    for number in range(case.members):
        run = folder / f"run-{number}"
        changed = {**FAST, **config, "seed": SEED + number, "split.seed": SEED}
        gyrus.train("dementia-baseline", data=data, out=run, overrides=changed)
        runs.append(run)
    if len(runs) == 1:
        return runs[0], runs
    gyrus.ensemble(runs, out=folder / "ensemble")
    return folder / "ensemble", runs


def seconds(predict: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    predict()
    return time.perf_counter() - start


def is_caught(bundle: Path) -> bool:
    """Whether the verification finds a mistake, although the checksums are right."""
    write_checksums(bundle)
    return bool(gyrus.verify_bundle(bundle).problems)


def other_intensity(bundle: Path) -> bool:
    """Whether another standard deviation of the first network is noticed; it is put back."""
    manifest = read_manifest(bundle)
    first = manifest.members[0]
    wrong = replace(first.normalisation, std=tuple(1.02 * value for value in first.normalisation.std))
    replace(manifest, members=(replace(first, normalisation=wrong), *manifest.members[1:])).save(bundle / BUNDLE)
    caught = is_caught(bundle)
    manifest.save(bundle / BUNDLE)
    return caught


def reversed_axis(bundle: Path) -> bool:
    """Whether a reversed last axis of the first network is noticed."""
    path = bundle / read_manifest(bundle).members[0].networks["onnx"]
    network = onnx.load(path)
    name, axes = network.graph.input[0].name, len(network.graph.input[0].type.tensor_type.shape.dim)
    for node in network.graph.node:
        node.input[:] = ["reversed" if each == name else each for each in node.input]
    numbers = {"start": [-1], "end": [-(2**31)], "axis": [axes - 1], "step": [-1]}
    for key, value in numbers.items():
        network.graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, np.int64), f"reverse-{key}"))
    node = onnx.helper.make_node("Slice", [name, *(f"reverse-{key}" for key in numbers)], ["reversed"])
    network.graph.node.insert(0, node)
    onnx.save(network, path)
    return is_caught(bundle)


def row(name: str, case: Case, data: Path, folder: Path) -> list[str]:
    """The cells of a case."""
    source, runs = make(case, data, folder)
    exported = gyrus.export(source, out=folder / "bundle")
    bundle, predictor = (
        gyrus.Bundle.open(folder / "bundle", "onnxruntime"),
        Predictor(runs, device="cpu", engine="torch"),
    )
    ours, theirs = gyrus.predict_bundle(bundle, [data]).predictions(), predictor.predict([data])
    probabilities = float(np.abs(ours.probabilities - theirs.probabilities).max())
    p_values = float(np.abs(ours.table[LIKE_TRAINING] - theirs.table[LIKE_TRAINING]).max())
    rounds = [
        (seconds(lambda: predictor.predict([data])), seconds(lambda: gyrus.predict_bundle(bundle, [data])))
        for _ in range(2)
    ]
    slow, quick = map(min, zip(*rounds, strict=True))
    verified = not gyrus.verify_bundle(folder / "bundle").problems
    return [
        name,
        str(len(ours)),
        f"{probabilities:.1e}",
        str(int((ours.predicted != theirs.predicted).sum())),
        f"{p_values:.1e}",
        "yes" if verified else "NO",
        "caught" if other_intensity(folder / "bundle") else "NOT caught",
        "caught" if reversed_axis(folder / "bundle") else "NOT caught",
        f"{slow / quick:.1f}",
        ", ".join(exported.manifest.insensitive) or "none",
    ]


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"cases, by default all: {', '.join(CASES)}")
    names = parser.parse_args().names or list(CASES)
    with tempfile.TemporaryDirectory(prefix="gyrus-") as place:
        folder = Path(place)
        slices = gyrus.phantom(folder / "slices", subjects=24, slices=3, classes=2, size=64, seed=SEED)
        nifti = gyrus.phantom(folder / "volumes", subjects=16, slices=32, classes=2, size=32, seed=SEED, layout="nifti")
        titles = [
            "classifier",
            "samples",
            "largest difference of probabilities",
            "changed classes",
            "largest difference of p-values",
            "verified",
            "intensity 2 % off",
            "axis reversed",
            "times as fast as the run",
            "not detected by the references",
        ]
        print(f"| {' | '.join(titles)} |\n|---|{'---:|' * 4}{'---|' * 3}---:|---|", flush=True)
        for number, name in enumerate(names):
            case = CASES[name]
            try:
                cells = row(name, case, nifti if case.volumes else slices, folder / str(number))
            except GyrusError as error:
                cells = [name, f"refused: {error}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
