"""Pretrained weights: from files and from a stand-in for the hub; weights that do not fit are refused with a reason."""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from gyrus.errors import WeightsError
from gyrus.models.build import build
from gyrus.models.classifier import Classifier
from gyrus.models.config import ModelConfig
from gyrus.models.pretrained_weights import HubWeights, adapt_stem, download, fit_weights, inflate, read_weights


def make(name: str, *, channels: int = 3, size: tuple[int, ...] = (32, 32), seed: int = 0, **config: Any) -> Classifier:
    torch.manual_seed(seed)
    return build(ModelConfig(name=name, **config), in_channels=channels, num_classes=2, image_size=size)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def imagenet(shared_data: Path) -> Path:
    return shared_data / "weights" / "timm_mobilenetv2_035_in1k_backbone_half.pth"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Weights of a small baseline CNN for three channels."""
    path = tmp_path / "weights.safetensors"
    state = make("baseline-cnn-deep", seed=1).state_dict()
    save_file(state, path, metadata={"license": "cc-by-4.0"})
    return path


def test_real_imagenet_weights(imagenet: Path) -> None:
    classifier = make("timm:mobilenetv2_035", pretrained=str(imagenet))
    weights = torch.load(imagenet, weights_only=True)
    for name, value in classifier.backbone.pretrained_part().state_dict().items():
        assert torch.equal(value, weights[name].to(value.dtype))
    record = classifier.pretrained
    assert record is not None
    assert record.source == str(imagenet)
    assert record.digest == hashlib.sha256(imagenet.read_bytes()).hexdigest()
    assert (record.licence, record.changes, record.left_out) == ("not stated", (), ())


def test_real_imagenet_weights_respond_to_a_gray_image_as_to_its_colour_copy(imagenet: Path) -> None:
    colour = make("timm:mobilenetv2_035", pretrained=str(imagenet)).eval()
    gray = make("timm:mobilenetv2_035", channels=1, pretrained=str(imagenet)).eval()
    image = random(2, 1, 64, 64)
    torch.testing.assert_close(
        gray.forward_features(image), colour.forward_features(image.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-3
    )
    assert gray.pretrained is not None
    assert gray.pretrained.changes == ("stem: 3 to 1 channels by sum",)


def test_pretrained_features_are_more_informative_than_random_ones(imagenet: Path, shared_data: Path) -> None:
    """With pretrained weights, the nearest slice is more often one of the same subject."""
    import pandas as pd
    from PIL import Image

    folder = shared_data / "oasis-slices"
    table = pd.read_csv(folder / "labels.csv").sort_values(["subject", "slice"])
    table = table.groupby("subject").nth([10, 11]).groupby("subject").head(2).head(60)
    pixels = [
        torch.frombuffer(bytearray(Image.open(folder / path).tobytes()), dtype=torch.uint8) for path in table["path"]
    ]
    images = torch.stack(pixels).reshape(-1, 1, 128, 128).float() / 255
    found = []
    for pretrained in (False, str(imagenet)):
        classifier = make("timm:mobilenetv2_035", channels=1, size=(128, 128), pretrained=pretrained).eval()
        with torch.no_grad():
            vectors = classifier.embedding(images)
        distances = torch.cdist(vectors, vectors).fill_diagonal_(float("inf"))
        subjects = table["subject"].to_numpy()
        found.append((subjects[distances.argmin(1)] == subjects).mean())
    assert found[1] > found[0]


def test_own_weights_are_loaded_without_their_head(saved: Path) -> None:
    classifier = make("baseline-cnn-deep", pretrained=str(saved))
    source = make("baseline-cnn-deep", seed=1)
    for name, value in classifier.backbone.state_dict().items():
        assert torch.equal(value, source.backbone.state_dict()[name])
    assert classifier.pretrained is not None
    assert classifier.pretrained.licence == "cc-by-4.0"
    assert set(classifier.pretrained.left_out) == {f"head.{name}" for name in source.head.state_dict()}
    assert not torch.equal(classifier.head.classify.weight, source.head.classify.weight)


def test_weights_are_not_loaded_if_a_checkpoint_follows() -> None:
    config = ModelConfig(name="baseline-cnn", pretrained="/nowhere.pth")
    classifier = build(config, in_channels=1, num_classes=2, image_size=(16, 16), with_pretrained=False)
    assert classifier.pretrained is None


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.network."])
def test_wrapped_and_prefixed_weights(tmp_path: Path, wrapper: str | None, prefix: str) -> None:
    part = make("timm:resnet18", seed=1).backbone.pretrained_part()
    state: Any = {prefix + name: value for name, value in part.state_dict().items()}
    state[prefix + "fc.weight"] = torch.zeros(1000, 512)
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "weights.pth")
    classifier = make("timm:resnet18", pretrained=str(tmp_path / "weights.pth"))
    loaded = classifier.backbone.pretrained_part().state_dict()
    assert all(torch.equal(value, part.state_dict()[name]) for name, value in loaded.items())
    assert classifier.pretrained is not None
    assert classifier.pretrained.left_out == ("fc.weight",)


class _Code:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (eval, ("open('executed', 'w')",))


def test_code_in_a_file_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(2), "evil": _Code()}, "weights.pth")
    with pytest.raises(WeightsError, match="never runs code"):
        read_weights(Path("weights.pth"))
    Path("plain.pkl").write_bytes(pickle.dumps(_Code(), protocol=2))
    with pytest.raises(WeightsError):
        read_weights(Path("plain.pkl"))
    assert not Path("executed").exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pth"])
@pytest.mark.parametrize("content", [b"", b"no weights", b"\x80\x02}q\x00."])
def test_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name):
        read_weights(tmp_path / name)


def test_truncated_files(tmp_path: Path, saved: Path) -> None:
    for name in ("short.safetensors", "short.pth"):
        torch.save({"weight": torch.zeros(100)}, tmp_path / "whole.pth")
        whole = saved if name.endswith("safetensors") else tmp_path / "whole.pth"
        (tmp_path / name).write_bytes(whole.read_bytes()[:-100])
        with pytest.raises(WeightsError, match=name):
            read_weights(tmp_path / name)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(WeightsError, match=r"no weights file at /nowhere/w\.pth"):
        make("baseline-cnn", pretrained="/nowhere/w.pth")


def test_weights_of_another_architecture_are_refused(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"units\.0\.0\.weight is \(32, 3, 3, 3\) in the file, \(16, 3, 3, 3\)"):
        make("baseline-cnn-deep", options={"channels": [16, 64, 128]}, pretrained=str(saved))
    with pytest.raises(WeightsError, match=r"units\.3\.0\.weight is missing.*and 1 more"):
        make("baseline-cnn-deep", options={"channels": [32, 64, 128, 256]}, pretrained=str(saved))
    with pytest.raises(WeightsError, match=r"units\.2\.0\.weight is not in the model"):
        make("baseline-cnn-deep", options={"channels": [32, 64]}, pretrained=str(saved))
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="is missing"):
        make("baseline-cnn-deep", pretrained=str(tmp_path / "other.safetensors"))


def test_nothing_is_loaded_when_something_does_not_fit() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 3))
    before = network[0].weight.clone()
    with pytest.raises(WeightsError):
        fit_weights({"0.weight": torch.ones(2, 2), "0.bias": torch.ones(2)}, network)
    assert torch.equal(network[0].weight, before)


@pytest.mark.parametrize("depth", [1, 3, 5])
def test_an_inflated_kernel_responds_to_identical_slices_as_the_2d_kernel(depth: int) -> None:
    kernel, image = random(4, 3, 3, 3), random(1, 3, 9, 9)
    stack = image[:, :, None].expand(-1, -1, depth, -1, -1)
    expected = nn.functional.conv2d(image, kernel)
    answer = nn.functional.conv3d(stack, inflate(kernel, depth))
    torch.testing.assert_close(answer[:, :, 0], expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_stem_keeps_the_strength_of_an_even_image(channels: int) -> None:
    kernel = random(5, 3, 3, 3).abs()
    even = nn.functional.conv2d(torch.ones(1, 3, 5, 5), kernel)
    answer = nn.functional.conv2d(torch.ones(1, channels, 5, 5), adapt_stem(kernel, channels, "sum"))
    if channels in (1, 3, 6):  # other numbers of channels cannot take equal turns
        torch.testing.assert_close(answer, even)
    mean = nn.functional.conv2d(torch.ones(1, channels, 5, 5), adapt_stem(kernel, channels, "mean"))
    torch.testing.assert_close(mean, even * channels / 3)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_stem_by_sum_is_the_rule_of_timm(channels: int) -> None:
    manipulate = pytest.importorskip("timm.models._manipulate")
    kernel = random(5, 3, 3, 3)
    torch.testing.assert_close(adapt_stem(kernel, channels, "sum"), manipulate.adapt_input_conv(channels, kernel))


class _Hub(BaseHTTPRequestHandler):
    """Answers as the Hugging Face hub does for one repository with one file."""

    content = b""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        if self._answer():
            self.wfile.write(self.content)

    def _answer(self) -> bool:
        found = self.path.split("?")[0] == "/timm/tiny.in1k/resolve/main/pytorch_model.bin"
        self.send_response(200 if found else 404)
        if not found:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("ETag", '"' + hashlib.sha256(self.content).hexdigest() + '"')
        self.send_header("Content-Length", str(len(self.content) if found else 0))
        self.end_headers()
        return found

    def log_message(self, *_arguments: Any) -> None:
        """Stay quiet."""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    torch.save(make("timm:resnet18", seed=1).backbone.pretrained_part().state_dict(), tmp_path / "tiny.bin")
    _Hub.content = (tmp_path / "tiny.bin").read_bytes()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def own_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


PUBLISHED = HubWeights("timm/tiny.in1k", ("model.safetensors", "pytorch_model.bin"), "apache-2.0")


@pytest.mark.usefixtures("own_hub_cache")
def test_weights_from_the_hub_take_the_first_file_there_is(hub: str) -> None:
    path = download(PUBLISHED, endpoint=hub)
    assert path.read_bytes() == _Hub.content
    make("timm:resnet18").backbone.translate(read_weights(path))


@pytest.mark.usefixtures("own_hub_cache")
def test_weights_that_the_hub_does_not_have(hub: str) -> None:
    with pytest.raises(WeightsError, match=r"Cannot download the weights 'timm/none' .* set `pretrained`"):
        download(HubWeights("timm/none", ("model.safetensors",), ""), endpoint=hub)


@pytest.mark.usefixtures("own_hub_cache")
def test_without_a_connection_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(
        WeightsError, match=r"once with a connection .* set `pretrained` to the path .*, .* `pretrained: false`"
    ):
        make("timm:resnet18.a1_in1k", pretrained=True)


@pytest.mark.parametrize("name", ["baseline-cnn", "timm:mobilenetv2_035"])
def test_models_without_published_weights_are_refused(name: str) -> None:
    with pytest.raises(WeightsError, match=f"No weights are published for model '{name}'"):
        make(name, pretrained=True)
