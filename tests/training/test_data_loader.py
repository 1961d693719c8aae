from __future__ import annotations

import multiprocessing
import sys
from types import SimpleNamespace

import pytest
import torch

from gyrus.errors import ConfigError
from gyrus.training.data_loader import Loader, check_main_guard
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
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: method)
    if refused:
        with pytest.raises(ConfigError, match=r'script\.py has no main guard.*if __name__ == "__main__".*workers to 0'):
            check_main_guard(workers)
    else:
        check_main_guard(workers)


def test_interactive_sessions_have_no_script_to_check(monkeypatch):
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace())
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda: "spawn")
    check_main_guard(2)
