"""Memory and speed of the way from NIfTI files to batches, against MONAI's CacheDataset and PersistentDataset.

Run: ``python benchmarks/volumes.py``; ``--sizes``, ``--edge`` and ``--epochs`` change the work. Each measurement runs
in a process of its own, all on the same files, in turn; one thread for numbers, one process for reading. The first
epoch counts the time to decode; Gyrus also opens every file once in the scan before it. Memory is what a process holds
by itself (RssAnon): pages of mapped files can be taken back by the system at any time, and are named beside it.
``--limit`` shows training under a limit of memory: the process may hold so many MiB more than it does before any data
are read (RLIMIT_DATA), and the cohort is ten times as large.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

DISTINCT = 20
BATCH = 4
WAYS = ("gyrus", "cache", "persistent")
MIB = 1024**2


def write_cohort(folder: Path, count: int, edge: int) -> None:
    """NIfTI files in two classes; beyond the first few they are links to the same content under other names."""
    import nibabel

    distinct = []
    for number in range(count):
        path = folder / ("AD", "NC")[number % 2] / f"sub-{number:05d}_T1w.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number >= DISTINCT:
            os.link(distinct[number % DISTINCT], path)
            continue
        generator = np.random.default_rng(number)
        grid = np.linspace(-1, 1, edge)
        radius = np.sqrt(grid[:, None, None] ** 2 + grid[None, :, None] ** 2 + grid[None, None, :] ** 2)
        values = 1000 * (radius < 0.8) + generator.normal(0, 40, (edge,) * 3)
        image = nibabel.Nifti1Image(values.astype(np.int16), np.diag([-2.0, 2.0, 2.0, 1.0]))
        image.header.set_xyzt_units("mm")
        nibabel.save(image, path)
        distinct.append(path)


class Watch:
    """The most that this process held while watched, in MiB: by itself, and with pages of mapped files."""

    def __init__(self) -> None:
        self.own = self.all = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(0.02):
            self.own, self.all = max(self.own, status("RssAnon")), max(self.all, status("VmRSS"))


def status(field: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise SystemExit("This benchmark reads /proc/self/status, so it needs Linux.")


def gyrus_epochs(folder: Path, cache: Path) -> Callable[[int], Iterator[object]]:
    from torch.utils.data import DataLoader

    from gyrus.datasets.scan import scan
    from gyrus.datasets.store import open_store
    from gyrus.datasets.torch_dataset import PixelDataset
    from gyrus.transforms.normalisation import IntensityScaling, Normalisation
    from gyrus.transforms.preprocessing import PreprocessingConfig

    datasets: list[PixelDataset] = []

    def epoch(seed: int) -> Iterator[object]:
        if not datasets:
            manifest = scan(folder)
            config = PreprocessingConfig(steps=(), intensity=IntensityScaling(method="fixed"))
            store = open_store(manifest, config, cache=cache)
            fitted = Normalisation.fit(config.intensity, store.statistics)
            datasets.append(PixelDataset(store, np.arange(len(manifest)), manifest.targets.to_numpy(), fitted))
        generator = np.random.default_rng(seed).permutation(len(datasets[0])).tolist()
        yield from (batch.images for batch in _batches(DataLoader, datasets[0], generator))

    return epoch


def _batches(loader: type, dataset: object, order: list[int]) -> Iterator[object]:
    return iter(loader(dataset, batch_size=BATCH, sampler=order, collate_fn=lambda batch: batch))


def monai_epochs(folder: Path, cache: Path, way: str) -> Callable[[int], Iterator[object]]:
    from monai.data import CacheDataset, DataLoader, PersistentDataset
    from monai.transforms import Compose, EnsureChannelFirst, LoadImage, Orientation, ScaleIntensityRangePercentiles

    steps = Compose(
        [
            LoadImage(image_only=True),
            EnsureChannelFirst(),
            Orientation("RAS", labels=None),
            ScaleIntensityRangePercentiles(0.5, 99.5, 0, 1, clip=True),
        ]
    )
    files = sorted(map(str, folder.rglob("*.nii.gz")))
    datasets: list[object] = []

    def epoch(seed: int) -> Iterator[object]:
        if not datasets:
            kept = (
                CacheDataset(files, steps, num_workers=1, progress=False)
                if way == "cache"
                else PersistentDataset(files, steps, cache_dir=cache)
            )
            datasets.append(kept)
        order = np.random.default_rng(seed).permutation(len(files)).tolist()
        yield from DataLoader(datasets[0], batch_size=BATCH, sampler=order, num_workers=0)

    return epoch


def warmed_up(way: str, folder: Path, cache: Path) -> Callable[[int], Iterator[object]]:
    """A way through the cohort, after one through four volumes, so that libraries are loaded and threads have run."""

    def epochs(files: Path, kept: Path) -> Callable[[int], Iterator[object]]:
        return gyrus_epochs(files, kept) if way == "gyrus" else monai_epochs(files, kept, way)

    few = folder.parent / "few"
    shutil.rmtree(few, ignore_errors=True)
    write_cohort(few, 4, edge_of(folder))
    for images in epochs(few, cache / "few")(0):
        images.sum()  # type: ignore[attr-defined]
    return epochs(folder, cache / "all")


def edge_of(folder: Path) -> int:
    import nibabel

    return int(nibabel.load(next(folder.rglob("*.nii.gz"))).shape[0])


def measure(way: str, folder: Path, cache: Path, epochs: int) -> dict[str, object]:
    """In a process of its own: seconds of each epoch, and the most memory above that before any data were read."""
    import torch

    torch.set_num_threads(1)
    run = warmed_up(way, folder, cache)
    own, everything = status("RssAnon"), status("VmRSS")
    seconds = []
    with Watch() as watch:
        for seed in range(epochs):
            start = time.perf_counter()
            for images in run(seed):
                images.sum()  # type: ignore[attr-defined]
            seconds.append(time.perf_counter() - start)
    return {"seconds": seconds, "own": watch.own - own, "all": watch.all - everything}


def train_under_limit(folder: Path, cache: Path, way: str, limit: float) -> dict[str, object]:
    """One epoch of a linear model on pooled voxels, while no more than ``limit`` MiB may be held beyond the start."""
    import torch

    torch.set_num_threads(1)
    run = warmed_up(way, folder, cache)
    model = torch.nn.Sequential(
        torch.nn.AvgPool3d(8), torch.nn.Flatten(), torch.nn.Linear((edge_of(folder) // 8) ** 3, 2)
    )
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step(images: torch.Tensor) -> None:
        optimiser.zero_grad()
        model(images).square().mean().backward()
        optimiser.step()

    step(torch.zeros(BATCH, 1, *[edge_of(folder)] * 3))
    most = int((status("VmData") + limit) * MIB)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    steps = 0
    try:
        for images in run(0):
            step(images)  # type: ignore[arg-type]
            steps += 1
    except (MemoryError, RuntimeError) as error:
        return {"steps": steps, "ended": f"{type(error).__name__} {str(error)[:80]}"}
    return {"steps": steps, "ended": "whole epoch"}


def in_own_process(*arguments: object) -> dict[str, object]:
    # Large blocks go back to the system when they are freed, so that what is held is what is in use.
    allocator = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "262144"}
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **allocator}
    done = subprocess.run(
        [sys.executable, __file__, "--one", *map(str, arguments)], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        return {"ended": (done.stderr.strip().splitlines() or ["killed"])[-1][:100]}
    return json.loads(done.stdout.splitlines()[-1])


def compare(sizes: list[int], edge: int, epochs: int) -> None:
    print(f"{'way':<12}{'volumes':>8}{'MiB as uint8':>14}{'first s':>9}{'later s':>9}{'own MiB':>9}{'with mapped':>13}")
    for count in sizes:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "cohort"
            write_cohort(folder, count, edge)
            for way in WAYS:
                cache = Path(temporary) / way
                found = in_own_process("measure", way, folder, cache, epochs)
                shutil.rmtree(cache, ignore_errors=True)
                first, *later = found["seconds"]
                numbers = f"{first:>9.2f}{min(later):>9.2f}{found['own']:>9.0f}{found['all']:>13.0f}"
                print(f"{way:<12}{count:>8}{count * edge**3 / MIB:>14.0f}{numbers}", flush=True)


def show_limit(limit: float, edge: int) -> None:
    count = int(np.ceil(10 * limit * MIB / edge**3))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "cohort"
        write_cohort(folder, count, edge)
        print(f"{count} volumes of {edge}^3, {count * edge**3 / MIB:.0f} MiB as uint8, limit {limit:.0f} MiB")
        for way in WAYS[:2]:
            found = in_own_process("limit", way, folder, Path(temporary) / way, limit)
            print(f"{way:<12}{found.get('steps', 0):>6} steps of {-(-count // BATCH)}: {found['ended']}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 200])
    parser.add_argument("--edge", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--limit", type=float, default=None, help="MiB; show training under this limit instead")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        kind, way, folder, cache, number = options.one
        work = (
            measure(way, Path(folder), Path(cache), int(number))
            if kind == "measure"
            else train_under_limit(Path(folder), Path(cache), way, float(number))
        )
        print(json.dumps(work))
    elif options.limit:
        show_limit(options.limit, options.edge)
    else:
        compare(options.sizes, options.edge, options.epochs)


if __name__ == "__main__":
    main()
