"""How time and memory grow with the size of a data set and the number of processes.

    python benchmarks/scaling.py weak       # scan and store: twice the images by 2 processes against 1
    python benchmarks/scaling.py memory     # peak memory of scan, store, training and prediction by size
    python benchmarks/scaling.py cost       # seconds and bytes of each stage, fitted, and checked at ten times the size

Each figure of ``memory`` and ``cost`` comes from a process of its own. Times are minima over rounds in turn; the load
of the machine is printed, because other programs lower the ratio of ``weak``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIZE = 192
CONFIG = {
    "preprocessing.steps.1.size": [128, 128],
    "training.epochs": 1,
    "training.device": "cpu",
    "evaluation.resamples": 50,
    "evaluation.baselines": False,
}


def write_images(folder: Path, count: int) -> Path:
    """PNG slices of heads, 16 per subject: eight different ones with their own noise, so that none is a copy."""
    from PIL import Image

    from gyrus.synthetic.phantom import generate

    phantom = generate(subjects=8, slices=1, classes=2, size=SIZE, seed=0)
    heads = [np.asarray(volume[0], np.int16) for volume in phantom.volumes]
    generator = np.random.default_rng(0)
    for number in range(count):
        subject = number // 16
        path = folder / "ab"[subject % 2] / f"sub-{subject:05d}_slice-{number % 16:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noisy = heads[number % 8] + generator.integers(-6, 7, (SIZE, SIZE), dtype=np.int16)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(path, compress_level=1)
    return folder


def write_volumes(folder: Path, count: int) -> Path:
    """NIfTI volumes of 96 x 112 x 96 voxels."""
    import nibabel

    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / "ab"[number % 2] / f"sub-{number:04d}_T1w.nii.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        voxels = generator.gamma(2.0, 200.0, (96, 112, 96)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([2.0, 2.0, 2.0, 1.0])), path)
    return folder


def preprocessing(kind: str):
    """The steps of the benchmark."""
    from gyrus.transforms.image_steps import Grayscale, Resize
    from gyrus.transforms.preprocessing import PreprocessingConfig

    return PreprocessingConfig(steps=(Grayscale(), Resize(size=(128, 128))) if kind == "images" else ())


def stage(name: str, kind: str, folder: Path, cache: Path) -> float:
    """Run one stage in this process; returns its seconds."""
    from gyrus.datasets.scan import scan
    from gyrus.datasets.store import open_store

    os.environ["GYRUS_CACHE"] = str(cache)
    if name == "scan":
        start = time.perf_counter()
        scan(folder)
        return time.perf_counter() - start
    if name == "store":
        manifest = scan(folder)
        start = time.perf_counter()
        open_store(manifest, preprocessing(kind), cache=cache)
        return time.perf_counter() - start
    import gyrus

    start = time.perf_counter()
    if name == "train":
        gyrus.train("dementia-baseline", data=folder, out=cache / "run", overrides=CONFIG)
    else:
        gyrus.predict(cache / "run", [folder], out=cache / "new.csv")
    return time.perf_counter() - start


def measured(name: str, kind: str, folder: Path, cache: Path) -> tuple[float, float]:
    """Seconds, and peak memory in MiB, of a stage in a new process."""
    command = [sys.executable, __file__, "stage", name, kind, str(folder), str(cache)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    seconds, peak = json.loads(out)
    return seconds, peak


def weak(count: int, rounds: int, work: Path) -> None:
    """Throughput of 2 processes on twice the images against 1 process, which has one core, and against its threads."""
    from gyrus.datasets.scan import scan
    from gyrus.datasets.store import open_store
    from gyrus.executor import map_tasks, workers

    folders = {1: write_images(work / "1", count), 2: write_images(work / "2", 2 * count)}
    times: dict[tuple[str, str], list[float]] = {}
    cores = os.sched_getaffinity(0)
    ways = {"1 process on one core": (1, {min(cores)}), "1 process": (1, cores), "2 processes": (2, cores)}
    for number in range(rounds):
        for way, (jobs, allowed) in ways.items():
            os.sched_setaffinity(0, allowed)  # inherited by the threads and processes that start from here
            with workers(jobs=jobs):
                list(map_tasks(_import, range(8)))
                start = time.perf_counter()
                manifest = scan(folders[jobs])
                middle = time.perf_counter()
                open_store(manifest, preprocessing("images"), cache=work / f"{number}-{way}")
                end = time.perf_counter()
            times.setdefault(("scan", way), []).append(middle - start)
            times.setdefault(("store", way), []).append(end - middle)
            times.setdefault(("both", way), []).append(end - start)
    print(f"{count} images per process; load of the machine {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name in ("scan", "store", "both"):
        *single, two = (min(times[name, way]) for way in ways)
        for way, one in zip(ways, single, strict=False):
            print(f"{name}: {way} {one:.2f} s, 2 processes on twice the images {two:.2f} s, ratio {2 * one / two:.2f}")


def _import(_: int) -> None:
    """Import in a worker what the tasks need, which is done once."""
    import gyrus.datasets.scan
    import gyrus.datasets.store  # noqa: F401

    time.sleep(0.5)


def memory(counts: list[int], volumes: list[int], stages: list[str], work: Path) -> None:
    """Peak memory of each stage by size."""
    print(f"{'stage':8}{'data':>16}{'seconds':>10}{'peak MiB':>10}")
    for kind, sizes in (("images", counts), ("volumes", volumes)):
        for count in sizes:
            folder = (write_images if kind == "images" else write_volumes)(work / f"{kind}-{count}", count)
            for name in stages if kind == "images" else ("scan", "store"):
                seconds, peak = measured(name, kind, folder, work / f"cache-{kind}-{count}")
                print(f"{name:8}{f'{count} {kind}':>16}{seconds:10.1f}{peak:10.0f}", flush=True)


def cost(count: int, work: Path) -> None:
    """A straight line through two sizes, and its forecast for one ten times larger."""
    sizes = (count // 2, count, 10 * count)
    folders = [write_images(work / f"cost-{size}", size) for size in sizes]
    for name in ("scan", "store"):
        seconds = []
        for size, folder in zip(sizes, folders, strict=True):
            repeats = 3 if size < sizes[-1] else 1
            runs = [measured(name, "images", folder, work / f"c-{name}-{size}-{each}")[0] for each in range(repeats)]
            seconds.append(min(runs))
        slope = (seconds[1] - seconds[0]) / (sizes[1] - sizes[0])
        start = seconds[0] - slope * sizes[0]
        forecast = start + slope * sizes[2]
        print(
            f"{name}: {start:.2f} s + {slope * 1000:.3f} ms per image; {sizes[2]} images: forecast {forecast:.1f} s, "
            f"measured {seconds[2]:.1f} s ({seconds[2] / forecast:.2f})",
            flush=True,
        )
    read = sum(path.stat().st_size for path in folders[1].rglob("*.png")) / count
    print(f"bytes per image: {read:.0f} read twice, {128 * 128} in the store")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["weak", "memory", "cost", "stage"])
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 2000, 8000])
    parser.add_argument("--volumes", type=int, nargs="+", default=[20, 80])
    parser.add_argument("--stages", nargs="+", default=["scan", "store", "train", "predict"])
    arguments = parser.parse_args()
    if arguments.what == "stage":
        name, kind, folder, cache = arguments.rest
        seconds = stage(name, kind, Path(folder), Path(cache))
        print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
        return
    with tempfile.TemporaryDirectory() as folder:
        if arguments.what == "weak":
            weak(arguments.images, arguments.rounds, Path(folder))
        elif arguments.what == "memory":
            memory(arguments.sizes, arguments.volumes, arguments.stages, Path(folder))
        else:
            cost(arguments.images, Path(folder))


if __name__ == "__main__":
    main()
