"""Load test of `gyrus serve` on this machine: good, bad, huge and hostile uploads, and a worker that is killed.

Eight clients send them. Every good answer is compared with the offline answer of the bundle. At the end it is checked
that no file and no name is left, and the memory of the server is shown. Without --bundle a small network is trained on
phantoms first.

    python benchmarks/serve_load.py --requests 2000
"""

from __future__ import annotations

import argparse
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image

import gyrus
from gyrus.inference.decision_rule import softmax
from gyrus.workflows.predict_bundle import predict_bundle

SECRET = "sub-JaneDoe"
"""Part of every name and of a header; it must be nowhere afterwards."""

MEGABYTES = 4
"""Limit of an upload."""

TOLERANCE = 1e-5


@dataclass
class Report:
    """What has happened."""

    seconds: list[float] = field(default_factory=list)
    outcomes: Counter[tuple[str, int]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def small_bundle(folder: Path) -> Path:
    """A network of the small phantom."""
    data = gyrus.phantom(folder / "data", subjects=24, slices=4, classes=2, size=32)
    overrides = {
        "preprocessing.steps.1.size": [32, 32],
        "training.epochs": 2,
        "training.device": "cpu",
        "evaluation.resamples": 50,
        "evaluation.baselines": False,
    }
    run = gyrus.train("dementia-baseline", data=data, out=folder / "run", overrides=overrides)
    gyrus.export(run.folder, out=folder / "bundle")
    return folder / "bundle"


def zipped(name: str, content: bytes) -> bytes:
    """An archive with one file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def good_images(folder: Path) -> list[Path]:
    """Pictures of many sizes."""
    generator, paths = np.random.default_rng(0), []
    for number in range(40):
        rows, columns = generator.integers(20, 200, 2)
        smooth = np.add.outer(np.sin(np.arange(rows) / 9 + number), np.cos(np.arange(columns) / 7))
        pixels = np.clip(120 + 50 * smooth + generator.normal(0, 5, smooth.shape), 0, 255).astype(np.uint8)
        paths.append(folder / f"{SECRET}-{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def bad_uploads(good: bytes) -> dict[str, tuple[str, Callable[[], bytes], set[int]]]:
    """Kinds of uploads that must be refused, and the statuses that are right."""
    bomb = zipped("a.png", b"\0" * (64 << 20))
    return {
        "damaged image": ("a.png", lambda: good[: len(good) // 2], {422}),
        "text as an image": ("a.png", lambda: b"hello " * 50, {422}),
        "huge upload": ("a.png", lambda: b"x" * (MEGABYTES << 20) * 2, {413}),
        "zip bomb": ("a.zip", lambda: bomb, {413}),
        "zip in a zip": ("a.zip", lambda: zipped("b.zip", zipped("c.png", good)), {422}),
        "path in a zip": ("a.zip", lambda: zipped("../../../../tmp/" + SECRET + ".exe", good), {422}),
        "damaged NIfTI": ("a.nii.gz", lambda: b"\x1f\x8b" + os.urandom(500), {422}),
        "damaged DICOM": ("a.dcm", lambda: b"\0" * 128 + b"DICM" + os.urandom(300), {422}),
    }


def main() -> None:
    """Run the test and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--bundle", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        bundle = options.bundle or small_bundle(folder)
        (folder / "images").mkdir()
        paths = good_images(folder / "images")
        # One by one: images of a folder may belong to one subject, and are then decided together.
        expected = {path.name: softmax(predict_bundle(bundle, [path]).logits)[0] for path in paths}
        load(bundle, paths, expected, folder, options)


def load(
    bundle: Path, paths: list[Path], expected: dict[str, np.ndarray], folder: Path, options: argparse.Namespace
) -> None:
    """Start a server, send the requests, and report."""
    log, temporary = folder / "log", folder / "temporary"
    temporary.mkdir()
    words = [sys.executable, "-m", "gyrus", "serve", str(bundle), "--port", "0", "--workers", str(options.workers)]
    limits = ["--max-mb", str(MEGABYTES), "--max-unpacked-mb", "16", "--queue", str(options.clients)]
    with log.open("w") as file:
        server = subprocess.Popen(
            [*words, *limits], stdout=file, stderr=file, env={**os.environ, "TMPDIR": str(temporary)}
        )
    try:
        while "Serving " not in log.read_text():
            if server.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.1)
        address = "http://" + log.read_text().split("http://")[1].split()[0]
        process = psutil.Process(server.pid)
        report = Report()
        warm_up = max(100, options.requests // 10)
        send(address, range(warm_up), paths, expected, options.clients, Report(), lambda _: None)
        before = [memory(process), *map(memory, process.children())]
        killed = threading.Event()

        def kill_once(number: int) -> None:
            if number >= options.requests // 2 and not killed.is_set():
                killed.set()
                process.children()[0].send_signal(signal.SIGKILL)

        start = time.perf_counter()
        send(address, range(options.requests), paths, expected, options.clients, report, kill_once)
        took = time.perf_counter() - start
        after = [memory(process), *map(memory, process.children())]
        private = Path(process.children()[0].cmdline()[5])
        held = [path for path in private.rglob("*") if path.is_file()]
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    left = [*temporary.rglob("*"), *([private] if private.exists() else [])]
    shown(report, took, options, killed.is_set(), before, after)
    named = SECRET in log.read_text()
    print(f"files held when idle: {len(held)}; left after the end: {len(left)}; name in the log: {named}")
    print(f"wrong answers: {len(report.wrong)}{': ' + report.wrong[0] if report.wrong else ''}")
    if report.wrong or held or left or named or "Traceback" in log.read_text():
        raise SystemExit("FAILED")


def send(
    address: str,
    numbers: range,
    paths: list[Path],
    expected: dict[str, np.ndarray],
    clients: int,
    report: Report,
    midway: Callable[[int], None],
) -> None:
    """Send requests from several clients: seven in ten are good."""
    contents = {path.name: path.read_bytes() for path in paths}
    bad = bad_uploads(next(iter(contents.values())))
    local = threading.local()

    def one(number: int) -> None:
        midway(number)
        draw = random.Random(number)
        if not hasattr(local, "client"):
            local.client = httpx.Client(base_url=address, timeout=120, headers={"x-patient": SECRET})
        if draw.random() < 0.7:
            name = draw.choice(list(contents))
            kind, content, right = "good", contents[name], {200}
        else:
            kind = draw.choice(list(bad))
            name, make, right = bad[kind]
            name, content = f"{SECRET}-{name}", make()
        start = time.perf_counter()
        status, problem = ask(local.client, name, content, expected.get(name) if kind == "good" else None)
        seconds = time.perf_counter() - start
        with report.lock:
            report.outcomes[kind, status] += 1
            if kind == "good":
                report.seconds.append(seconds)
            if status not in right and status != 503:
                report.wrong.append(f"{kind}: status {status}")
            if problem:
                report.wrong.append(problem)

    with ThreadPoolExecutor(clients) as threads:
        for _ in threads.map(one, numbers):
            pass


def ask(client: httpx.Client, name: str, content: bytes, wanted: np.ndarray | None) -> tuple[int, str]:
    """Status of a request, and what is wrong with a good answer."""
    try:
        response = client.post("/v1/predict", files=[("files", (name, content))])
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):  # refused while it was still sent
        return 413 if len(content) > MEGABYTES << 20 else 0, ""
    if wanted is None or response.status_code != 200:
        return response.status_code, ""
    found = np.array(list(response.json()["answers"][0]["probabilities"].values()))
    difference = float(np.abs(found - wanted).max())
    return 200, f"{name} differs by {difference:.1e}" if difference > TOLERANCE else ""


def memory(process: psutil.Process) -> float:
    """MiB of a process."""
    return process.memory_info().rss / 2**20


def shown(
    report: Report, took: float, options: argparse.Namespace, killed: bool, before: list[float], after: list[float]
) -> None:
    """Print the table."""
    print("\n| upload | status | requests |\n|---|---:|---:|")
    for (kind, status), count in sorted(report.outcomes.items()):
        print(f"| {kind} | {status} | {count} |")
    p50, p99 = np.percentile(report.seconds, [50, 99])
    rate = f"{took:.0f} s: {options.requests / took:.0f} per s"
    print(f"\n{options.requests} requests by {options.clients} clients in {rate}")
    longest = max(report.seconds)
    print(f"good requests: p50 {1000 * p50:.0f} ms, p99 {1000 * p99:.0f} ms, longest {longest:.1f} s")
    print(f"worker killed midway: {killed}")
    print(f"memory of the server: {before[0]:.0f} MiB after warming up, {after[0]:.0f} MiB at the end")
    print(f"memory of the worker: {before[1]:.0f} MiB after warming up, {after[1]:.0f} MiB at the end (a new one)")


if __name__ == "__main__":
    main()
