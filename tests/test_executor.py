"""The contract of all executors: the same results in the same order, errors, deaths and interruptions."""

from __future__ import annotations

import errno
import logging
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

from gyrus import executor
from gyrus.audit.image_quality import ImageMeasurements, measure_images
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.scan import scan
from gyrus.datasets.store import open_store
from gyrus.errors import BadFilesError, ConfigError, DataError, GyrusError, LeakageError, UnusableImageError
from gyrus.executor import map_tasks, workers
from gyrus.transforms.image_steps import Resize
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.workflows.baselines import PIXEL_BASELINES, BaselineData

PREPROCESSING = PreprocessingConfig(steps=(Resize(size=(24, 24)),))


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
    ) as found:
        yield found.scheduler_address


@pytest.fixture(scope="module", params=["serial", "threads", "processes", "cluster"])
def kind(request) -> str:
    return request.param


@pytest.fixture
def _there(kind, request) -> Iterator[None]:
    """Tasks run where the parameter says."""
    options = {"serial": {"jobs": 1}, "threads": {}, "processes": {"jobs": 2}}
    with workers(**(options[kind] if kind in options else {"cluster": request.getfixturevalue("cluster")})):
        yield


@pytest.fixture(scope="module")
def slices(tmp_path_factory) -> Path:
    folder, generator = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for number in range(48):
        path = folder / "ab"[number // 4 % 2] / f"sub-{number // 4}_slice-{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (20, 30), dtype=np.uint8)).save(path)
    (folder / "a" / "sub-0_slice-99.png").write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def expected(slices, tmp_path_factory) -> tuple[Manifest, Path, ImageMeasurements]:
    manifest = scan(slices)
    folder = open_store(manifest, PREPROCESSING, cache=tmp_path_factory.mktemp("expected")).folder
    return manifest, folder, measure_images(manifest)


def _square(number: int) -> int:
    time.sleep(0.01 * (number % 3))  # later tasks end earlier
    return number**2


def _fail(number: int) -> int:
    time.sleep(0.05 * (4 - number) if number < 4 else 0)
    if number >= 2:
        raise UnusableImageError("truncated", f"image {number}") from OSError(errno.ENOSPC, "full")
    return number


@dataclass(frozen=True)
class _Rows:
    rows: tuple[int, ...]

    def part(self, position: int) -> partial[int]:
        return partial(_square, self.rows[position])

    def __call__(self, position: int) -> int:
        return _square(self.rows[position])


def _at_once(_: int) -> bool:
    """Whether another task that must be alone in its process runs."""
    free = _ALONE.acquire(blocking=False)
    time.sleep(0.02)
    if free:
        _ALONE.release()
    return not free


_ALONE = threading.Lock()


class _DiesOnce(Resize):
    """Kills its process at the sixth image that it prepares there, in the middle of a shard."""

    mark: str

    def __call__(self, image: np.ndarray) -> np.ndarray:
        _PREPARED.append(1)
        if len(_PREPARED) == 6 and not Path(self.mark).exists():
            Path(self.mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(image)


_PREPARED: list[int] = []


def _die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def support_vectors() -> tuple[BaselineData, str, np.ndarray]:
    """Rows, and what the linear SVM says of them."""
    random = np.random.default_rng(0)
    targets, names = random.integers(3, size=300), np.arange(300).astype(str).astype(object)
    subsets = np.array(["train", "val", "test"] * 100, dtype=object)
    rows = BaselineData(random.normal(size=(300, 8)) + targets[:, None], targets, names, subsets)
    return rows, *PIXEL_BASELINES["linear-svm"](rows, 0)


@pytest.mark.usefixtures("_there")
def test_the_contract_of_executors(kind, slices, expected, support_vectors, tmp_path, monkeypatch):
    """One test for all, because processes and clusters take seconds to start."""
    numbers = list(range(40))
    assert list(map_tasks(_square, numbers)) == [number**2 for number in numbers]
    assert list(map_tasks(_square, numbers[:6], whole=True)) == [0, 1, 4, 9, 16, 25]
    assert not any(map_tasks(_at_once, numbers[:6], whole=True))
    rows = _Rows(tuple(numbers))
    assert list(map_tasks(rows, numbers, part=rows.part)) == [number**2 for number in numbers]
    assert list(map_tasks(_square, [])) == []

    # The manifest and the bytes of the store are the same, and progress is shown.
    manifest, folder, measurements = expected
    shown: list[tuple[int, int]] = []
    found = scan(slices, progress=lambda *counts: shown.append(counts))
    assert (found.digest, found.problems, found.notes) == (manifest.digest, manifest.problems, manifest.notes)
    assert shown[-1] == (49, 49)
    monkeypatch.setattr("gyrus.datasets.store_shards.IMAGES", 5)
    shown.clear()
    store = open_store(found, PREPROCESSING, cache=tmp_path / "cache", progress=lambda *counts: shown.append(counts))
    _require_same_files(store.folder, folder)
    measured = measure_images(found)
    np.testing.assert_array_equal(measured.thumbnails, measurements.thumbnails)
    pd.testing.assert_frame_equal(measured.quality, measurements.quality, check_exact=True)
    pd.testing.assert_frame_equal(measured.nuisance, measurements.nuisance, check_exact=True)
    assert shown == sorted(shown)
    assert shown[-1] == (48, 48)

    rows, about, scores = support_vectors
    assert PIXEL_BASELINES["linear-svm"](rows, 0)[0] == about
    np.testing.assert_array_equal(PIXEL_BASELINES["linear-svm"](rows, 0)[1], scores)

    # A build that is interrupted continues, wherever it runs.
    def interrupt(done: int, _: int) -> None:
        if done >= 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_store(found, PREPROCESSING, cache=tmp_path / "interrupted", progress=interrupt)
    assert [path.suffix for path in (tmp_path / "interrupted" / "stores").iterdir() if path.is_dir()] == [".building"]
    _require_same_files(open_store(found, PREPROCESSING, cache=tmp_path / "interrupted").folder, folder)

    # The first error in order is raised, as it is: also where later tasks fail earlier.
    with pytest.raises(UnusableImageError, match="image 2") as caught:
        list(map_tasks(_fail, range(12)))
    assert (caught.value.kind, caught.value.__cause__.errno) == ("truncated", errno.ENOSPC)
    (slices / "a" / "sub-0_slice-0.png").rename(tmp_path / "moved.png")
    try:
        with pytest.raises(DataError, match=r"sub-0_slice-0\.png .* cannot be read: the file does not exist"):
            open_store(found, PREPROCESSING, cache=tmp_path / "missing")
    finally:
        (tmp_path / "moved.png").rename(slices / "a" / "sub-0_slice-0.png")
    assert [path for path in (tmp_path / "missing" / "stores").iterdir() if path.is_dir()] == []

    if kind not in ("processes", "cluster"):
        return
    # A worker that is killed in the middle of a shard: the same bytes.
    deadly = PreprocessingConfig.model_construct(steps=(_DiesOnce(size=(24, 24), mark=str(tmp_path / "mark")),))
    _require_same_files(open_store(found, deadly, cache=tmp_path / "killed").folder, folder)
    assert (tmp_path / "mark").exists()
    if kind == "processes":
        monkeypatch.setattr(executor, "DEATHS", 0)
        with pytest.raises(GyrusError, match="killed 1 time at the same task, perhaps because memory ran out"):
            list(map_tasks(_die, range(3)))


def _require_same_files(folder: Path, expected: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in expected.iterdir())
    for path in folder.iterdir():
        assert path.read_bytes() == (expected / path.name).read_bytes(), path.name


def test_a_worker_that_is_replaced_because_its_memory_grew_is_no_warning():
    def outgrow(_: int) -> int:  # within the test: the workers need not import this file
        from joblib.externals.loky import process_executor

        process_executor._MEMORY_LEAK_CHECK_DELAY = 0.0
        process_executor._MAX_MEMORY_LEAK_SIZE = -(1 << 60)
        return os.getpid()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with workers(jobs=2):
            processes = set(map_tasks(outgrow, range(6)))
    assert len(processes) > 2
    assert [str(warning.message) for warning in caught] == []


def test_ctrl_c_ends_all_processes():
    script = """
        import os
        import time
        from gyrus.executor import map_tasks, workers

        def work(seconds):
            os.write(1, b"started\\n")  # in one piece: two processes write
            time.sleep(seconds)

        with workers(jobs=2):
            list(map_tasks(work, [100, 100]))
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "started\n"
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=60)
    assert output[1].strip().endswith("KeyboardInterrupt")
    assert psutil.wait_procs(children, timeout=10)[1] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"jobs": 0}, "must be 1 or more, got 0"),
        ({"jobs": 2, "cluster": "tcp://host:8786"}, "either jobs"),
        ({"cluster": "tcp://127.0.0.1:1"}, "Cannot reach a Dask scheduler at tcp://127.0.0.1:1"),
        ({"cluster": "nowhere:at-all"}, "Cannot reach a Dask scheduler"),
    ],
)
def test_workers_that_cannot_be_used(options, message, monkeypatch):
    monkeypatch.setattr(executor, "_CONNECTING", 0.2)
    with pytest.raises((ConfigError, GyrusError), match=message), workers(**options):
        pytest.fail("not refused")


@pytest.mark.parametrize(
    "error", [GyrusError("a"), UnusableImageError("kind", "why"), BadFilesError("a", ["b"]), LeakageError("a", ["s"])]
)
def test_errors_survive_pickling(error):
    error.__cause__ = PermissionError(13, "no")
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
    assert repr(copy.__cause__) == repr(error.__cause__)
