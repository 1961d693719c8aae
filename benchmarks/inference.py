"""Prediction with OpenVINO against PyTorch (eager, float32) for networks of the zoo; latency of a warm predictor.

Run: ``python benchmarks/inference.py``; ``--networks``, ``--turns`` and ``--threads`` change the work. Engines take
turns on the same batch in one process, and the fastest turn of each counts, because machines are shared. Weights are
random, seed 0. ``--latency`` also trains a small run on phantoms and times ``Predictor.predict`` for one slice file.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gyrus.inference.engines import OpenVinoEngine, TorchEngine, convert, largest_difference
from gyrus.models.build import build
from gyrus.models.config import ModelConfig

NETWORKS: dict[str, tuple[str, tuple[int, ...], int]] = {
    "baseline CNN, 128": ("baseline-cnn", (1, 128, 128), 16),
    "ResNet50, 224": ("timm:resnet50", (3, 224, 224), 4),
    "ConvNeXt 2D, 224": ("convnext-96-bn", (1, 224, 224), 4),
    "small 3D CNN, 32 cubed": ("baseline-cnn", (1, 32, 32, 32), 4),
    "ConvNeXt 3D, 20 x 64 x 64": ("convnext-stack", (1, 20, 64, 64), 2),
}
"""Title: model, image shape, images in a batch."""


def measure(title: str, turns: int, threads: int) -> dict[str, Any]:
    """Milliseconds per image of both engines, their largest difference, and the seconds of the conversion."""
    name, shape, batch = NETWORKS[title]
    torch.manual_seed(0)
    model = build(ModelConfig(name=name), in_channels=shape[0], num_classes=4, image_size=shape[1:]).eval()
    images = np.random.default_rng(0).normal(size=(batch, *shape)).astype(np.float32)
    start = time.perf_counter()
    engines = {
        "torch": TorchEngine(model),
        "openvino": OpenVinoEngine(convert(model, torch.from_numpy(images)), threads),
    }
    conversion = time.perf_counter() - start
    difference = largest_difference(*(engine(images) for engine in engines.values()))
    times: dict[str, list[float]] = {engine: [] for engine in engines}
    for _ in range(turns):
        for engine, run in engines.items():
            start = time.perf_counter()
            run(images)
            times[engine].append(1000 * (time.perf_counter() - start) / batch)
    fastest = {engine: min(found) for engine, found in times.items()}
    return {
        "network": title,
        "torch_ms": fastest["torch"],
        "openvino_ms": fastest["openvino"],
        "ratio": fastest["torch"] / fastest["openvino"],
        "median_ratio": statistics.median(np.divide(times["torch"], times["openvino"]).tolist()),
        "difference": difference,
        "conversion_s": conversion,
    }


def latency(turns: int) -> dict[str, float]:
    """Milliseconds of ``Predictor.predict`` for one slice of 128 x 128 pixels in a PNG file, by engine."""
    import gyrus
    from gyrus.synthetic.phantom import generate
    from gyrus.synthetic.phantom_layouts import write

    with tempfile.TemporaryDirectory() as folder:
        data = write(generate(subjects=24, slices=1, classes=2, size=128, seed=0), Path(folder) / "data")
        fast = {"training.epochs": 1, "training.device": "cpu", "evaluation.resamples": 50}
        run = gyrus.train("dementia-baseline", data=data, out=Path(folder) / "run", overrides=fast)
        image = sorted(data.rglob("*.png"))[0]
        predictors = {name: gyrus.Predictor(run, device="cpu", engine=name) for name in ("torch", "openvino")}
        times: dict[str, list[float]] = {name: [] for name in predictors}
        for turn in range(turns + 1):
            for name, predictor in predictors.items():
                start = time.perf_counter()
                predictor.predict([image])
                if turn:
                    times[name].append(1000 * (time.perf_counter() - start))
    return {
        f"{name}_{kind}_ms": of(found)
        for name, found in times.items()
        for kind, of in (("fastest", min), ("median", statistics.median))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--latency", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{'network':28}{'PyTorch':>10}{'OpenVINO':>10}{'ratio':>8}{'median':>8}{'difference':>12}{'conversion':>12}")
    for title in options.networks:
        row = measure(title, options.turns, options.threads)
        print(
            f"{title:28}{row['torch_ms']:7.1f} ms{row['openvino_ms']:7.1f} ms{row['ratio']:8.2f}"
            f"{row['median_ratio']:8.2f}{row['difference']:12.1e}{row['conversion_s']:10.1f} s",
            flush=True,
        )
    if options.latency:
        print("one slice, warm predictor:", {name: round(value, 1) for name, value in latency(20).items()})


if __name__ == "__main__":
    main()
