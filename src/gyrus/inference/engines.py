"""What runs a trained network: PyTorch on any device, or OpenVINO on the CPU, behind one interface.

An engine gives the logits of images. Engines agree within rounding; :data:`TOLERANCE` is checked whenever a network is
converted or loaded. OpenVINO needs PyTorch only to convert a network, not to run it.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from filelock import FileLock

from gyrus.errors import ConfigError, DataError, GyrusError
from gyrus.extras import missing_dependency
from gyrus.files import cache_folder, digest, make_folder, new_folder, read_json, reading, write_json
from gyrus.registry import look_up
from gyrus.text import kind_and_first_line

if TYPE_CHECKING:
    import torch
    from torch import nn

EngineName = Literal["auto", "torch", "openvino"]

TOLERANCE = 1e-4
"""Largest difference between the logits of two engines, relative to the largest logit or to 1."""

CONVERSION_SECONDS = 15.0
"""Converting a network takes 3 to 12 seconds on two cores, and the first import of ``torch.export`` a few more."""

LOADING_SECONDS = 1.5
"""Importing OpenVINO and loading a converted network."""

SAVED_FRACTION = 0.4
"""Least fraction of PyTorch's time that OpenVINO is expected to save on two cores; see ``benchmarks/inference.py``."""

PROBE = 4
"""Images on which engines are compared."""

IMAGES_AT_ONCE = 64
VOXELS_AT_ONCE = 1 << 21
"""As float32 these take 8 MiB, and one layer of 32 channels at full size 256 MiB."""


def images_at_once(image_shape: Sequence[int], most: int = IMAGES_AT_ONCE) -> int:
    """How many images of a shape are predicted in one batch: fewer of large volumes, at least one."""
    return max(1, min(most, VOXELS_AT_ONCE // max(1, math.prod(image_shape))))


class Engine(Protocol):
    """Runs a network."""

    @property
    def name(self) -> str:
        """Its name in text: "PyTorch"."""

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The logits float32 (B, K) of images float32 (B, C, *spatial), for any B of at least 1."""


class TorchEngine:
    """PyTorch, on the device of the network."""

    name = "PyTorch"

    def __init__(self, model: nn.Module) -> None:
        """Set the network to evaluation mode."""
        self.model = model.eval()

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The logits float32 (B, K) of images float32 (B, C, *spatial)."""
        import torch

        device = next(self.model.parameters()).device
        with torch.inference_mode():
            logits: np.ndarray = self.model(torch.from_numpy(images).to(device)).float().cpu().numpy()
        return logits


class OpenVinoEngine:
    """OpenVINO on the CPU, in single precision. Runs without PyTorch."""

    name = "OpenVINO"

    def __init__(self, network: Any, threads: int | None = None) -> None:
        """Compile a network.

        Args:
            network: An ``openvino.Model`` with one input (B, C, *spatial) and one output (B, K), or two.
            threads: By default ``OMP_NUM_THREADS``, or all cores.
        """
        threads = threads or wanted_threads()
        # Processors with bfloat16 would use it by default, and the logits would differ in the third digit.
        options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
        self._compiled = _core().compile_model(network, "CPU", options)
        self._request = self._compiled.create_infer_request()

    @classmethod
    def from_file(cls, path: Path, threads: int | None = None) -> OpenVinoEngine:
        """Load a network in the format of OpenVINO (.xml, with a .bin beside it) or ONNX (.onnx).

        Args:
            path: The file.
            threads: As for the constructor.

        Raises:
            DataError: The file is missing, damaged, or holds another kind of network.
        """
        core = _core()
        with reading(path, "a network from images (B, C, ...) to logits (B, K) in the format of OpenVINO or ONNX"):
            network = core.read_model(path)
            require_classifier([len(port.get_partial_shape()) for port in (*network.inputs, *network.outputs)])
            return cls(network, threads)

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The outputs float32 (B, K) of images float32 (B, C, *spatial), side by side."""
        found = self._request.infer({0: np.ascontiguousarray(images, dtype=np.float32)}, share_inputs=True)
        return np.concatenate([found[output] for output in self._compiled.outputs], axis=1, dtype=np.float32)


@dataclass(frozen=True)
class ChosenEngine:
    """The engine that runs a network, and why.

    Attributes:
        engine: The engine.
        reason: Why this one, as a clause: "8 images would not repay the conversion"; empty if it was asked for.
    """

    engine: Engine
    reason: str = ""

    def text(self) -> str:
        """The name, with the reason in brackets."""
        return f"{self.engine.name} ({self.reason})" if self.reason else self.engine.name


def choose_engine(
    name: str, model: nn.Module, probe: np.ndarray, *, images: int, key: str | None = None, cache: Path | None = None
) -> ChosenEngine:
    """The engine for a number of images.

    "auto" is OpenVINO if the network runs on the CPU, OpenVINO is installed, the time that it is expected to save
    exceeds that of loading or converting the network, its logits agree with PyTorch's, and it is faster on the probe.

    Args:
        name: "auto", "torch" or "openvino".
        model: The network, on its device.
        probe: float32 (n, C, *spatial): a few of the images, for the comparisons.
        images: How many images are to be predicted.
        key: Identifies the weights; a converted network is kept under it. None keeps nothing.
        cache: The folder of converted networks, by default ``engines`` in :func:`gyrus.files.cache_folder`.

    Raises:
        ConfigError: OpenVINO was asked for, and the network is on another device.
        MissingDependencyError: OpenVINO was asked for, and is not installed.
        GyrusError: OpenVINO was asked for, and cannot run this network, or its logits differ from PyTorch's.
    """
    look_up(name, dict.fromkeys(("auto", "torch", "openvino")), "engine")
    torch_engine, device = TorchEngine(model), next(model.parameters()).device.type
    if name == "torch":
        return ChosenEngine(torch_engine)
    if name == "openvino":
        if device != "cpu":
            raise ConfigError(f"OpenVINO runs on the CPU here, not on the device '{device}'. Use --device cpu.")
        if not is_installed():
            raise missing_dependency("The engine OpenVINO", "openvino")
    elif device != "cpu" or not is_installed():
        return ChosenEngine(torch_engine)
    place = Converted.place(key, probe.shape[1:], cache) if key else None
    if name == "auto":
        if images <= 4 * len(probe):
            return ChosenEngine(torch_engine)
        if place and place.slower:
            return ChosenEngine(torch_engine, "measured to be faster than OpenVINO for this network")
        total = _seconds(torch_engine, probe) / len(probe) * images
        cost = LOADING_SECONDS + (0 if place and place.exists else CONVERSION_SECONDS)
        if SAVED_FRACTION * total < cost:
            return ChosenEngine(torch_engine)
    try:
        engine = _converted(model, probe, place)
        difference = largest_difference(torch_engine(probe), engine(probe))
    except GyrusError:
        raise
    except Exception as error:  # whatever OpenVINO and torch.export raise for operations that they do not support
        reason = kind_and_first_line(error)
        if name == "openvino":
            raise GyrusError(f"OpenVINO cannot run this network ({reason}). Use --engine torch.") from error
        return ChosenEngine(torch_engine, f"OpenVINO cannot run this network: {reason}")
    if not difference <= TOLERANCE:  # NaN included
        text = f"the logits of OpenVINO differ from PyTorch's by {difference:.1g}"
        if name == "openvino":
            raise GyrusError(f"For this network {text}, more than {TOLERANCE:g}. Use --engine torch.")
        return ChosenEngine(torch_engine, text)
    if name == "auto" and _seconds(engine, probe) > _seconds(torch_engine, probe):
        if place:
            place.mark_slower()
        return ChosenEngine(torch_engine, "measured to be faster than OpenVINO for this network")
    return ChosenEngine(engine)


def largest_difference(expected: np.ndarray, found: np.ndarray) -> float:
    """The largest difference of two sets of logits (B, K), relative to the largest logit or to 1.

    Within :data:`TOLERANCE`, predicted classes differ only where two of them are equally likely up to rounding.
    """
    return float(np.abs(expected - found).max() / max(1.0, np.abs(expected).max()))


def wanted_threads() -> int:
    """The number of threads that ``OMP_NUM_THREADS`` asks for; 0 for all cores."""
    return int(os.environ.get("OMP_NUM_THREADS", "0").split(",")[0] or 0)


def require_classifier(axes: Sequence[int]) -> None:
    """Refuse a network of a file that is not from images (B, C, *spatial) to logits (B, K), alone or with embeddings.

    Args:
        axes: The number of axes of each input, then of each output.

    Raises:
        DataError: There are several of them, or they have other numbers of axes.
    """
    if len(axes) not in (2, 3) or axes[0] not in (4, 5) or {*axes[1:]} != {2}:
        raise DataError(f"its inputs and outputs have {list(axes)} axes")


def is_installed() -> bool:
    """Whether OpenVINO is installed."""
    return find_spec("openvino") is not None


@dataclass(frozen=True)
class Converted:
    """A converted network that is kept in a folder.

    Attributes:
        folder: Holds ``network.xml``, ``network.bin``, and ``slower`` where PyTorch was faster on this machine.
    """

    folder: Path

    @classmethod
    def place(cls, key: str, shape: tuple[int, ...], cache: Path | None) -> Converted:
        """Where the network with a key is kept, for images of one shape and this version of OpenVINO."""
        from importlib.metadata import version

        identity = {"weights": key, "shape": list(shape), "openvino": version("openvino")}
        return cls((cache or cache_folder() / "engines") / digest(identity)[:32])

    @property
    def file(self) -> Path:
        """The network."""
        return self.folder / "network.xml"

    @property
    def exists(self) -> bool:
        """Whether the network has been converted."""
        return (self.folder / "engine.json").is_file()

    @property
    def slower(self) -> bool:
        """Whether PyTorch was measured to be faster."""
        try:
            return bool(read_json(self.folder / "engine.json")["slower"])
        except (GyrusError, LookupError, TypeError):
            return False

    def mark_slower(self) -> None:
        """Record that PyTorch was faster, so that it is not measured again."""
        write_json(self.folder / "engine.json", {"slower": True})

    def save(self, network: Any) -> None:
        """Keep a network; one that is there is replaced."""
        make_folder(self.folder.parent)
        with FileLock(self.folder.with_suffix(".lock")):
            shutil.rmtree(self.folder, ignore_errors=True)
            with new_folder(self.folder) as partial:
                openvino_library().save_model(network, partial / self.file.name, compress_to_fp16=False)
                write_json(partial / "engine.json", {"slower": False})


def convert(model: nn.Module, example: torch.Tensor) -> Any:
    """A network as an ``openvino.Model``, for any number of images.

    Args:
        model: From images (B, C, *spatial) to logits (B, K), on the CPU; set to evaluation mode.
        example: Images of the size that it is converted for.
    """
    import torch

    openvino = openvino_library()
    with warnings.catch_warnings(), torch.no_grad(), _without_telemetry():
        warnings.simplefilter("ignore")
        images = example[:1].expand(2, *example.shape[1:]).contiguous()  # a batch of one would become a constant
        program = torch.export.export(model.eval(), (images,), dynamic_shapes=({0: torch.export.Dim("images")},))
        network = openvino.convert_model(program)
    network.reshape([-1, *example.shape[1:]])
    return network


def _converted(model: nn.Module, probe: np.ndarray, place: Converted | None) -> OpenVinoEngine:
    """OpenVINO with a network that is kept, or converted now."""
    import torch

    threads = torch.get_num_threads()
    if place and place.exists:
        with suppress(DataError):  # damaged: converted again
            return OpenVinoEngine.from_file(place.file, threads)
    network = convert(model, torch.from_numpy(probe))
    if place:
        with suppress(GyrusError):  # a full or read-only disk: the next command converts again
            place.save(network)
    return OpenVinoEngine(network, threads)


def _seconds(engine: Callable[[np.ndarray], np.ndarray], images: np.ndarray) -> float:
    """Seconds for images: the faster of two runs, the first of which prepares memory."""
    seconds = []
    for _ in range(2):
        start = time.perf_counter()
        engine(images)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


@lru_cache(maxsize=1)
def _core() -> Any:
    """The one core of OpenVINO in this process, which is never released.

    A core gives the main thread a stack for signals, and takes it back when it is released. Of two that are released in
    the order of their making the second leaves a stack that is gone: the next Ctrl-C would be a segmentation fault.
    """
    return openvino_library().Core()


def openvino_library() -> Any:
    """The library OpenVINO.

    Raises:
        MissingDependencyError: It is not installed.
    """
    if not is_installed():
        raise missing_dependency("The engine OpenVINO", "openvino")
    with _without_telemetry():
        import openvino
    return openvino


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Within the block, OpenVINO finds no telemetry: by default it reports imports and conversions to its vendor."""
    name = "openvino_telemetry"
    known = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if known is not None:
            sys.modules[name] = known
