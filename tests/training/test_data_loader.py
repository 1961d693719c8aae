from __future__ import annotations

import pytest
import torch

from gyrus.training.data_loader import Loader
from tests.support.toy import MemoryPart


@pytest.fixture(params=[0, 2], ids=["in this process", "by workers"])
def loader(request) -> Loader:
    return Loader(MemoryPart(10, seed=1), lambda epoch: [[epoch, 3, 1], [5, 4]], workers=request.param)


def test_gives_whole_batches_in_order(loader):
    loader.epoch = 7
    batches = list(loader)
    assert len(loader) == len(batches) == 2
    assert [batch.positions.tolist() for batch in batches] == [[7, 3, 1], [5, 4]]
    subset = MemoryPart(10, seed=1)
    assert torch.equal(batches[0].images, subset.images[[7, 3, 1]])
    assert batches[1].targets.tolist() == subset.targets[[5, 4]].tolist()


def test_draws_nothing_from_the_global_generator(loader):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_epoch_may_be_set_until_the_first_batch():
    subset = MemoryPart(10, seed=1)
    loader = Loader(subset, lambda epoch: [[epoch]])
    iterator = iter(loader)
    loader.epoch = 4
    assert next(iterator).positions.tolist() == [4]
    assert subset.epochs == [4]
