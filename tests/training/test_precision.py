"""Precision and determinism are chosen for the device, with the reason, and kept when a training is resumed."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from gyrus.errors import ConfigError
from gyrus.training import precision
from gyrus.training.checkpointing import load_checkpoint, save_checkpoint
from gyrus.training.config import TrainingConfig
from gyrus.training.history import History
from gyrus.training.precision import computes_bfloat16, device_settings, require_correct_gradients
from tests.support.toy import TinyNet
from tests.support.toy_training import changed, train

DEPTHWISE = nn.Sequential(nn.Conv3d(4, 4, 3, groups=4))
VOLUMES = nn.Sequential(nn.Conv3d(1, 4, 3))


@pytest.mark.parametrize(
    ("device", "native", "model", "config", "expected", "reason"),
    [
        ("cpu", True, TinyNet(), {}, ("bf16-mixed", True), "computes bf16 natively"),
        ("cpu", True, VOLUMES, {}, ("32-true", True), "3D convolutions have wrong gradients"),
        ("cpu", True, DEPTHWISE, {}, ("32-true", True), "3D convolutions have wrong gradients"),
        ("cuda", True, VOLUMES, {}, ("bf16-mixed", False), "this GPU computes bf16 natively"),
        ("cpu", False, TinyNet(), {}, ("32-true", True), "this CPU has no instructions for bf16"),
        ("cuda", True, DEPTHWISE, {}, ("bf16-mixed", False), "this GPU computes bf16 natively"),
        ("cuda", False, TinyNet(), {}, ("32-true", False), "this GPU has no instructions"),
        ("cpu", False, TinyNet(), {"precision": "bf16-mixed"}, ("bf16-mixed", True), None),
        ("cuda", True, TinyNet(), {"precision": "32-true", "deterministic": True}, ("32-true", True), None),
        ("cpu", True, TinyNet(), {"precision": "32-true", "deterministic": False}, ("32-true", False), None),
    ],
)
def test_choice_and_reason(monkeypatch, device, native, model, config, expected, reason):
    monkeypatch.setattr(precision, "computes_bfloat16", lambda _: native)
    settings = TrainingConfig.model_validate(config)
    chosen = device_settings(settings, model, device)
    assert (chosen.precision, chosen.deterministic) == expected
    assert set(chosen.reasons) == {"precision", "deterministic"} - set(config)
    assert reason is None or reason in chosen.text()
    resolved = chosen.applied_to(settings)
    assert (resolved.precision, resolved.deterministic) == expected
    assert not device_settings(resolved, model, device).reasons


@pytest.mark.parametrize("resumed", [False, True])
def test_3d_convolutions_are_not_trained_in_bf16_on_cpus(resumed):
    """Their weight gradients contained memory that was never written, where the input is shallower than the kernel."""
    chosen = device_settings(TrainingConfig(precision="auto" if resumed else "bf16-mixed"), VOLUMES, "cpu")
    if resumed:
        chosen = chosen.begun_with({"training.precision": "bf16-mixed"})
    with pytest.raises(ConfigError, match="wrong gradients of 3D convolutions"):
        require_correct_gradients(chosen, VOLUMES)
    require_correct_gradients(replace(chosen, precision="32-true"), VOLUMES)
    require_correct_gradients(replace(chosen, device="cuda"), VOLUMES)
    require_correct_gradients(chosen, TinyNet())


@pytest.mark.parametrize(("kernel", "depth"), [(3, 2), (5, 2), (5, 4), (3, 4)])
def test_gradients_of_shallow_volumes_are_those_of_double_precision(kernel, depth):
    torch.manual_seed(0)
    images = torch.randn(6, 4, depth, 6, 6)
    layer = nn.Conv3d(4, 8, kernel, padding=kernel // 2)
    exact = deepcopy(layer).double()
    for one, precise in ((layer, images), (exact, images.double())):
        one(precise).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad.double(), exact.weight.grad, rtol=1e-4, atol=1e-2)


def test_bfloat16_of_this_processor_is_what_the_system_lists():
    listed = Path("/proc/cpuinfo")
    if not listed.exists():
        pytest.skip("no /proc/cpuinfo")
    flags = set(listed.read_text().split())
    assert computes_bfloat16("cpu") == bool({"avx512_bf16", "amx_tile"} & flags)
    assert not computes_bfloat16("mps")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_bfloat16_of_this_gpu_follows_its_compute_capability():
    assert computes_bfloat16("cuda") == (torch.cuda.get_device_capability()[0] >= 8)


def test_a_resumed_training_keeps_what_was_chosen_on_another_machine(tmp_path, monkeypatch):
    """Begun where bf16 is native, interrupted after two of three epochs, resumed here."""
    begun = changed(epochs=3, precision="auto", deterministic="auto")
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(precision, "computes_bfloat16", lambda _: True)
        train(tmp_path / "whole", begun)

        def stop(history: History) -> None:
            if len(history) == 2:
                raise KeyError

        with pytest.raises(KeyError):
            train(tmp_path / "run", begun, after_epoch=stop)
    settings = load_checkpoint(tmp_path / "run" / "checkpoints" / "last.ckpt")["settings"]
    assert settings["training.precision"] == "bf16-mixed"
    assert settings["training.deterministic"] is True
    monkeypatch.setattr(precision, "computes_bfloat16", lambda _: False)
    fitted, weights = train(tmp_path / "run", begun, resume=True)
    assert fitted.device_settings.precision == "bf16-mixed"
    assert "precision bf16-mixed (as when the training was begun)" in fitted.device_settings.text()
    expected = load_checkpoint(tmp_path / "whole" / "checkpoints" / "best.ckpt")["model"]
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_checkpoint_of_an_earlier_version_continues_with_its_own_settings(tmp_path, monkeypatch):
    """There, the default of precision was 32-true, whatever the machine."""
    train(tmp_path, changed(epochs=1, precision="32-true", deterministic=True))
    path = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint = load_checkpoint(path)
    checkpoint["settings"]["training.epochs"] = 2
    save_checkpoint(path, {name: value for name, value in checkpoint.items() if name != "format"})
    monkeypatch.setattr(precision, "computes_bfloat16", lambda _: True)
    fitted, _ = train(tmp_path, changed(epochs=2, precision="auto", deterministic="auto"), resume=True)
    assert fitted.device_settings.precision == "32-true"
    assert fitted.epochs == 2


def test_the_choice_is_shown(tmp_path, capsys):
    train(tmp_path, changed(epochs=1, precision="auto", deterministic="auto"), progress=True)
    shown = capsys.readouterr().err
    assert shown.startswith("CPU, precision ")
    assert "deterministic (no loss of speed on this CPU)" in shown
