"""Batches in the order of the epoch: shuffled or balanced, within the training set only, and by worker processes."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.scan import scan
from gyrus.datasets.splits import Split, SplitConfig, split
from gyrus.datasets.store import Store
from gyrus.datasets.torch_dataset import Batch, PixelDataset
from gyrus.errors import ConfigError, DataError
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.training.data_loader import SAMPLERS, Loader, _AsStored, ahead, balanced, batches, check_main_guard, shuffle
from gyrus.transforms.augmentation.config import AugmentationConfig
from gyrus.transforms.normalisation import Normalisation
from gyrus.workflows.experiment_config import load_config
from gyrus.workflows.train import train
from tests.conftest import SMALL
from tests.support.toy import ToyDataset


@pytest.fixture(params=[0, 2], ids=["in this process", "by workers"])
def loader(request) -> Loader:
    return Loader(ToyDataset(10, seed=1), lambda epoch: [[epoch, 3, 1], [5, 4]], workers=request.param)


def test_gives_whole_batches_in_order(loader):
    loader.epoch = 7
    batches = list(loader)
    assert len(loader) == len(batches) == 2
    assert [batch.positions.tolist() for batch in batches] == [[7, 3, 1], [5, 4]]
    subset = ToyDataset(10, seed=1)
    assert torch.equal(batches[0].images, subset.images[[7, 3, 1]])
    assert batches[1].targets.tolist() == subset.targets[[5, 4]].tolist()


class FakeStream:
    """A CUDA stream and its events: what was asked of them, in a list."""

    def __init__(self, name: str, asked: list[str]) -> None:
        self.name, self.asked, self.events = name, asked, 0

    def __enter__(self) -> None:
        self.asked.append(f"begin {self.name}")

    def __exit__(self, *_: object) -> None:
        self.asked.append(f"end {self.name}")

    def record_event(self) -> SimpleNamespace:
        name = f"{self.name} {self.events}"
        self.events += 1
        return SimpleNamespace(name=name, synchronize=lambda: self.asked.append(f"CPU waits for {name}"))

    def wait_event(self, event: SimpleNamespace) -> None:
        self.asked.append(f"{self.name} wait for {event.name}")


def test_batches_are_prepared_one_ahead_on_a_stream_of_their_own(monkeypatch):
    """Without a GPU, by the order of what is asked of CUDA."""
    asked: list[str] = []
    steps, road = FakeStream("steps", asked), FakeStream("road", asked)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: road)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: steps)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)

    def stored(number: int) -> SimpleNamespace:
        tensor = SimpleNamespace(record_stream=lambda stream: asked.append(f"{number} is used by {stream.name}"))
        return SimpleNamespace(on=lambda _: asked.append(f"prepare {number}") or [tensor])

    for number, _ in enumerate(ahead((stored(number) for number in range(4)), torch.device("cuda"))):
        asked.append(f"step {number}")
    for number in range(4):
        prepared = asked.index(f"prepare {number}")
        assert asked[prepared - 1] == "begin road"
        assert prepared < asked.index(f"steps wait for road {number}") < asked.index(f"{number} is used by steps")
        assert asked.index(f"{number} is used by steps") < asked.index(f"step {number}")
    # Batch 2 is not requested before batch 1 is, so that memory holds no more than two that wait.
    assert asked.index("step 0") < asked.index("prepare 2")
    assert [what for what in asked if "CPU" in what] == ["CPU waits for steps 0", "CPU waits for steps 1"]


def test_an_error_while_a_batch_is_prepared_reaches_the_training(monkeypatch):
    asked: list[str] = []
    stream = FakeStream("road", asked)
    monkeypatch.setattr(torch.cuda, "Stream", lambda _: stream)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: stream)

    def broken():
        yield SimpleNamespace(on=lambda _: [])
        raise DataError("image 2 cannot be read")

    prepared = ahead(broken(), torch.device("cuda"))
    next(prepared)
    with pytest.raises(DataError, match="image 2"):
        next(prepared)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_gpu_gets_the_same_batches(workers):
    subset, order = ToyDataset(40, seed=1), [list(range(start, start + 4)) for start in range(0, 40, 4)]
    batches = list(Loader(subset, lambda _: order, workers=workers, device=torch.device("cuda")))
    assert all(tensor.is_cuda for batch in batches for tensor in batch)
    for batch, expected in zip(batches, Loader(subset, lambda _: order), strict=True):
        assert all(torch.equal(one.cpu(), other) for one, other in zip(batch, expected, strict=True))


def test_workers_for_a_gpu_send_batches_as_they_are_stored(tmp_path):
    np.save(
        tmp_path / "pixels.npy", np.arange(10, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 1, 4, 4), np.uint8)
    )
    np.save(tmp_path / "statistics.npy", np.zeros((10, 1, 4), np.float32))
    subset = PixelDataset(Store(tmp_path), np.arange(10), np.arange(10), Normalisation("fixed", (0.0,), (1 / 255,)))
    [batch] = Loader(subset, lambda _: [[4, 2]], workers=1)._worker_batches(_AsStored(subset), [[4, 2]])
    assert batch.pixels.dtype == torch.uint8
    assert batch.on(torch.device("cpu")).images[:, 0, 0, 0].tolist() == [4, 2]


def test_draws_nothing_from_the_global_generator(loader):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_epoch_may_be_set_until_the_first_batch():
    subset = ToyDataset(10, seed=1)
    loader = Loader(subset, lambda epoch: [[epoch]])
    iterator = iter(loader)
    loader.epoch = 4
    assert next(iterator).positions.tolist() == [4]
    assert subset.epochs == [4]


@pytest.mark.parametrize(
    ("code", "workers", "method", "refused"),
    [
        ("import gyrus\n", 2, "spawn", True),
        ("import gyrus\n", 2, "forkserver", True),
        ("import gyrus\n", 2, "fork", False),
        ("import gyrus\n", 0, "spawn", False),
        ('import gyrus\nif __name__ == "__main__":\n    pass\n', 2, "spawn", False),
    ],
)
def test_scripts_that_workers_would_run_again_are_refused(tmp_path, monkeypatch, code, workers, method, refused):
    script = tmp_path / "script.py"
    script.write_text(code)
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__file__=str(script)))
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda **_: method)
    if refused:
        with pytest.raises(ConfigError, match=r'script\.py has no main guard.*if __name__ == "__main__".*workers to 0'):
            check_main_guard(workers)
    else:
        check_main_guard(workers)


def test_interactive_sessions_have_no_script_to_check(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace())
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda **_: "spawn")
    check_main_guard(2)


RARE = np.repeat([0, 1, 2], [900, 90, 10])


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_order_follows_from_seed_and_epoch_alone(sampler):
    order = sampler(RARE, 1, 5)
    np.random.seed(0)
    assert np.array_equal(sampler(RARE, 1, 5), order)
    assert not np.array_equal(sampler(RARE, 1, 6), order)
    assert not np.array_equal(sampler(RARE, 2, 5), order)
    assert len(order) == len(RARE)


@given(st.integers(1, 200), st.integers(0, 2**40), st.integers(0, 100))
def test_shuffle_has_every_image_once(count, seed, epoch):
    assert sorted(shuffle(np.zeros(count, dtype=np.int64), seed, epoch)) == list(range(count))


def test_balanced_draws_all_classes_equally_often():
    drawn = np.concatenate([RARE[balanced(RARE, 0, epoch)] for epoch in range(30)])
    fractions = np.bincount(drawn) / len(drawn)
    # 30,000 draws: the standard deviation of a fraction is 0.0027.
    np.testing.assert_allclose(fractions, 1 / 3, atol=5 * 0.0027)


def test_balanced_allows_an_absent_class():
    assert set(balanced(np.array([0, 3, 3]), 0, 0)) <= {0, 1, 2}


@given(st.integers(1, 300), st.integers(1, 40))
def test_batches_keep_the_order_and_leave_no_single_image(count, size):
    order = np.random.default_rng(count).permutation(count)
    subsets = batches(order, size)
    assert np.array_equal(np.concatenate(subsets), order)
    assert all(len(subset) == size for subset in subsets[:-1]) or len(subsets) == 1 or len(subsets[-1]) == size + 1
    assert size == 1 or count == 1 or min(len(subset) for subset in subsets) > 1
    assert max(len(subset) for subset in subsets) <= size + 1


PAGE = Path(__file__).parents[2] / "docs" / "preparation.md"
BALANCING = next(block for block in PAGE.read_text(encoding="utf-8").split("```yaml\n")[1:] if "sampler" in block)
BALANCING = BALANCING.split("```")[0]


@pytest.fixture(scope="module")
def rare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 phantom subjects, few of them of the second class."""
    phantom = generate(subjects=30, slices=3, classes=2, size=32, seed=0, balance=[4, 1])
    return write(phantom, tmp_path_factory.mktemp("rare") / "data")


def test_only_images_of_the_training_set_are_sampled_and_augmented(
    rare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "balanced.yaml"
    recipe = load_config("dementia-baseline").model_dump(mode="json")
    asked = yaml.safe_load(BALANCING)
    recipe["training"]["sampler"] = asked["training"]["sampler"]
    config.write_text(yaml.safe_dump({**recipe, "augmentation": asked["augmentation"]}))
    altered: list[int] = []
    plain: list[int] = []
    read = PixelDataset.__getitems__

    def watched(self: PixelDataset, positions: list[int]) -> Batch:
        rows = self.rows[np.asarray(positions) % len(self)].tolist()
        (altered if self.augmentation.steps else plain).extend(rows)
        return read(self, positions)

    monkeypatch.setattr(PixelDataset, "__getitems__", watched)
    before = set(rare.rglob("*"))
    run = train(
        config,
        data=rare,
        out=tmp_path / "run",
        overrides={**SMALL, "training.epochs": 3, "evaluation.unlike_training": False},
    )
    manifest, subsets = Manifest.load(run.manifest), Split.load(run.split)
    samples, subjects = manifest.table["sample"], manifest.table["subject"]
    assert {samples[row] for row in altered} <= set(subsets.samples["train"])
    assert {subjects[row] for row in altered}.isdisjoint(subjects[samples.isin(subsets.samples["test"])])
    assert {samples[row] for row in plain} <= set(subsets.samples["val"]) | set(subsets.samples["test"])
    counts = np.bincount(manifest.targets.to_numpy()[altered])
    assert counts[1] / counts.sum() > 0.35
    assert set(rare.rglob("*")) == before
    assert not [path for path in run.folder.rglob("*.png") if "figures" not in path.parts]


@settings(max_examples=25)
@given(count=st.integers(8, 30), images=st.integers(1, 4), seed=st.integers(0, 50), epoch=st.integers(0, 9))
def test_a_balanced_order_stays_within_its_subset(
    count: int, images: int, seed: int, epoch: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each image has its own gray value, so that a batch can be traced back to it."""
    generator = np.random.default_rng(seed)
    row_subject = np.repeat(np.arange(count), images)
    targets = (row_subject % 4 == 0).astype(np.int64)
    train_subjects = generator.permutation(count)[: count // 2]
    rows = np.flatnonzero(np.isin(row_subject, train_subjects))
    folder = tmp_path_factory.mktemp("store")
    values = np.arange(len(row_subject), dtype=np.uint8)[:, None, None, None] + np.zeros((1, 1, 4, 4), np.uint8)
    np.save(folder / "pixels.npy", values)
    np.save(folder / "statistics.npy", np.zeros((len(values), 1, 4), np.float32))
    subset = PixelDataset(
        Store(folder),
        rows,
        targets[rows],
        Normalisation("fixed", (0.0,), (1 / 255,)),
        augmentation=AugmentationConfig.model_validate({"steps": [{"step": "flip"}]}),
        seed=seed,
    )
    loader = Loader(subset, lambda number: batches(balanced(subset.targets, seed, number), 5))
    loader.epoch = epoch
    seen = np.concatenate([batch.images.numpy()[:, 0, 0, 0] for batch in loader])
    assert set(np.rint(seen).astype(int).tolist()) <= set(rows.tolist())


@pytest.mark.parametrize("layout", ["folder", "id-slice"])
def test_copies_written_by_other_tools_stay_in_the_subset_of_their_subject(layout: str, tmp_path: Path) -> None:
    """Copies are named after their source; a split by subject keeps both together."""
    data = write(generate(subjects=20, slices=2, classes=2, size=32, seed=0), tmp_path / "data", layout)
    for path in sorted(data.rglob("*")):
        if path.is_file():
            stem, _, number = path.stem.rpartition("_")
            name = f"{path.stem}_aug_0.png" if layout == "folder" else f"{stem}_{number}00.png"
            Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path.with_name(name))
    manifest = scan(data, subject_rule="id-slice" if layout == "id-slice" else None)
    subsets = split(manifest, SplitConfig(), seed=3)
    subset_of = {sample: subset for subset, samples in subsets.samples.items() for sample in samples}
    table = manifest.table.assign(subset=[subset_of[sample] for sample in manifest.table["sample"]])
    assert len(table) == 2 * 20 * 2
    assert table.groupby("subject")["subset"].nunique().eq(1).all()
    assert table.groupby("subject").size().eq(4).all()
