"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# No test is timed: a busy machine is no mistake.
settings.register_profile("quick", deadline=None, max_examples=30)
settings.load_profile("quick")

# What is started in the background ignores Ctrl-C, and what nohup starts ignores the end of the terminal; so would the
# programs that tests start, and some tests send these signals to them.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)

# Several test processes share the cores; threads of their own would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SLOW_FOR_MUTANTS = 1.0
"""Seconds from which a test is left out of mutation runs."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """In a mutation run (`make mutants`) leave out tests that train or are slow, and run the fastest first.

    mutmut runs the tests of a function for each of its mutants: thousands of times.
    """
    measured = Path("mutmut-stats.json")
    if "MUTANT_UNDER_TEST" not in os.environ or config.option.collectonly or not measured.is_file():
        return
    seconds = json.loads(measured.read_text())["duration_by_test"]
    slow = [
        item
        for item in items
        if "finished_run" in getattr(item, "fixturenames", ()) or seconds.get(item.nodeid, 0) > SLOW_FOR_MUTANTS
    ]
    config.hook.pytest_deselected(items=slow)
    items[:] = sorted((item for item in items if item not in slow), key=lambda item: seconds.get(item.nodeid, 0))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let the forks of a mutation run share the memory of the modules: a collection of garbage would copy it."""
    if "MUTANT_UNDER_TEST" in os.environ and session.config.option.collectonly:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans, which is not part of the project; the test is skipped where it is absent."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("GYRUS_SHARED_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real scans at {folder} (set GYRUS_SHARED_DATA to their folder)")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the tests' stores out of the user's cache."""
    os.environ["GYRUS_CACHE"] = str(tmp_path_factory.mktemp("cache"))


UNDRAWN = ("auto", "cli", "compatibility", "contracts", "inference", "training", "tuning", "workflows")
"""Packages whose tests make reports only on the way, and leave their figures empty. ``tests/reporting`` draws them."""


@pytest.fixture(scope="module", autouse=True)
def _figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave the figures of these packages empty; session fixtures draw theirs."""
    if request.path.relative_to(Path(__file__).parent).parts[0] not in UNDRAWN:
        yield
        return
    from tests.support.figures import undrawn

    with undrawn():
        yield


@pytest.fixture
def drawn_figures() -> Iterator[None]:
    """Draw figures in a test about them, outside ``tests/reporting``."""
    from tests.support.figures import drawn

    with drawn():
        yield


@pytest.fixture(scope="session")
def phantom_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 synthetic people of two classes, four slices of 32 x 32 each, in a folder a class."""
    from gyrus.synthetic.phantom import generate
    from gyrus.synthetic.phantom_layouts import write

    phantom = generate(subjects=24, slices=4, classes=2, size=32, seed=0)
    return write(phantom, tmp_path_factory.mktemp("data") / "phantom")


SMALL = {
    "preprocessing.steps.1.size": [32, 32],
    "training.epochs": 2,
    "training.device": "cpu",
    "evaluation.resamples": 50,
}
"""Overrides that fit the first recipe to the small phantom, and compute on the CPU also where there is a GPU."""


@pytest.fixture(scope="session")
def finished_run(phantom_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished training on the small phantom; not to be written into."""
    from gyrus.workflows.train import train
    from tests.support.figures import drawn

    out = tmp_path_factory.mktemp("runs") / "run"
    with drawn():
        return train("dementia-baseline", data=phantom_folder, out=out, overrides=SMALL).folder


@pytest.fixture(scope="session")
def exported(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of the small run, in both formats; not to be written into."""
    from tests.support.command_line import succeeded

    out = tmp_path_factory.mktemp("bundles") / "bundle"
    text = succeeded("export", finished_run, "--out", out, "--format", "onnx,openvino", "--licence", "CC0-1.0", "-q")
    assert "Compared from the raw files of 16 test samples" in text
    return out
