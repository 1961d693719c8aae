"""Would networks of 8-bit integers be faster than those of a bundle, and do they give the same scores?

The network of a bundle is quantised by ONNX Runtime (static, one scale per channel, weights of 7 bits so that sums do
not overflow on processors without VNNI), with the range of activations measured on images of the validation set. Both
networks then predict the test set. Printed are the speed of batches of eight images (the fastest of seven rounds by
turns), the size of the files, the largest difference of probabilities, the images whose class changes, and the scores
by subject of both.

    python benchmarks/integer_networks.py RUN [RUN ...]
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import gyrus
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.datasets.store import open_store
from gyrus.evaluation.evaluate import evaluate
from gyrus.export.bundle import read_manifest
from gyrus.inference.decision_rule import softmax
from gyrus.inference.onnx_runtime import OnnxRuntimeEngine
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.types import Subset

CALIBRATION, BATCH, ROUNDS = 128, 8, 7
METRICS = ("balanced_accuracy", "macro_roc_auc")


class Images(CalibrationDataReader):
    """Batches of prepared images (N, C, *spatial), once."""

    def __init__(self, images: np.ndarray) -> None:
        """Nothing has been read yet."""
        self._batches: Iterator[np.ndarray] = iter(np.array_split(images, max(1, len(images) // BATCH)))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next batch, as ONNX Runtime asks for it."""
        batch = next(self._batches, None)
        return None if batch is None else {"images": batch}


def prepared(run: Run, bundle: Path, subset: Subset, most: int | None, cache: Path) -> tuple[Manifest, np.ndarray]:
    """Images of a subset as the network gets them, evenly spaced if there are more than ``most``."""
    manifest, split, member = Manifest.load(run.manifest), Split.load(run.split), read_manifest(bundle).members[0]
    names = list(split.samples[subset])
    if most and len(names) > most:
        names = [names[place] for place in np.linspace(0, len(names) - 1, most).astype(int)]
    chosen = manifest.select(names)
    store = open_store(chosen, member.preprocessing, cache=cache)
    return chosen, member.normalisation.apply(np.asarray(store.pixels), store.statistics)


def row(folder: Path, place: Path) -> list[str]:
    """The cells of a run."""
    run, bundle = Run.open(folder), place / "bundle"
    gyrus.export(folder, out=bundle)
    member = read_manifest(bundle).members[0]
    exact, shaped, integer = bundle / member.networks["onnx"], place / "shaped.onnx", place / "integer.onnx"
    _, images = prepared(run, bundle, "val", CALIBRATION, place)
    quant_pre_process(str(exact), str(shaped), skip_symbolic_shape=True)
    quantize_static(
        str(shaped),
        str(integer),
        Images(images),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    engines = [OnnxRuntimeEngine(path) for path in (exact, integer)]
    seconds = [float("inf")] * 2
    for _ in range(ROUNDS):
        for number, engine in enumerate(engines):
            start = time.perf_counter()
            engine(images[:BATCH])
            seconds[number] = min(seconds[number], time.perf_counter() - start)
    manifest, tested = prepared(run, bundle, "test", None, place)
    logits, scores = [], []
    for engine in engines:
        parts = np.array_split(tested, -(-len(tested) // BATCH))
        found = np.concatenate([engine(part) for part in parts])[:, : len(member.classes)]
        table = manifest.table
        predictions = Predictions.from_logits(
            table["sample"].tolist(),
            found,
            classes=member.classes,
            split_unit="subject",
            subjects=table["subject"].tolist(),
            targets=table["label"].tolist(),
        )
        logits.append(found.astype(np.float64))
        metrics = evaluate(predictions, resamples=0).scores["subject"].metrics
        scores.append([metrics[name].value for name in METRICS])
    return [
        f"{member.model['name']}, {' x '.join(map(str, member.image_size))}",
        f"{seconds[0] / seconds[1]:.2f}",
        f"{exact.stat().st_size / 1e6:.1f} / {integer.stat().st_size / 1e6:.1f} MB",
        f"{np.abs(softmax(logits[0]) - softmax(logits[1])).max():.3f}",
        f"{int((logits[0].argmax(axis=1) != logits[1].argmax(axis=1)).sum())} of {len(tested)}",
        *(f"{before:.3f} / {after:.3f}" for before, after in zip(*scores, strict=True)),
    ]


def main() -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders whose data are at hand")
    logging.disable(logging.WARNING)
    titles = ["network", "times as fast", "size, single / integers", "difference", "other class", *METRICS]
    runs = parser.parse_args().runs
    print(f"| {' | '.join(titles)} |\n|---|{'---:|' * (len(titles) - 1)}", flush=True)
    for folder in runs:
        with tempfile.TemporaryDirectory(prefix="gyrus-") as place:
            print(f"| {' | '.join(row(folder, Path(place)))} |", flush=True)


if __name__ == "__main__":
    main()
