"""Pretrained weights: read from a file or the Hugging Face hub without running code, and adapted to a network."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from gyrus.configuration import Section, parse, read_document
from gyrus.errors import WeightsError
from gyrus.models.options import StemRule

NOT_STATED = "not stated"

_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")


@dataclass(frozen=True)
class WeightsRecord:
    """The source of the weights of a model, for the run folder.

    Attributes:
        source: The file, or the repository on the hub.
        digest: SHA-256 of the file.
        licence: As the source states it, or "not stated".
        changes: How the weights were adapted: "stem: 3 to 1 channels by sum", "inflated from 2D to 3D".
        left_out: Tensors of the file that the model does not have: the head for other classes.
    """

    source: str
    digest: str
    licence: str
    changes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pth, .pt, .bin or .ckpt file, on the CPU; no code in the file is executed.

    Raises:
        WeightsError: The file is missing or damaged, contains code, or contains no tensors.
    """
    if not path.is_file():
        raise WeightsError(f"There is no weights file at {path}. Give the path of a .safetensors or .pth file.")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickle(path)
    weights = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise WeightsError(f"{path} contains no named tensors. Save the state_dict() of a model.")
    return weights


class WeightsMapping(Section):
    r"""How the weights of other software are read: the content of a mapping file, YAML.

    Example::

        rename:
          '^module\.encoder\.': ''
          '\.norm(\d)\.': '.bn\1.'
        drop: ['^module\.decoder\.']
        preprocessing: {intensity: {method: zscore}}
        licence: Apache-2.0
    """

    rename: dict[str, str] = Field(
        default_factory=dict, description="regular expressions of names and their replacements, applied in order"
    )
    drop: tuple[str, ...] = Field((), description="regular expressions of names that are left out, before renaming")
    preprocessing: dict[str, Any] = Field(
        default_factory=dict,
        description="fields of `preprocessing` that the weights were trained with; a different config gets a warning",
    )
    licence: str = Field(NOT_STATED, description="licence of the weights")

    @model_validator(mode="after")
    def _patterns(self) -> Self:
        for pattern in (*self.rename, *self.drop):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"'{pattern}' is not a regular expression: {error}") from error
        return self

    def apply(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights under the names of the model.

        Raises:
            WeightsError: No tensor is left, or two have the same new name.
        """
        found: dict[str, Tensor] = {}
        for name, value in weights.items():
            if any(re.search(pattern, name) for pattern in self.drop):
                continue
            new = name
            for pattern, replacement in self.rename.items():
                new = re.sub(pattern, replacement, new)
            if new in found:
                raise WeightsError(f"The mapping gives two tensors the name {new}; one of them is {name}.")
            found[new] = value
        if not found:
            raise WeightsError("The mapping drops all tensors of the weights file. Change its `drop`.")
        return found


def read_mapping(path: str | Path) -> WeightsMapping:
    """Read a mapping file.

    Raises:
        ConfigError: There is no such file, or its content is not a mapping.
    """
    file = Path(path).expanduser()
    return parse(WeightsMapping, read_document(file), where=str(file))


@dataclass(frozen=True)
class HubWeights:
    """Weights published on the Hugging Face hub.

    Attributes:
        repository: owner/name.
        filenames: Possible names of the file, in order of preference.
        licence: As the publisher states it, or "not stated".
    """

    repository: str
    filenames: tuple[str, ...]
    licence: str


def download(source: HubWeights, *, endpoint: str | None = None) -> Path:
    """The file of published weights, from the local cache if it is there.

    Args:
        source: What to download.
        endpoint: Address of the hub; by default that in HF_ENDPOINT, or the public one.

    Raises:
        WeightsError: The hub cannot be reached or has no such file; the message says what to do.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    reason: Exception | None = None
    for filename in source.filenames:
        try:
            return Path(hf_hub_download(source.repository, filename, endpoint=endpoint))
        except EntryNotFoundError as error:
            reason = error
        # the errors have no common base class: they come from the network library, the file system and the hub
        except Exception as error:
            reason = error
            break
    first_line = (str(reason).strip() or type(reason).__name__).splitlines()[0]
    raise WeightsError(
        f"Cannot download the weights '{source.repository}' from the Hugging Face hub: {first_line} "
        "Download them once with a connection (they are cached), or set `pretrained` to the path of a weights file, "
        "or start from random weights with `pretrained: false`."
    ) from reason


def inflate(weight: Tensor, depth: int) -> Tensor:
    """A 3D kernel whose response to a stack of identical slices is that of the 2D kernel to one of them.

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

    With "sum", a grayscale image has the same response as its copy in every channel; kernels are repeated cyclically
    for more channels, with the same scaling. With "mean", every channel gets the mean kernel, a third of the strength
    (as in MRI-Scans-Model, docs/published-projects.md).

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
    """Load weights into a whole network; adapts the stem to its channels, and 2D kernels to 3D.

    Args:
        weights: Name to tensor; a common prefix of all names ("backbone.", "module.") is removed.
        network: Filled in place.
        stem: How the stem is adapted.
        head: Names of layers that may be left out although the network has some of their tensors: "head.fc".

    Returns:
        The adaptations, and the names of the tensors left out.

    Raises:
        WeightsError: Tensors are missing, have another shape, or belong to layers that the network does not have.
    """
    own = network.state_dict()
    prefix = _shared_prefix(weights, own)
    inside = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    fitted, changes, mistakes = _fit_all(inside, own, stem)
    outside = tuple(name for name in weights if not name.startswith(prefix))
    left_out = tuple(name for name in inside if name not in own)
    tops = {name.partition(".")[0] for name in own}
    unexpected = [name for name in left_out if name.partition(".")[0] in tops and not name.startswith(head)]
    mistakes += [f"{name} is not in the model" for name in unexpected]
    if mistakes:
        shown = "; ".join(mistakes[:5]) + (f"; and {len(mistakes) - 5} more" if len(mistakes) > 5 else "")
        raise WeightsError(
            f"The weights belong to another architecture: {shown}. Choose the model that they were saved from."
        )
    network.load_state_dict(fitted, strict=False)
    return changes, (*left_out, *outside)


def licence_of(path: Path) -> str:
    """The licence in the metadata of a .safetensors file, or "not stated"."""
    if path.suffix != ".safetensors":
        return NOT_STATED
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    return metadata.get("license") or metadata.get("licence") or NOT_STATED


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
            f"{path} contains more than tensors (or is damaged), and Gyrus never runs code from a weights file. "
            "If you trust it, load it with its own library and save its state_dict() as .safetensors."
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
    for name, target in own.items():
        if name not in weights:
            if not name.endswith("num_batches_tracked"):
                mistakes.append(f"{name} is missing")
            continue
        value = weights[name]
        if value.ndim == 4 and target.ndim == 5:
            value = inflate(value.float(), target.shape[2])
            changes["inflated from 2D to 3D"] = None
        if name == first and value.ndim == target.ndim and value.shape[1] != target.shape[1]:
            changes[f"stem: {value.shape[1]} to {target.shape[1]} channels by {stem}"] = None
            value = adapt_stem(value.float(), target.shape[1], stem)
        if value.shape != target.shape:
            mistakes.append(f"{name} is {tuple(value.shape)} in the file, {tuple(target.shape)} in the model")
        fitted[name] = value
    return fitted, tuple(changes), mistakes
