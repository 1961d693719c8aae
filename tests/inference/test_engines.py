"""Engines: the same logits as PyTorch, the choice between them, and converted networks that are kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from gyrus.errors import ConfigError, DataError, GyrusError, MissingDependencyError, UnknownNameError
from gyrus.inference import engines
from gyrus.inference.engines import (
    TOLERANCE,
    Converted,
    OpenVinoEngine,
    TorchEngine,
    choose_engine,
    convert,
    largest_difference,
)
from gyrus.models.build import build
from gyrus.models.config import ModelConfig
from tests.support.onnx_file import write_linear

SHAPE = (1, 16, 16)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    network = build(ModelConfig(name="baseline-cnn"), in_channels=1, num_classes=3, image_size=SHAPE[1:])
    for norm in network.modules():  # not those of initialisation, which do nothing
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.uniform_(-1, 1)
            norm.running_var.uniform_(0.5, 2)
    return network.eval()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(7, *SHAPE)).astype(np.float32)


@pytest.fixture(scope="module")
def cache(model, images, tmp_path_factory) -> Path:
    """A folder that holds the converted network."""
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("engines")
    chosen = choose_engine("openvino", model, images[:4], images=7, key="weights", cache=folder)
    assert chosen.text() == "OpenVINO"
    return folder


@pytest.fixture
def converted(cache, tmp_path) -> Converted:
    """The same in a folder of this test."""
    shutil.copytree(cache, tmp_path / "engines")
    return Converted.place("weights", SHAPE, tmp_path / "engines")


def test_contract_engines_give_the_logits_of_the_network_for_any_number_of_images(model, images, converted):
    with torch.inference_mode():
        expected = model(torch.from_numpy(images)).numpy()
    for engine in (TorchEngine(model), OpenVinoEngine.from_file(converted.file, threads=1)):
        for count in (7, 1, 4):
            found = engine(images[:count])
            assert (found.dtype, found.shape) == (np.float32, (count, 3))
            assert largest_difference(expected[:count], found) <= TOLERANCE
        first, second = engine(images[:2]), engine(images[2:4])
        assert not np.shares_memory(first, second)
        np.testing.assert_allclose(first, expected[:2], atol=1e-4)


def test_volumes_are_converted_too():
    pytest.importorskip("openvino")
    network = build(ModelConfig(name="baseline-cnn"), in_channels=1, num_classes=2, image_size=(8, 8, 8)).eval()
    volumes = np.random.default_rng(1).normal(size=(3, 1, 8, 8, 8)).astype(np.float32)
    engine = OpenVinoEngine(convert(network, torch.from_numpy(volumes)), threads=1)
    assert largest_difference(TorchEngine(network)(volumes), engine(volumes)) <= TOLERANCE


def test_openvino_runs_files_of_both_formats_without_pytorch_and_without_telemetry(converted, tmp_path):
    weights = np.random.default_rng(2).normal(size=(16, 2)).astype(np.float32)
    onnx = write_linear(tmp_path / "linear.onnx", weights, (1, 4, 4))
    program = f"""
import sys
sys.modules["torch"] = None
import numpy as np
from pathlib import Path
from gyrus.inference.engines import OpenVinoEngine
images = np.arange(32, dtype=np.float32).reshape(2, 1, 4, 4)
logits = OpenVinoEngine.from_file(Path({str(onnx)!r}))(images)
assert OpenVinoEngine.from_file(Path({str(converted.file)!r}))(np.zeros((1, 1, 16, 16))).shape == (1, 3)
assert "openvino_telemetry" not in sys.modules
print(*logits.ravel())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = np.array(done.stdout.split(), float).reshape(2, 2)
    np.testing.assert_allclose(found, np.arange(32).reshape(2, 16) @ weights, rtol=1e-5)


def test_a_signal_after_several_networks_were_released_ends_no_process(tmp_path):
    network = write_linear(tmp_path / "network.onnx", np.ones((16, 2), np.float32), (1, 4, 4))
    script = """
        import gc, signal, sys
        from pathlib import Path
        from gyrus.inference.engines import OpenVinoEngine

        signal.signal(signal.SIGINT, lambda *_: print("heard"))
        first, second = (OpenVinoEngine.from_file(Path(sys.argv[1])) for _ in range(2))
        del first
        gc.collect()
        del second
        gc.collect()
        signal.raise_signal(signal.SIGINT)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(network)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (0, "heard\n"), found.stderr


def test_files_that_are_no_such_network_are_refused(tmp_path):
    pytest.importorskip("openvino")
    (tmp_path / "network.onnx").write_bytes(b"no network")
    for name in ("network.onnx", "missing.xml"):
        with pytest.raises(DataError, match=name):
            OpenVinoEngine.from_file(tmp_path / name)


def test_a_damaged_converted_network_is_converted_again(model, images, converted):
    converted.file.write_text("damaged")
    chosen = choose_engine("openvino", model, images[:4], images=7, key="weights", cache=converted.folder.parent)
    assert chosen.engine.name == "OpenVINO"
    assert OpenVinoEngine.from_file(converted.file)(images).shape == (7, 3)


def test_automatic_choice(model, images, converted, monkeypatch):
    def choose(count: int, key: str | None = "weights") -> engines.ChosenEngine:
        return choose_engine("auto", model, images[:4], images=count, key=key, cache=converted.folder.parent)

    times = {"PyTorch": 1.0, "OpenVINO": 0.5}
    monkeypatch.setattr(engines, "_seconds", lambda engine, _: times[engine.name])

    assert choose(16).text() == "PyTorch"
    assert choose(17).text() == "OpenVINO"  # 17 images take more than four seconds, loading takes less than two
    assert choose(17, key="other weights").text() == "PyTorch"  # not worth a conversion

    monkeypatch.setattr(engines, "is_installed", lambda: False)
    assert choose(1000).text() == "PyTorch"
    monkeypatch.undo()

    monkeypatch.setattr(engines, "_seconds", lambda engine, _: times[engine.name])
    times["OpenVINO"] = 1.1
    for _ in range(2):
        assert choose(1000).text() == "PyTorch (measured to be faster than OpenVINO for this network)"
        monkeypatch.setattr(engines, "_converted", lambda *_: pytest.fail("converted again"))


@pytest.mark.parametrize(
    ("engine", "reason"),
    [
        (lambda images: np.full((len(images), 3), 9.0), r"the logits of OpenVINO differ from PyTorch's by \d"),
        (lambda images: np.full((len(images), 3), np.nan), "the logits of OpenVINO differ from PyTorch's by nan"),
        (lambda _: 1 / 0, "OpenVINO cannot run this network.*ZeroDivisionError: division by zero"),
    ],
)
def test_an_engine_that_gives_other_logits_is_not_used(model, images, monkeypatch, engine, reason):
    monkeypatch.setattr(engines, "_converted", lambda *_: engine)
    monkeypatch.setattr(engines, "_seconds", lambda *_: 100.0)
    chosen = choose_engine("auto", model, images[:2], images=1000)
    assert chosen.engine.name == "PyTorch"
    assert chosen.reason
    with pytest.raises(GyrusError, match=reason):
        choose_engine("openvino", model, images[:2], images=1000)


def test_an_engine_that_cannot_be_had_is_refused(model, images, monkeypatch):
    with pytest.raises(UnknownNameError, match="openvino"):
        choose_engine("open-vino", model, images, images=7)
    with pytest.raises(ConfigError, match="not on the device 'meta'"):
        choose_engine("openvino", nn.Linear(1, 1, device="meta"), images, images=7)
    monkeypatch.setattr(engines, "is_installed", lambda: False)
    with pytest.raises(MissingDependencyError, match=r"\[openvino\]"):
        choose_engine("openvino", model, images, images=7)
