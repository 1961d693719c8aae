"""Pretrained weights: from a file or the Hugging Face hub, never by running code, and made to fit."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gyrus.errors import WeightsError
from gyrus.files import file_digest

if TYPE_CHECKING:
    from gyrus.models.classifier import Backbone

StemRule = Literal["sum", "mean"]
"""How the weights of three colour channels become those of another number."""

NOT_STATED = "not stated"

_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")


@dataclass(frozen=True)
class WeightsRecord:
    """Where the weights of a model came from, for the run.

    Attributes:
        source: The file, or the repository on the hub.
        digest: SHA-256 of the file.
        licence: As the source states it, or "not stated".
        changes: What was done to make them fit: "stem: 3 to 1 channels by sum", "inflated to 3D".
        left_out: Tensors of the file that the model has no place for: the head of other classes.
    """

    source: str
    digest: str
    licence: str
    changes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pth, .pt, .bin or .ckpt file, on the CPU; nothing in the file is executed.

    Raises:
        WeightsError: The file is missing, damaged, holds code or no tensors.
    """
    if not path.is_file():
        raise WeightsError(f"There is no file of weights at {path}. Give the path of a .safetensors or .pth file.")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    weights = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise WeightsError(f"{path} holds no tensors by name. Save a model's state_dict().")
    return weights


@dataclass(frozen=True)
class HubWeights:
    """Weights that somebody publishes on the Hugging Face hub.

    Attributes:
        repository: owner/name.
        filenames: Names that the file may have, the best first.
        licence: As the publisher states it, or "not stated".
    """

    repository: str
    filenames: tuple[str, ...]
    licence: str


def load_pretrained(backbone: Backbone, source: str | HubWeights, *, stem: StemRule = "sum") -> WeightsRecord:
    """Put pretrained weights into a backbone, all of it.

    Args:
        backbone: Filled in place.
        source: Path of a file, or what a publisher has on the hub.
        stem: How the kernels of the first layer are adapted to another number of channels.

    Returns:
        Where the weights came from and what was done to them.

    Raises:
        WeightsError: The file cannot be had or read, or does not fit.
    """
    path = download(source) if isinstance(source, HubWeights) else Path(source).expanduser()
    weights = backbone.translate(read_weights(path))
    changes, left_out = fit_weights(weights, backbone.pretrained_part(), stem=stem, head=backbone.pretrained_head)
    return WeightsRecord(
        source=source.repository if isinstance(source, HubWeights) else str(source),
        digest=file_digest(path),
        licence=source.licence if isinstance(source, HubWeights) else _licence(path),
        changes=changes,
        left_out=left_out,
    )


def download(source: HubWeights, *, endpoint: str | None = None) -> Path:
    """The file of published weights, from the local cache where it is there.

    Args:
        source: What to get.
        endpoint: Address of the hub, if not the public one (or that in HF_ENDPOINT).

    Raises:
        WeightsError: The hub cannot be reached, or has no such file; says what to do.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    reason: Exception | None = None
    for filename in source.filenames:
        try:
            return Path(hf_hub_download(source.repository, filename, endpoint=endpoint))
        except EntryNotFoundError as error:
            reason = error
        # the hub's errors share no base: they come from the network library, the file system and the hub itself
        except Exception as error:
            reason = error
            break
    first_line = (str(reason).strip() or type(reason).__name__).splitlines()[0]
    raise WeightsError(
        f"Cannot get the weights '{source.repository}' from the Hugging Face hub: {first_line} "
        "Do it once with a connection (they then stay in the cache), or name a file of weights in "
        "`pretrained: PATH`, or start from random weights with `pretrained: false`."
    ) from reason


def inflate(weight: Tensor, depth: int) -> Tensor:
    """A 3D kernel that answers a stack of equal slices as the 2D kernel answers one of them.

    Carreira and Zisserman 2017, https://arxiv.org/abs/1705.07750: repeated along the depth and divided by it.

    Args:
        weight: Kernel ``(out, in, rows, columns)``.
        depth: Voxels of the new axis.

    Returns:
        Kernel ``(out, in, depth, rows, columns)``.
    """
    return weight.unsqueeze(2).repeat(1, 1, depth, 1, 1) / depth


def adapt_stem(weight: Tensor, in_channels: int, rule: StemRule) -> Tensor:
    """The first kernel for another number of channels.

    With "sum", a gray image gives what its copy in every channel gave; more channels take turns, scaled alike.
    With "mean", every channel gets the mean kernel (system D), a third as strong.

    Args:
        weight: Kernel ``(out, in, *spatial)``.
        in_channels: Channels of the new images.
        rule: As above.

    Returns:
        Kernel ``(out, in_channels, *spatial)``.
    """
    old = weight.shape[1]
    if rule == "mean":
        return weight.mean(1, keepdim=True).repeat_interleave(in_channels, dim=1)
    if in_channels == 1:
        return weight.sum(1, keepdim=True)
    turns = torch.arange(in_channels) % old
    return weight[:, turns] * (old / in_channels)


def fit_weights(
    weights: Mapping[str, Tensor], network: nn.Module, *, stem: StemRule = "sum", head: str | tuple[str, ...] = ()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Put weights into a network, all of it: adapts the stem to its channels, and 2D kernels to 3D.

    Args:
        weights: Name to tensor; a prefix that all names share ("backbone.", "module.") is taken off.
        network: Filled in place.
        stem: How the stem is adapted.
        head: Names of the layers that may be left out although the network has part of them: "head.fc".

    Returns:
        What was changed, and the names of the tensors left out.

    Raises:
        WeightsError: Tensors are missing, have other shapes, or belong to layers that the network does not have.
    """
    own = network.state_dict()
    prefix = _shared_prefix(weights, own)
    inside = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    fitted, changes, mistakes = _fit_all(inside, own, stem)
    outside = tuple(name for name in weights if not name.startswith(prefix))
    left_out = tuple(name for name in inside if name not in own)
    tops = {name.partition(".")[0] for name in own}
    strangers = [name for name in left_out if name.partition(".")[0] in tops and not name.startswith(head)]
    mistakes += [f"{name} has no place in the model" for name in strangers]
    if mistakes:
        shown = "; ".join(mistakes[:5]) + (f"; and {len(mistakes) - 5} more" if len(mistakes) > 5 else "")
        raise WeightsError(
            f"The weights are of another architecture: {shown}. Choose the model that they were saved from."
        )
    network.load_state_dict(fitted, strict=False)
    return changes, (*left_out, *outside)


def _licence(path: Path) -> str:
    if path.suffix != ".safetensors":
        return NOT_STATED
    with safe_open(path, framework="pt") as file:
        about = file.metadata() or {}
    return about.get("license") or about.get("licence") or NOT_STATED


def _read_safetensors(path: Path) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} is not a safetensors file, or is damaged: {error}.") from error


def _read_pickle(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path} holds more than tensors (or is damaged), and Gyrus never runs code from a file of weights. "
            "Where you trust it, load it with its own library and save its state_dict() as .safetensors."
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} cannot be read as PyTorch weights: {error}.") from error
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            return content[wrapper]
    return content if isinstance(content, dict) else {}


def _shared_prefix(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> str:
    probe = next(iter(own))
    prefixes = {name.removesuffix(probe) for name in weights if name.endswith(probe)} | {""}
    return max(sorted(prefixes), key=lambda start: sum(start + name in weights for name in own))


def _fit_all(
    weights: Mapping[str, Tensor], own: Mapping[str, Tensor], stem: StemRule
) -> tuple[dict[str, Tensor], tuple[str, ...], list[str]]:
    first = next((name for name, value in own.items() if value.ndim >= 4), "")
    fitted, changes, mistakes = {}, dict[str, None](), []
    for name, place in own.items():
        if name not in weights:
            if not name.endswith("num_batches_tracked"):
                mistakes.append(f"{name} is missing")
            continue
        value = weights[name]
        if value.ndim == 4 and place.ndim == 5:
            value = inflate(value.float(), place.shape[2])
            changes["inflated from 2D to 3D"] = None
        if name == first and value.ndim == place.ndim and value.shape[1] != place.shape[1]:
            changes[f"stem: {value.shape[1]} to {place.shape[1]} channels by {stem}"] = None
            value = adapt_stem(value.float(), place.shape[1], stem)
        if value.shape != place.shape:
            mistakes.append(f"{name} is {tuple(value.shape)} in the file, {tuple(place.shape)} in the model")
        fitted[name] = value
    return fitted, tuple(changes), mistakes
