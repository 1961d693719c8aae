"""Speed of Gyrus against its peers, all in one run on this machine: training, 3D, inference, scan and store of NIfTI.

Run: ``make bench``, or ``python benchmarks/peers.py [--quick] [--only training ...] [--out FILE] [--picture FILE]``.
``--quick`` takes smaller sizes. The peers take turns epoch by epoch, and the fastest turn of
each counts, because machines are shared; the median of the ratios stands beside it. A ratio above 1 means that Gyrus is
faster. The first epoch, in which caches fill, does not count in training; for volumes it has its own row.

Training: baseline CNN, 128 x 128, batch 32, AdamW, the same gray PNG files for all. Every peer runs the bare loop
(float32, channels_last) over its loader; torchvision and timm with two worker processes, MONAI with its cache in memory
or on disk. Gyrus runs with the defaults of ``TrainingConfig``. With augmentation: resized crop, left-right flip and
rotation up to 15 degrees; timm's loader has no rotation, and MONAI's zoom replaces the crop.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

import inference
import volumes
from gyrus.datasets.scan import scan
from gyrus.datasets.store import open_store
from gyrus.datasets.torch_dataset import PixelDataset
from gyrus.models.build import build
from gyrus.models.config import ModelConfig
from gyrus.training.config import TrainingConfig
from gyrus.training.fit import fit
from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.normalisation import IntensityScaling, Normalisation
from gyrus.transforms.preprocessing import PreprocessingConfig

SIDE, BATCH, SEED = 128, 32, 0
CLASSES = ("a", "b")
AUGMENTATION = AugmentationConfig.model_validate(
    {
        "steps": [
            {"step": "resized-crop", "share": [0.8, 1.0]},
            {"step": "flip", "axis": "left-right", "probability": 0.5},
            {"step": "rotation", "degrees": 15},
        ]
    }
)
LIBRARIES = ("gyrus-mri", "torch", "torchvision", "monai", "timm", "openvino", "nibabel", "numpy")
Batches = Callable[[], Iterable[tuple[torch.Tensor, torch.Tensor]]]


def write_images(folder: Path, count: int) -> Path:
    """Smooth noise as gray PNG files in two folders of classes."""
    random = np.random.default_rng(SEED)
    for number in range(count):
        path = folder / CLASSES[number % 2] / f"{number:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(random.integers(0, 256, (16, 16), np.uint8))
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(path)
    return folder


def network() -> nn.Module:
    torch.manual_seed(SEED)
    return build(ModelConfig(name="baseline-cnn"), in_channels=1, num_classes=2, image_size=(SIDE, SIDE))


class Loop:
    """The bare loop over the batches of a peer."""

    def __init__(self, batches: Batches) -> None:
        self.model = network().to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.01)
        self.batches = batches

    def epoch(self) -> None:
        """Train an epoch."""
        for images, targets in self.batches():
            self.optimiser.zero_grad()
            functional.cross_entropy(self.model(images), targets).backward()
            self.optimiser.step()


def bare(steps: int) -> Batches:
    images = [torch.rand(BATCH, 1, SIDE, SIDE) for _ in range(steps)]
    targets = [torch.randint(2, (BATCH,)) for _ in range(steps)]
    return lambda: zip(images, targets, strict=True)


def torchvision_loader(folder: Path, augmented: bool) -> Batches:
    from torch.utils.data import DataLoader
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    steps = [v2.RandomResizedCrop(SIDE, (0.8, 1.0)), v2.RandomHorizontalFlip(), v2.RandomRotation(15)]
    transform = v2.Compose(
        [
            v2.Grayscale(),
            v2.ToImage(),
            *(steps if augmented else []),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5], [0.25]),
        ]
    )
    loader = DataLoader(ImageFolder(folder, transform), BATCH, shuffle=True, num_workers=2, persistent_workers=True)
    return lambda: loader


def monai_loader(folder: Path, augmented: bool, cache: Path | None) -> Batches:
    from monai.data import CacheDataset, DataLoader, PersistentDataset
    from monai.transforms import (
        Compose,
        EnsureChannelFirstd,
        LoadImaged,
        NormalizeIntensityd,
        RandFlipd,
        RandRotated,
        RandZoomd,
    )

    steps: list[Any] = [
        LoadImaged("image", reader="PILReader", image_only=True),
        EnsureChannelFirstd("image"),
        NormalizeIntensityd("image", subtrahend=127.5, divisor=63.75),
    ]
    if augmented:
        steps += [
            RandZoomd("image", prob=1.0, min_zoom=1.0, max_zoom=1.12),
            RandFlipd("image", prob=0.5, spatial_axis=0),
            RandRotated("image", range_x=0.26, prob=1.0),
        ]
    files = [{"image": str(path), "target": CLASSES.index(path.parent.name)} for path in sorted(folder.rglob("*.png"))]
    chain = Compose(steps)
    kept = PersistentDataset(files, chain, cache) if cache else CacheDataset(files, chain, progress=False)
    loader = DataLoader(kept, batch_size=BATCH, shuffle=True, num_workers=0)

    def batches() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for batch in loader:
            images = batch["image"]  # a tensor with metadata, which slows down each operation, or a plain one
            yield (images.as_tensor() if hasattr(images, "as_tensor") else images), batch["target"]

    return batches


def timm_loader(folder: Path, augmented: bool) -> Batches:
    from timm.data import ImageDataset, create_loader

    loader = create_loader(
        ImageDataset(str(folder), input_img_mode="L"),
        input_size=(1, SIDE, SIDE),
        batch_size=BATCH,
        is_training=True,
        no_aug=not augmented,
        scale=(0.8, 1.0),
        hflip=0.5,
        color_jitter=0.0,
        mean=(0.5,),
        std=(0.25,),
        num_workers=2,
        use_prefetcher=False,
        persistent_workers=True,
        device=torch.device("cpu"),
    )
    return lambda: loader


class Watched(PixelDataset):
    """A validation set that notes when its first batch is asked for: when the training steps are over."""

    asked: list[float]

    def set_epoch(self, epoch: int) -> None:
        """Note the time."""
        super().set_epoch(epoch)
        self.asked.append(time.perf_counter())


def training(augmented: bool, steps: int, epochs: int, work: Path) -> Iterator[dict[str, Any]]:
    """Seconds of an epoch of Gyrus and of each peer, in turn."""
    folder = write_images(work / "images", steps * BATCH)
    peers = {
        "bare loop, tensors in memory": bare(steps),
        "torchvision ImageFolder": torchvision_loader(folder, augmented),
        "MONAI CacheDataset": monai_loader(folder, augmented, None),
        "MONAI PersistentDataset": monai_loader(folder, augmented, work / "persistent"),
        "timm loader": timm_loader(folder, augmented),
    }
    loops = {name: Loop(batches) for name, batches in peers.items()}
    manifest = scan(folder, subject_rule="none")
    config = PreprocessingConfig(intensity=IntensityScaling(method="fixed"))
    store = open_store(manifest, config, cache=work / "cache")
    rows, targets = np.arange(len(manifest)), manifest.targets.to_numpy()
    fitted = Normalisation.fit(config.intensity, store.statistics)
    train = PixelDataset(store, rows, targets, fitted, augmentation=AUGMENTATION if augmented else None)
    val = Watched(store, rows[[0, -1]], targets[[0, -1]], fitted)  # one image of each class
    val.asked = []
    times: dict[str, list[float]] = {name: [] for name in loops}
    begun: list[float] = []

    def take_turns(_epoch: int, _model: nn.Module) -> None:
        for name, loop in loops.items():
            start = time.perf_counter()
            loop.epoch()
            times[name].append(time.perf_counter() - start)
        begun.append(time.perf_counter())

    run = {"classes": CLASSES, "seed": SEED, "progress": False, "before_epoch": take_turns}
    fit(network(), train, val, TrainingConfig(epochs=epochs + 1, batch_size=BATCH), work / "run", **run)
    ours = np.subtract(val.asked[-epochs - 1 :], begun)[1:].tolist()
    part = f"training 2D, {'with' if augmented else 'without'} augmentation"
    for name, seconds in times.items():
        yield row(part, name, ours, seconds[1:], "s per epoch")


def nifti(count: int, edge: int, turns: int, work: Path) -> Iterator[dict[str, Any]]:
    """Scan and store of NIfTI files, and a loop of nibabel that reorients, scales and stacks the same files."""
    import nibabel

    folder = work / "cohort"
    folder.mkdir()
    volumes.write_cohort(folder, count, edge)
    config = PreprocessingConfig(steps=(), intensity=IntensityScaling(method="fixed"))

    def ours() -> None:
        shutil.rmtree(work / "cache", ignore_errors=True)
        open_store(scan(folder), config, cache=work / "cache")

    def loop() -> None:
        prepared = []
        for path in sorted(folder.rglob("*.nii.gz")):
            values = nibabel.as_closest_canonical(nibabel.load(path)).get_fdata(dtype=np.float32)
            low, high = np.percentile(values, (0.5, 99.5))
            prepared.append((255 * np.clip((values - low) / (high - low), 0, 1)).astype(np.uint8))
        np.save(work / "loop.npy", np.stack(prepared))

    times: dict[str, list[float]] = {"ours": [], "loop": []}
    for turn in range(turns + 1):
        for name, do in (("ours", ours), ("loop", loop)):
            start = time.perf_counter()
            do()
            if turn:
                times[name].append(time.perf_counter() - start)
    title = f"scan and store, {count} NIfTI of {edge} cubed"
    yield row(title, "loop of nibabel", times["ours"], times["loop"], "s")


def loading_3d(count: int, edge: int, epochs: int, work: Path) -> Iterator[dict[str, Any]]:
    """Epochs over NIfTI volumes, each way in a process of its own: see ``volumes.py``."""
    folder = work / "cohort"
    folder.mkdir()
    volumes.write_cohort(folder, count, edge)
    found = {way: volumes.in_own_process("measure", way, folder, work / way, epochs) for way in volumes.WAYS}
    for way, title in (("cache", "MONAI CacheDataset"), ("persistent", "MONAI PersistentDataset")):
        ours, theirs = found["gyrus"]["seconds"], found[way]["seconds"]
        yield row(f"loading 3D, {count} of {edge} cubed, first epoch", title, ours[:1], theirs[:1], "s per epoch")
        yield row(f"loading 3D, {count} of {edge} cubed, later epochs", title, ours[1:], theirs[1:], "s per epoch")


def engines(names: Iterable[str], turns: int) -> Iterator[dict[str, Any]]:
    for name in names:
        found = inference.measure(name, turns, torch.get_num_threads())
        yield {
            "part": f"inference, {name}",
            "peer": "PyTorch, eager",
            "gyrus": found["openvino_ms"],
            "theirs": found["torch_ms"],
            "ratio": found["ratio"],
            "median_ratio": found["median_ratio"],
            "unit": "ms per image",
            "difference_of_logits": found["difference"],
        }


def row(part: str, peer: str, ours: list[float], theirs: list[float], unit: str) -> dict[str, Any]:
    ratios = np.divide(theirs, ours).tolist()
    return {
        "part": part,
        "peer": peer,
        "gyrus": min(ours),
        "theirs": min(theirs),
        "ratio": min(theirs) / min(ours),
        "median_ratio": statistics.median(ratios),
        "unit": unit,
    }


def machine() -> dict[str, Any]:
    """The processor, the load when the run began, and versions; nothing that identifies the machine."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), ":")
    return {
        "processor": model.partition(":")[2].strip() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_at_start": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in LIBRARIES},
        "seed": SEED,
        "date": time.strftime("%Y-%m-%d"),
    }


def draw(results: dict[str, Any], path: Path) -> None:
    """Bars of the ratios, grouped by part."""
    from matplotlib.figure import Figure

    rows = results["rows"]
    labels = [f"{each['part']}: {each['peer']}" for each in rows]
    figure = Figure(figsize=(8, 0.28 * len(rows) + 1.2), layout="constrained")
    axes = figure.subplots()
    colours = ["#2a6f97" if each["ratio"] >= 1 else "#c8553d" for each in rows]
    axes.barh(range(len(rows)), [each["ratio"] - 1 for each in rows], left=1, color=colours)
    for number, each in enumerate(rows):
        right = each["ratio"] >= 1
        axes.annotate(
            f"{each['ratio']:.2f}",
            (each["ratio"], number),
            (3 if right else -3, 0),
            textcoords="offset points",
            va="center",
            ha="left" if right else "right",
            fontsize=8,
        )
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log")
    ticks = [0.25, 0.5, 1, 2, 4, 8]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    highest, lowest = (edge(each["ratio"] for each in rows) for edge in (max, min))
    axes.set_xlim(min(0.4, lowest / 1.5), max(2.5, highest * 1.5))
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("Time of the peer / time of Gyrus, log scale (above 1: Gyrus is faster)", fontsize=9)
    about = results["machine"]
    axes.set_title(f"{about['processor']}, {about['threads']} threads, torch {about['libraries']['torch']}", fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("training", "volumes", "inference", "nifti")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--out", type=Path, default=None, help="JSON file to write")
    parser.add_argument("--picture", type=Path, default=None, help="PNG file to write")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="monai")
    torch.set_num_threads(options.threads)
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    quick = options.quick
    steps, epochs, count = (12, 3, 24) if quick else (40, 6, 120)
    networks = [name for name in inference.NETWORKS if not quick or "ConvNeXt 2D" not in name]
    works: dict[str, list[Callable[[Path], Iterator[dict[str, Any]]]]] = {
        "training": [
            lambda work: training(False, steps, epochs, work),
            lambda work: training(True, steps, epochs, work),
        ],
        "volumes": [lambda work: loading_3d(count, 64, 4, work)],
        "inference": [lambda _: engines(networks, 5 if quick else 9)],
        "nifti": [lambda work: nifti(count, 64, 2 if quick else 4, work)],
    }
    results: dict[str, Any] = {"schema": "gyrus.bench/1", "quick": quick, "machine": machine(), "rows": []}
    print(json.dumps(results["machine"]))
    print(f"{'':48}{'peer':32}{'Gyrus':>10}{'peer':>10}{'ratio':>8}{'median':>8}")
    for part in options.only:
        for work in works[part]:
            with tempfile.TemporaryDirectory() as folder:
                for each in work(Path(folder)):
                    results["rows"].append(each)
                    times = f"{each['gyrus']:>10.3g}{each['theirs']:>10.3g}{each['ratio']:>8.2f}"
                    print(
                        f"{each['part']:48}{each['peer']:32}{times}{each['median_ratio']:>8.2f}  {each['unit']}",
                        flush=True,
                    )
                    if options.out:
                        options.out.parent.mkdir(parents=True, exist_ok=True)
                        options.out.write_text(json.dumps(results, indent=1) + "\n")
    if options.picture:
        draw(results, options.picture)
    for path in filter(None, (options.out, options.picture)):
        print(f"Written: {path}")


if __name__ == "__main__":
    main()
