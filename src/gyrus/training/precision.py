"""Settings that are chosen for the device: precision and deterministic algorithms, where the config says ``auto``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gyrus.errors import ConfigError
from gyrus.training.config import AUTOMATIC, TrainingConfig

_NAMES = {"cpu": "CPU", "cuda": "GPU", "mps": "MPS device"}


@dataclass(frozen=True)
class DeviceSettings:
    """What a training runs with.

    Attributes:
        device: Type of the device.
        precision: "32-true", "bf16-mixed" or "16-mixed".
        deterministic: Whether operations that are not deterministic are refused.
        reasons: Why each setting was chosen, by its name; a setting of the config has none.
    """

    device: str
    precision: str
    deterministic: bool
    reasons: Mapping[str, str]

    def applied_to(self, config: TrainingConfig) -> TrainingConfig:
        """The config with these settings in place of ``auto``."""
        return config.model_copy(update={name: getattr(self, name) for name in AUTOMATIC})

    def begun_with(self, settings: Mapping[str, Any]) -> DeviceSettings:
        """The same for a training that is resumed: what was chosen when it was begun.

        Args:
            settings: Of its checkpoint; see :func:`gyrus.training.checkpointing.settings_of`.
        """
        before = {name: settings.get(f"training.{name}", getattr(self, name)) for name in AUTOMATIC}
        chosen = {name: before[name] if name in self.reasons else getattr(self, name) for name in AUTOMATIC}
        other = [name for name in AUTOMATIC if chosen[name] != getattr(self, name)]
        reasons = {**self.reasons, **dict.fromkeys(other, "as when the training was begun")}
        return DeviceSettings(self.device, **chosen, reasons=reasons)

    def text(self) -> str:
        """The settings with their reasons, in one line."""
        parts = {
            "precision": f"precision {self.precision}",
            "deterministic": "deterministic" if self.deterministic else "not deterministic",
        }
        reasons = {name: f" ({self.reasons[name]})" if name in self.reasons else "" for name in parts}
        return f"{_NAMES[self.device]}, {', '.join(f'{part}{reasons[name]}' for name, part in parts.items())}"

    def to_document(self) -> dict[str, Any]:
        """Plain values, for ``run.json``."""
        chosen = {name: getattr(self, name) for name in AUTOMATIC}
        return {"device": self.device, **chosen, "reasons": dict(self.reasons), "text": self.text()}


def device_settings(config: TrainingConfig, model: nn.Module, device: str) -> DeviceSettings:
    """What a model is trained with on a device.

    Args:
        config: Its settings count where they are not ``auto``.
        model: The network; some kinds gain nothing from half precision.
        device: Type of the device: cpu, cuda or mps.
    """
    precision, deterministic = _precision(model, device), _deterministic(device)
    reasons = {}
    if config.precision == "auto":
        reasons["precision"] = precision[1]
    if config.deterministic == "auto":
        reasons["deterministic"] = deterministic[1]
    return DeviceSettings(
        device,
        precision[0] if config.precision == "auto" else config.precision,
        deterministic[0] if config.deterministic == "auto" else config.deterministic,
        reasons,
    )


def computes_bfloat16(device: str) -> bool:
    """Whether a device has instructions for bfloat16: NVIDIA from compute capability 8.0, CPUs with AVX-512 or AMX."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def require_correct_gradients(settings: DeviceSettings, model: nn.Module) -> None:
    """Refuse a precision in which PyTorch computes wrong gradients.

    Raises:
        ConfigError: The network has 3D convolutions, and would be trained in bf16 on the CPU.
    """
    if _gradients_are_wrong(settings.precision, model, settings.device):
        raise ConfigError(
            f"training.precision is {settings.precision}, in which PyTorch computes wrong gradients of 3D convolutions "
            "on CPUs. Use 32-true or auto, or a GPU. A run that was begun in bf16 must be started anew."
        )


def _gradients_are_wrong(precision: str, model: nn.Module, device: str) -> bool:
    """Whether the weight gradients of a network may be wrong.

    Seen with PyTorch 2.15 on a CPU with AVX-512 BF16: where the kernel of a 3D convolution is longer than its input is
    deep (kernel 3 on a depth of 2, kernel 5 on 2 to 4), the gradient of its weights contains memory that was never
    written. Networks for volumes reach such depths after a few poolings.
    """
    has_3d = any(isinstance(layer, nn.Conv3d | nn.ConvTranspose3d) for layer in model.modules())
    return device == "cpu" and precision == "bf16-mixed" and has_3d


def _precision(model: nn.Module, device: str) -> tuple[str, str]:
    if not computes_bfloat16(device):
        return "32-true", f"this {_NAMES[device]} has no instructions for bf16"
    # Measured: on CPUs 1.75 to 1.9 times as fast for 2D networks.
    if _gradients_are_wrong("bf16-mixed", model, device):
        return "32-true", "3D convolutions have wrong gradients in bf16 on CPUs"
    return "bf16-mixed", f"this {_NAMES[device]} computes bf16 natively"


def _deterministic(device: str) -> tuple[bool, str]:
    if device == "cuda":  # measured on an H100: ResNet50 1,593 images per second with them, 2,233 without
        return False, "deterministic algorithms cost up to 0.3 of the speed of a GPU"
    return True, f"no loss of speed on this {_NAMES[device]}"
