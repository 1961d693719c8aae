from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch import nn

from gyrus.models.build import build
from gyrus.training import cuda_graph
from gyrus.training.cuda_graph import GraphedNetwork
from gyrus.workflows.experiment_config import load_config
from tests.support.toy_training import changed, rows, train

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.LazyLinear(3))


@pytest.fixture
def network() -> nn.Module:
    made = small_network().train()
    made(torch.rand(2, 1, 8, 8))
    return made


@pytest.fixture
def recordings(monkeypatch) -> list[tuple[int, ...]]:
    """Stands for CUDA: the sizes of the batches that are recorded; a recorded pass returns its logits plus 100."""
    sizes: list[tuple[int, ...]] = []

    def make(shell, examples, **_):
        [images] = examples
        for _ in range(3):
            shell(images)
        sizes.append(tuple(images.shape))
        return lambda images: shell(images) + 100

    @contextmanager
    def fork_rng(_):
        state = torch.get_rng_state()
        yield
        torch.set_rng_state(state)

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (900, 1000))
    monkeypatch.setattr(torch.random, "fork_rng", fork_rng)
    monkeypatch.setattr(cuda_graph, "_free_memory", lambda _: 900)
    return sizes


def test_batches_of_the_recorded_size_take_the_recorded_passes(network, recordings):
    graphed, images = GraphedNetwork(network, network), torch.rand(4, 1, 8, 8)
    assert graphed(images).max() < 50  # nothing is recorded yet
    assert graphed.record(lambda: images) == "The passes of the network are recorded as CUDA graphs."
    assert graphed(images).min() > 50
    assert graphed(images[:3]).max() < 50
    assert graphed(images.to(memory_format=torch.channels_last).transpose(2, 3)).max() < 50
    network.eval()
    assert graphed(images).max() < 50
    assert recordings == [(4, 1, 8, 8)]


def test_recording_changes_neither_statistics_nor_random_numbers(network, recordings):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random_state = torch.get_rng_state()
    GraphedNetwork(network, network).record(lambda: torch.rand(4, 1, 8, 8, generator=torch.Generator()))
    assert recordings
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_passes_are_recorded_again_when_weights_were_frozen(network, recordings):
    graphed, images = GraphedNetwork(network, network), torch.rand(4, 1, 8, 8)
    graphed.record(lambda: images)
    assert graphed.record(lambda: images) == ""
    network[0].requires_grad_(False)
    assert graphed(images).max() < 50
    assert graphed.record(lambda: images) == ""
    assert len(recordings) == 2
    assert graphed(images).min() > 50


@pytest.mark.usefixtures("recordings")
def test_what_cannot_be_recorded_takes_the_usual_way(network, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fail)
    graphed, images = GraphedNetwork(network, network), torch.rand(4, 1, 8, 8)
    said = graphed.record(lambda: images)
    assert said.endswith("not recorded as CUDA graphs: operation not permitted when stream is capturing")
    assert graphed.record(lambda: images) == ""
    assert graphed(images).max() < 50


@pytest.mark.usefixtures("recordings")
def test_a_recording_takes_at_most_a_quarter_of_the_memory(network, monkeypatch):
    free = iter([900, 649, 900])
    monkeypatch.setattr(cuda_graph, "_free_memory", lambda _: next(free))
    graphed, images = GraphedNetwork(network, network), torch.rand(4, 1, 8, 8)
    assert "more than 25% of the memory" in graphed.record(lambda: images)
    assert graphed(images).max() < 50
    free = iter([900, 650])
    assert "are recorded" in GraphedNetwork(network, network).record(lambda: images)


@NO_GPU
@pytest.mark.parametrize("recipe", ["dementia-baseline", "dementia-exp0", "oasis-heads-cnn"])
def test_recorded_passes_give_the_same_logits_and_gradients(recipe):
    config = load_config(recipe)
    size = (32, 32, 32) if "heads" in recipe else (64, 64)
    torch.manual_seed(0)
    model = build(
        config.model.model_copy(update={"pretrained": False}),
        in_channels=3,
        num_classes=3,
        image_size=size,
        with_pretrained=False,
    )
    model.cuda().train()
    batches = [torch.rand(4, 3, *size, device="cuda") for _ in range(3)]
    start = {name: value.clone() for name, value in model.state_dict().items()}

    def passes(network) -> list[torch.Tensor]:
        model.load_state_dict(start)
        torch.manual_seed(1)
        found = []
        for images in batches:
            model.zero_grad()
            logits = network(images)
            logits.square().mean().backward()
            found += [logits.detach().clone(), *(parameter.grad.clone() for parameter in model.parameters())]
        return [*found, *(buffer.clone() for buffer in model.buffers())]

    graphed = GraphedNetwork(model, model)
    with torch.backends.cudnn.flags(deterministic=True):
        usual = passes(model)
        assert "are recorded" in graphed.record(lambda: batches[0])
        recorded = passes(graphed)
    for one, other in zip(usual, recorded, strict=True):
        torch.testing.assert_close(one, other)


@NO_GPU
def test_a_training_with_recorded_passes_is_the_same(tmp_path):
    """Batches of 8 and a last one of 4; batch norm and dropout."""
    config = changed(device="cuda", deterministic=True)
    train(tmp_path / "usual", changed(config, cuda_graphs=False))
    train(tmp_path / "recorded", config)
    for one, other in zip(rows(tmp_path / "usual"), rows(tmp_path / "recorded"), strict=True):
        assert {key: float(value) for key, value in one.items()} == pytest.approx(
            {key: float(value) for key, value in other.items()}, rel=1e-3
        )
