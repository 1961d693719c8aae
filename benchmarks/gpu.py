"""Training on a GPU against a bare loop, for a machine that is at hand for a few minutes only.

    python benchmarks/gpu.py --out gpu.json [--minutes 8] [--data slices/] [--networks resnet50 ...]

For each network: images per second of Gyrus, with and without the augmentation of its recipe, against a bare eager and
a bare compiled loop. The bare loop has the same network, optimiser (fused), precision and memory format; its float32
batches lie in the memory of the device, and nothing else is done. Eager loop and Gyrus take turns, epoch by epoch. Then
the speed of every other recipe at its own image size and batch size, with its augmentation. With ``--data`` (labelled
slices), the recipes that fit them are then trained at their own size, split by subject and by image, for ``--epochs``.

What does not fit into the minutes is left out, and named. Images are noise: only time is measured. The results are
written after every measurement, so that nothing is lost if the machine is taken away. On a CPU the script does the same
with ``--size`` and few ``--steps``; that only shows that it works.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from gyrus.datasets.store import Store
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.errors import GyrusError
from gyrus.evaluation.result import Evaluation
from gyrus.models.build import build
from gyrus.training.fit import fit
from gyrus.training.precision import device_settings
from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.normalisation import Normalisation
from gyrus.workflows.experiment_config import ExperimentConfig, load_config, recipes
from gyrus.workflows.train import train

NETWORKS = {
    "baseline-cnn": ("dementia-baseline", 32),
    "resnet50": ("dementia-exp0", 64),
    "efficientnet-b3": ("dementia-efficientnet-b3", 64),
    "convnext-2d": ("adni-convnext2d-ln", 64),
    "convnext-3d": ("adni-convnext3d", 8),
}
"""Recipe and batch size of each network that is compared with the bare loops."""

SLICES = 20
CLASSES = ("first", "second", "third")
LARGE_BATCH = 64 * 3 * 224 * 224
"""Pixels of a batch of which an epoch has as many steps as requested."""

LONGEST = {"eager": 45.0, "compiled": 75.0, "recipe": 8.0, "scores": 60.0}
"""Seconds that a measurement may take; with less time left it is left out."""


@dataclass(frozen=True)
class Case:
    """A network at an image size, with the settings of a recipe."""

    name: str
    recipe: ExperimentConfig
    batch: int
    shape: tuple[int, ...]

    def steps(self, wanted: int) -> int:
        """Steps of an epoch: up to ten times as many for small batches, so that all epochs take long enough."""
        return wanted * max(1, min(10, LARGE_BATCH // (self.batch * math.prod(self.shape))))

    def network(self) -> nn.Module:
        """The network, without pretrained weights."""
        torch.manual_seed(0)
        return build(
            self.recipe.model.model_copy(update={"pretrained": False}),
            in_channels=self.shape[0],
            num_classes=len(CLASSES),
            image_size=self.shape[1:],
            with_pretrained=False,
        )


class BareLoop:
    """The peer: images and targets in the memory of the device, one step after the other."""

    def __init__(self, case: Case, steps: int, device: torch.device, *, compiled: bool = False) -> None:
        """Build the network and its batches."""
        config = case.recipe.training
        model = case.network()
        self.precision = device_settings(config, model, device.type).precision
        self.format = torch.channels_last if len(case.shape) == 3 else torch.contiguous_format
        self.model = model.to(device, memory_format=self.format).train()
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
        self.network = torch.compile(self.model) if compiled else self.model
        self.images = torch.rand(case.batch, *case.shape, device=device).to(memory_format=self.format)
        self.targets = torch.randint(len(CLASSES), (case.batch,), device=device)
        self.steps = case.steps(steps)

    def epoch(self) -> None:
        """Train an epoch."""
        half = torch.float16 if self.precision == "16-mixed" else torch.bfloat16
        for _ in range(self.steps):
            self.optimiser.zero_grad()
            with torch.autocast(self.images.device.type, dtype=half, enabled=self.precision != "32-true"):
                loss = functional.cross_entropy(self.network(self.images), self.targets)
            loss.backward()
            self.optimiser.step()


class Watched(PixelDataset):
    """A subset that notes when its first batch is requested: as validation set, the time when the steps are over."""

    asked: list[float]

    def set_epoch(self, epoch: int) -> None:
        """Note the time."""
        super().set_epoch(epoch)
        self.asked.append(clock())


class Stopwatch:
    """The time that is left."""

    def __init__(self, minutes: float) -> None:
        """Start."""
        self._end = time.monotonic() + 60 * minutes

    def allows(self, seconds: float) -> bool:
        """Whether so many seconds are left."""
        return time.monotonic() + seconds <= self._end


def clock() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def case_of(name: str, recipe: str, batch: int | None, size: int | None) -> Case:
    config = load_config(recipe)
    sizes = [step.size for step in config.preprocessing.steps if step.step in ("resize", "crop")]
    spatial = (size, size) if size else (tuple(sizes[-1]) if sizes else (128, 128))
    colours = 3 if any(step.step == "rgb" for step in config.preprocessing.steps) else 1
    if config.data.stack:
        spatial = (config.data.stack.slices if not size else SLICES, *spatial)
    return Case(name, config, batch or config.training.batch_size, (colours, *spatial))


def subset(
    folder: Path, case: Case, count: int, kind: type[PixelDataset], augmentation: AugmentationConfig | None
) -> Any:
    """A subset of a store of noise; its images repeat, so that even large batches need little memory."""
    if not folder.exists():
        folder.mkdir()
        numbers = np.random.default_rng(0)
        np.save(folder / "pixels.npy", numbers.integers(0, 256, (min(count, 64), *case.shape), dtype=np.uint8))
        np.save(folder / "statistics.npy", np.tile(np.float32([0.5, 0.29, 0, 1]), (min(count, 64), case.shape[0], 1)))
    targets = np.arange(count) % len(CLASSES)
    normalisation = Normalisation("zscore", (0.0,) * case.shape[0], (1.0,) * case.shape[0])
    return kind(Store(folder), np.arange(count) % 64, targets, normalisation, augmentation=augmentation)


def gyrus_seconds(
    case: Case,
    options: argparse.Namespace,
    *,
    augmented: bool,
    compiled: bool = False,
    between: Callable[[], None] = lambda: None,
) -> list[float]:
    """Seconds of the steps of each epoch but the first and the last; ``between`` runs before each epoch."""
    config = case.recipe.training.model_copy(
        update={
            "epochs": options.epochs + 2,
            "batch_size": case.batch,
            "early_stopping": None,
            "averaging": None,
            "mixing": None,
            "mining": None,
            "workers": options.workers,
            "monitor": "val_loss",
            "compile": compiled,
        }
    )
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        chain = case.recipe.augmentation if augmented else None
        training = subset(folder / "store", case, case.steps(options.steps) * case.batch, PixelDataset, chain)
        validation = subset(folder / "store", case, 6, Watched, None)
        begun: list[float] = []
        validation.asked = []

        def take_turns(_epoch: int, _model: nn.Module) -> None:
            between()
            begun.append(clock())

        run = {"classes": CLASSES, "seed": 0, "progress": False, "before_epoch": take_turns}
        fit(case.network(), training, validation, config, folder / "run", **run)
    return (np.array(validation.asked) - np.array(begun))[1:-1].tolist()


def speed(case: Case, steps: int, seconds: list[float]) -> float:
    """Images per second of the fastest epoch."""
    return case.steps(steps) * case.batch / min(seconds)


def compare_eager(case: Case, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Bare eager loop and Gyrus in turn, with and without augmentation."""
    bare = BareLoop(case, options.steps, device)
    turns: list[float] = []

    def bare_turn() -> None:
        start = clock()
        bare.epoch()
        turns.append(clock() - start)

    row: dict[str, Any] = {"batch": case.batch, "shape": case.shape, "precision": bare.precision}
    for name, augmented in (("gyrus with augmentation", True), ("gyrus", False)):
        row[name] = speed(case, options.steps, gyrus_seconds(case, options, augmented=augmented, between=bare_turn))
    # The first turn of each training pays for memory and the choice of algorithms.
    row["bare eager"] = speed(case, options.steps, turns)
    return row


def compare_compiled(case: Case, options: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Bare compiled loop and Gyrus with ``training.compile`` and augmentation in turn."""
    bare = BareLoop(case, options.steps, device, compiled=True)
    turns: list[float] = []

    def bare_turn() -> None:
        start = clock()
        bare.epoch()
        turns.append(clock() - start)

    seconds = gyrus_seconds(case, options, augmented=True, compiled=True, between=bare_turn)
    return {
        "gyrus compiled, with augmentation": speed(case, options.steps, seconds),
        "bare compiled": speed(case, options.steps, turns),
    }


def scores(recipe: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Accuracy and balanced accuracy on the test set, for both units of splitting."""
    found: dict[str, Any] = {}
    for unit in ("subject", "image"):
        start = time.perf_counter()
        changes = {
            "split.unit": unit,
            "training.epochs": options.score_epochs,
            "model.pretrained": False,
            "evaluation.baselines": False,
            "evaluation.resamples": 200,
        }
        run = train(recipe, data=options.data, out=folder / recipe / unit, overrides=changes)
        result = Evaluation.load(run.metrics).scores[unit]
        for metric in ("accuracy", "balanced_accuracy", "macro_roc_auc"):
            found[f"{metric} by {unit}"] = result.metrics[metric].value
        found[f"seconds by {unit}"] = time.perf_counter() - start
    return found


@contextmanager
def survived(results: dict[str, Any], name: str) -> Iterator[None]:
    """Note a measurement that does not work on this device, and go on."""
    try:
        yield
    except (GyrusError, RuntimeError, ImportError) as error:
        results["failed"][name] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    watch = Stopwatch(options.minutes)
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine(),
        "versions": {
            "torch": torch.__version__,
            "lightning": lightning.__version__,
            "python": platform.python_version(),
        },
        "steps": options.steps,
        "epochs": options.epochs,
        "networks": {},
        "recipes": {},
        "scores": {},
        "failed": {},
        "left out": [],
    }

    def attempt(kind: str, name: str, table: dict[str, Any], work: Callable[[], dict[str, Any]]) -> None:
        if not watch.allows(LONGEST[kind]):
            results["left out"].append(f"{kind}: {name}")
            return
        with survived(results, f"{kind}: {name}"):
            table.setdefault(name, {}).update(work())
        if options.out:
            options.out.write_text(json.dumps(results, indent=1))

    cases = {name: case_of(name, *NETWORKS[name], options.size) for name in options.networks}
    for name, case in cases.items():
        attempt("eager", name, results["networks"], lambda case=case: compare_eager(case, options, device))
    if options.compiled:
        for name, case in cases.items():
            attempt("compiled", name, results["networks"], lambda case=case: compare_compiled(case, options, device))
    for name in options.recipes if options.recipes is not None else list(recipes()):
        case = case_of(name, name, None, options.size)
        attempt("recipe", name, results["recipes"], lambda case=case: recipe_speed(case, options))
    if options.data:
        with tempfile.TemporaryDirectory() as folder:
            for name in options.scored if options.scored is not None else list(recipes()):
                if not load_config(name).data.stack:
                    attempt("scores", name, results["scores"], lambda name=name: scores(name, options, Path(folder)))
    return results


def recipe_speed(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    few = argparse.Namespace(**{**vars(options), "epochs": 1, "steps": max(2, options.steps // 4)})
    seconds = gyrus_seconds(case, few, augmented=True)
    return {
        "batch": case.batch,
        "shape": case.shape,
        "gyrus with augmentation": speed(case, few.steps, seconds),
    }


def table(results: dict[str, Any]) -> str:
    """The results for people; ratios to the bare eager loop."""
    lines = [f"{results['device']}, torch {results['versions']['torch']}; images per second, ratios to bare eager"]
    ways = ("bare eager", "gyrus", "gyrus with augmentation", "bare compiled", "gyrus compiled, with augmentation")
    lines.append(f"| network | size | batch | precision | {' | '.join(ways)} |")
    lines.append("|---" * (4 + len(ways)) + "|")
    for name, row in results["networks"].items():
        bare = row.get("bare eager")
        cells = [name, " x ".join(map(str, row.get("shape", ()))), str(row.get("batch", "")), row.get("precision", "")]
        for way in ways:
            ratio = f" ({row[way] / bare:.2f})" if bare and way in row and way != "bare eager" else ""
            cells.append(f"{row[way]:.1f}{ratio}" if way in row else "")
        lines.append(f"| {' | '.join(cells)} |")
    for title in ("recipes", "scores"):
        for name, row in results[title].items():
            numbers = [f"{key} {value:.3g}" for key, value in row.items() if isinstance(value, float)]
            lines.append(f"{name}: {', '.join(numbers)}")
    lines += [f"failed: {name}: {reason}" for name, reason in results["failed"].items()]
    lines += [f"left out for lack of time: {', '.join(results['left out'])}"] if results["left out"] else []
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="JSON file of the results")
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--steps", type=int, default=40, help="steps per epoch; more for small batches")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--size", type=int, help="rows and columns; by default those of the recipe")
    parser.add_argument("--networks", nargs="*", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--recipes", nargs="*", help="recipes whose speed is measured; by default all")
    parser.add_argument("--compiled", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--data", type=Path, help="labelled slices, for scores")
    parser.add_argument("--scored", nargs="*", help="recipes that are trained on the slices; by default all of 2D")
    parser.add_argument("--score-epochs", type=int, default=5)
    options = parser.parse_args(arguments)
    results = measure(options)
    print(table(results))
    return results


if __name__ == "__main__":
    main()
