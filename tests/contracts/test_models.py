"""What every model of the zoo promises, in two and three dimensions."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from gyrus.errors import ConfigError, DataError
from gyrus.models.build import build
from gyrus.models.classifier import Classifier
from gyrus.models.config import ModelConfig
from gyrus.models.model_table import MODELS

SIZES = {2: (32, 48), 3: (16, 16, 24)}
DEEP_SIZES = {2: (32, 64), 3: (32, 32, 64)}
"""For networks that halve their input five times."""

# the presets of a family differ by widths and depths alone, which are cut so that the suite stays quick; the exact
# forms are counted in tests/models/test_parameter_counts.py
SHRUNK: dict[str, dict[str, Any]] = {
    "convnext": {"depths": (1, 2), "dims": (8, 12), "kernel": 3},
    "resnet": {"depth": 10, "width": 4},
    "densenet": {"growth": 4, "width": 8},
    "study-cnn": {"channels": ((2, 3, 4), (3, 4, 5)), "hidden": 8},
    "keras-like-cnn": {"channels": (4, 4, 6, 6, 8)},
    "gpt-cnn": {"channels": (4, 6, 8)},
    "neuroflux-cnn": {"channels": (4, 6, 8, 10)},
}
LARGE = {name for name in MODELS if name.startswith("timm:")} - {"timm:mobilenetv2_035", "timm:resnet18"}

CASES = [
    pytest.param(name, dims, marks=[pytest.mark.slow] if name in LARGE else [])
    for name, spec in MODELS.items()
    for dims in spec.dims
]
every_model = pytest.mark.parametrize(("name", "dims"), CASES)


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small only lose by being shared out between threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make(name: str, dims: int, *, in_channels: int = 2, num_classes: int = 3) -> Classifier:
    family = "convnext" if name.startswith("convnext") else name
    config = ModelConfig(name=name, options=SHRUNK.get(family, {}))
    deep = name in {"resnet", "densenet", "keras-like-cnn"} or name.startswith("timm:")
    size = (DEEP_SIZES if deep else SIZES)[dims]
    torch.manual_seed(0)
    return build(config, in_channels=in_channels, num_classes=num_classes, image_size=size)


def images(model: Classifier, batch: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, model.in_channels, *model.signature.image_size, generator=generator)


@every_model
def test_every_call_of_the_contract(name: str, dims: int) -> None:
    model = make(name, dims).eval()
    batch = images(model)
    with torch.no_grad():
        features = model.forward_features(batch)
        logits = model(batch)
        embedding = model.embedding(batch)
    assert features.ndim == dims + 2
    assert features.shape[:2] == (3, model.backbone.num_channels)
    assert logits.shape == (3, 3)
    assert embedding.shape == (3, model.head.classify.in_features)
    torch.testing.assert_close(model.forward_head(features), logits)
    torch.testing.assert_close(model.head.classify(embedding), logits)
    model.get_submodule(model.explain_layer())

    single = torch.cat([model(image[None]) for image in batch])
    torch.testing.assert_close(single, logits, rtol=1e-4, atol=1e-5)

    with pytest.raises(DataError, match=r"shape \(batch, 2, "):
        model(batch[:, :1])
    with pytest.raises(DataError, match=r"shape \(batch, 2, "):
        model(batch[0])
    with pytest.raises(DataError, match="size"):
        model(batch[..., :1])


@every_model
def test_backward_reaches_every_parameter_and_stages_hold_them_all(name: str, dims: int) -> None:
    model = make(name, dims).train()
    model(images(model)).square().sum().backward()
    unreached = [
        key for key, value in model.named_parameters() if value.grad is None or not value.grad.isfinite().all()
    ]
    assert unreached == []

    assert len(model.stages()) >= 2
    held = [id(value) for part in (*model.stages(), model.head) for value in part.parameters()]
    assert len(held) == len(set(held))
    assert set(held) == {id(value) for value in model.parameters()}
    assert all(list(stage.parameters()) for stage in model.stages())


@every_model
def test_state_dict_carries_the_model_and_the_seed_decides_the_start(name: str, dims: int) -> None:
    model, again = make(name, dims).eval(), make(name, dims).eval()
    batch = images(model, 1)
    expected = model(batch)
    torch.testing.assert_close(again(batch), expected, rtol=0, atol=0)
    for value in again.parameters():
        torch.nn.init.zeros_(value.data)
    assert not torch.equal(again(batch), expected)
    again.load_state_dict(copy.deepcopy(model.state_dict()))
    torch.testing.assert_close(again(batch), expected, rtol=0, atol=0)


@every_model
def test_reset_head_changes_the_last_layer_only(name: str, dims: int) -> None:
    model = make(name, dims).eval()
    batch = images(model, 1)
    embedding = model.embedding(batch)
    model.reset_head(5)
    assert model.num_classes == 5
    assert model(batch).shape == (1, 5)
    torch.testing.assert_close(model.embedding(batch), embedding, rtol=0, atol=0)


@every_model
def test_images_that_are_too_small_are_refused_when_the_model_is_built(name: str, dims: int) -> None:
    with pytest.raises(ConfigError, match="at least"):
        build(ModelConfig(name=name), in_channels=1, num_classes=2, image_size=(1,) * dims)


@pytest.mark.parametrize("name", [name for name, spec in MODELS.items() if spec.dims == (2,)])
def test_models_of_one_dimension_refuse_the_other(name: str) -> None:
    with pytest.raises(ConfigError, match="takes single images"):
        build(ModelConfig(name=name), in_channels=1, num_classes=2, image_size=SIZES[3])
