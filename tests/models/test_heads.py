"""Heads: their layers, and channel attention that treats each image independently."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from gyrus.errors import ConfigError, DataError
from gyrus.models.build import build
from gyrus.models.config import ModelConfig
from gyrus.models.heads import ChannelAttention, Head, TableFusion
from gyrus.models.model_table import HEADS, HeadConfig
from gyrus.models.options import HeadOptions

CHANNELS = 24
every_head = pytest.mark.parametrize("name", HEADS)


def make(name: str, **options: object) -> Head:
    torch.manual_seed(0)
    return Head(CHANNELS, CHANNELS, 3, HeadOptions.model_validate(HeadConfig(name=name, options=options).options))


def answer(head: Head, features: Tensor) -> Tensor:
    return head.classify(head.embed(head.attend(features).flatten(2).mean(-1)))


@every_head
@pytest.mark.parametrize("spatial", [(5, 4), (3, 4, 2)])
def test_a_prediction_never_depends_on_the_rest_of_the_batch(name: str, spatial: tuple[int, ...]) -> None:
    head = make(name).eval()
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(6, CHANNELS, *spatial, generator=generator)
    together = answer(head, features)
    assert together.shape == (6, 3)
    alone = torch.cat([answer(head, sample[None]) for sample in features])
    torch.testing.assert_close(alone, together)
    torch.testing.assert_close(answer(head, features.flip(0)).flip(0), together)
    others = torch.cat([features[:1], 100 * torch.randn(5, CHANNELS, *spatial, generator=generator)])
    torch.testing.assert_close(answer(head, others)[:1], together[:1])


@every_head
def test_reset_keeps_all_but_the_last_layer(name: str) -> None:
    head = make(name).double()
    before = {key: value.clone() for key, value in head.state_dict().items()}
    head.reset(7)
    assert answer(head, torch.randn(4, CHANNELS, 2, 2, dtype=torch.double)).shape == (4, 7)
    after = head.state_dict()
    changed = {
        key for key in before if before[key].shape != after[key].shape or not torch.equal(before[key], after[key])
    }
    assert {"classify.weight", "classify.bias"} <= changed
    assert all(key.startswith("classify") or "running" in key or "tracked" in key for key in changed)


def test_attention_scales_by_the_mean_and_the_maximum_over_space() -> None:
    torch.manual_seed(0)
    attention = ChannelAttention(32, ratio=4)
    features = torch.randn(2, 32, 3, 5)
    mean, highest = features.mean((2, 3)), features.amax((2, 3))
    first, _, second = attention.shared
    hidden = [torch.relu(first(path)) @ second.weight.T + second.bias for path in (mean, highest)]
    expected = features * torch.sigmoid(hidden[0] + hidden[1])[:, :, None, None]
    torch.testing.assert_close(attention(features), expected)
    features[1] = 0
    torch.testing.assert_close(attention(features)[0], expected[0])


@pytest.mark.parametrize(
    ("channels", "expected"), [(1408, 249_304), (64, 64 * 8 + 8 + 8 * 64 + 64), (4, 4 * 4 * 2 + 8)]
)
def test_attention_has_a_sixteenth_of_the_channels_but_not_fewer_than_eight(channels: int, expected: int) -> None:
    assert sum(value.numel() for value in ChannelAttention(channels).parameters()) == expected


def test_layers_of_the_published_projects() -> None:
    def kinds(name: str) -> list[str]:
        return [type(layer).__name__ for layer in make(name).embed]

    assert kinds("dense-blocks") == ["Linear", "BatchNorm1d", "ReLU", "Dropout"] * 3
    assert kinds("mlp-norm") == ["Linear", "BatchNorm1d", "ReLU", "Dropout"]
    assert kinds("dropout-mlp") == ["Dropout", "Linear", "ReLU", "Dropout"]
    assert [layer.p for layer in make("dense-blocks").embed if isinstance(layer, nn.Dropout)] == [0.4, 0.3, 0.2]


def test_initial_width_holds_for_every_linear_layer_and_after_a_reset() -> None:
    torch.manual_seed(0)
    head = Head(400, 400, 300, HeadOptions(hidden=(300,), initial_std=0.02))
    head.reset(200)
    for layer in (head.embed[0], head.classify):
        assert layer.weight.std().item() == pytest.approx(0.0176, rel=0.15)
        assert layer.bias.abs().max() == 0


def test_one_value_per_dense_layer() -> None:
    with pytest.raises(ConfigError, match=r"`dropout` must be one value or 3 values, got 2"):
        make("dense-blocks", dropout=[0.1, 0.2])


@every_head
def test_a_head_of_numbers_begins_at_the_mean_of_the_training_set_in_its_unit(name: str) -> None:
    head = make(name).eval()
    head.predict_number(1, 60.0, 12.0)
    with torch.no_grad():
        head.classify.weight.zero_()
        features = torch.randn(4, CHANNELS, 5, 4)
        assert answer(head, features).tolist() == [[60.0]] * 4
        head.classify.bias.fill_(1.0)
        with torch.autocast("cpu", torch.bfloat16):  # whose three digits would round years
            assert answer(head, features).tolist() == [[72.0]] * 4
    assert {"classify.mean", "classify.scale"} <= set(head.state_dict())


def test_the_last_layer_of_numbers_has_the_initial_weights_of_the_options() -> None:
    head = make("dropout-linear", initial_std=0.0001)
    head.predict_number(1, 60.0, 12.0)
    assert head.classify.weight.abs().max() < 0.001


def test_the_table_is_appended_or_scales_and_shifts_the_features():
    pooled, table = torch.randn(5, 7), torch.randn(5, 3)
    appended = TableFusion("concat", 3, 7)
    torch.testing.assert_close(appended(pooled, table), torch.cat([pooled, table], 1))
    film = TableFusion("film", 3, 7)
    torch.testing.assert_close(film(pooled, table), pooled)  # the identity before training
    nn.init.normal_(film.modulate.weight)
    nn.init.normal_(film.modulate.bias)
    weight, bias = film.modulate.weight, film.modulate.bias
    scale, shift = table @ weight[:7].T + bias[:7], table @ weight[7:].T + bias[7:]
    torch.testing.assert_close(film(pooled, table), pooled * (1 + scale) + shift)


@pytest.mark.parametrize("kind", ["concat", "film"])
@pytest.mark.parametrize("name", ["baseline-cnn", "resnet"])
def test_a_network_takes_the_table_as_further_channels(kind, name):
    torch.manual_seed(0)
    config = ModelConfig(name=name, fusion=kind)
    model = build(config, in_channels=1, num_classes=2, image_size=(32, 32), table_features=3).eval()
    planes = torch.randn(2, 3, 1, 1).expand(-1, -1, 32, 32)
    images = torch.cat([torch.randn(2, 1, 32, 32), planes], 1)
    logits = model(images)
    torch.testing.assert_close(model.forward_head(model.forward_features(images)), logits)
    logits[:, 0].sum().backward()
    if kind == "film":
        assert model.head.fusion.modulate.weight.grad.abs().sum() > 0
    other = images.clone()
    other[:, 1:] += 1
    assert torch.equal(model(other), logits) == (kind == "film")  # film starts as the identity
    with pytest.raises(DataError, match=r"shape \(batch, 4, rows, columns\)"):
        model(images[:, :1])
