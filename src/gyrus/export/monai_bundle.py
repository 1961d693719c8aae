"""A bundle that MONAI reads as one of its own: ``configs/`` and ``models/`` beside the other files of a bundle.

MONAI has no transform that gives exactly the pixels of the preprocessing here, so its config names the classes of this
module: who loads the bundle with MONAI needs Gyrus and PyTorch. The layout is that of
https://docs.monai.io/en/stable/mb_specification.html.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gyrus.errors import ConfigError, GyrusError
from gyrus.export.manifest import TOLERANCE, BundleManifest, Member
from gyrus.extras import DISTRIBUTION
from gyrus.files import atomic_path, make_folder, write_json
from gyrus.imaging.decoding import GrayWindow, decode, is_image
from gyrus.imaging.dicom import read_series
from gyrus.imaging.volume_formats import read_volume
from gyrus.inference.decision_rule import softmax
from gyrus.models.build import build
from gyrus.models.classifier import Classifier
from gyrus.models.config import ModelConfig
from gyrus.models.model_table import CLASSICAL_MODELS
from gyrus.models.ordinal_outputs import ORDINAL_OUTPUTS
from gyrus.text import for_spreadsheets
from gyrus.transforms.normalisation import Normalisation, image_statistics
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.transforms.volume_steps import apply_steps, to_pixels

CONFIG, METADATA, WEIGHTS = "configs/inference.json", "configs/metadata.json", "models/model.pt"

_EVALUATED = ("$", "@", "%")
"""MONAI takes a text of its configs that begins so for code or a reference."""

Item = Mapping[str, Any]
"""An item of a data set of MONAI."""


def why_not_monai(manifest: BundleManifest) -> str:
    """Why a classifier cannot be a bundle of MONAI without predicting other things than here; empty if it can."""
    if manifest.target.is_number:
        return f"it predicts the number '{manifest.target.name}', and the files of MONAI here are those of classes"
    if manifest.channels:
        return "it takes several files of a session as channels, and an item of MONAI's data sets here is one file"
    if manifest.table_columns:
        return "it takes columns of a table, and an item of MONAI's data sets here is one file"
    if len(manifest.members) > 1:
        return "it has several networks, and the mean of their probabilities has no place in a bundle of MONAI"
    if manifest.members[0].patches:
        return "it averages the logits of patches, and the inferers of MONAI average other outputs"
    if manifest.stack or manifest.slices:
        return "it takes stacks or slices of scans, and an item of MONAI's data sets here is one file"
    if manifest.members[0].model["name"] in CLASSICAL_MODELS:
        return "it was fitted without a network, and a bundle of MONAI here builds one of the networks of Gyrus"
    texts = [*manifest.classes, manifest.title, manifest.licence, manifest.intended_use]
    if strange := [text for text in texts if text.startswith(_EVALUATED)]:
        return f"MONAI would run '{strange[0]}' as code; change the name"
    return ""


def write_monai(folder: Path, model: Classifier, manifest: BundleManifest, versions: Mapping[str, str]) -> None:
    """Add the files of MONAI to a bundle.

    Args:
        folder: The bundle.
        model: Its network.
        manifest: What it is.
        versions: Of monai, torch, numpy and Gyrus, by distribution.

    Raises:
        ConfigError: A bundle of MONAI cannot hold it.
    """
    if reason := why_not_monai(manifest):
        raise ConfigError(f"It cannot be exported in the format monai: {reason}. Leave monai out of --format.")
    (member,) = manifest.members
    for name in (CONFIG, WEIGHTS):
        make_folder((folder / name).parent)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    torch.save(weights, folder / WEIGHTS)
    layer = type(model.head.classify)
    ordinal = next((name for name, output in ORDINAL_OUTPUTS.items() if layer is output), None)
    write_json(folder / CONFIG, _config(manifest, member, ordinal))
    write_json(folder / METADATA, _metadata(manifest, member, versions))


def require_same_logits(folder: Path, manifest: BundleManifest) -> None:
    """Load a bundle with MONAI's own loader, and compare its answers to the reference inputs.

    Args:
        folder: The bundle.
        manifest: What it is; its references hold the answers of the run.

    Raises:
        GyrusError: A probability differs by more than :data:`gyrus.export.manifest.TOLERANCE`.
    """
    from monai.bundle import ConfigParser

    parser = ConfigParser()
    parser.read_config(str(folder / CONFIG))
    parser["bundle_root"] = str(folder)
    parser["device"] = "cpu"
    network, prepare = parser.get_parsed_content("network"), parser.get_parsed_content("preprocessing")
    largest = 0.0
    for reference in manifest.references:
        images = prepare({"image": str(folder / "reference" / reference.sample)})["image"][None]
        with torch.inference_mode():
            found = softmax(network(images).double().numpy())[0]
        wanted = [reference.probabilities[name] for name in manifest.classes]
        largest = float(np.maximum(largest, np.abs(found - wanted).max()))
    if not largest <= TOLERANCE:
        raise GyrusError(
            f"Loaded with MONAI the bundle does not give the probabilities of the run: the largest difference is "
            f"{largest:.2g} (at most {TOLERANCE:g} is allowed). Nothing was written."
        )


def make_network(
    model: Mapping[str, Any],
    in_channels: int,
    num_classes: int,
    image_size: Sequence[int],
    ordinal: str | None = None,
) -> Classifier:
    """The network that a config of MONAI describes, without its weights.

    Args:
        model: Name, options and head, as in ``bundle.json``.
        in_channels: Channels of an image.
        num_classes: Logits per image.
        image_size: (rows, columns), or (slices, rows, columns).
        ordinal: The loss of ordered classes that determines the last layer; None for other losses.
    """
    network = build(
        ModelConfig.model_validate(dict(model)),
        in_channels=in_channels,
        num_classes=num_classes,
        image_size=image_size,
        with_pretrained=False,
    )
    if ordinal:
        network.predict_order(ordinal)
    return network


def with_weights(network: nn.Module, path: str) -> nn.Module:
    """A network with the weights of a file, ready to predict. The file is read without running code."""
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


class PrepareImage:
    """A transform of MONAI's data sets: from the file of a scan to what the network takes, as everywhere in Gyrus."""

    def __init__(
        self,
        preprocessing: Mapping[str, Any],
        normalisation: Mapping[str, Any],
        window: Sequence[float] | None = None,
        key: str = "image",
    ) -> None:
        """Read the steps of ``bundle.json``.

        Args:
            preprocessing: The steps on volumes and images.
            normalisation: The numbers of the intensity scaling.
            window: Gray values that become 0 and 255 in images with more than 8 bits.
            key: The field of an item that holds the path of an image, a volume or the folder of a DICOM series.
        """
        self.preprocessing = PreprocessingConfig.model_validate(dict(preprocessing))
        self.normalisation = Normalisation.from_document(normalisation)
        self.window = GrayWindow(*window) if window else None
        self.key = key

    def __call__(self, item: Item) -> dict[str, Any]:
        """The item with the prepared image, float32 (C, *spatial), in the place of its path.

        Raises:
            GyrusError: The file cannot be read or prepared.
        """
        pixels = self.preprocessing.apply(self._decoded(Path(item[self.key])))
        statistics = image_statistics(pixels, self.preprocessing.intensity)
        image = self.normalisation.apply(pixels[None], statistics[None])[0]
        return {**item, self.key: torch.from_numpy(np.ascontiguousarray(image, np.float32))}

    def _decoded(self, path: Path) -> np.ndarray:
        if is_image(path.name):
            return decode(path.read_bytes(), self.window)
        volume = read_series(sorted(path.iterdir())) if path.is_dir() else read_volume(path)
        return to_pixels(apply_steps(volume, self.preprocessing.volume))


def save_probabilities(
    dataset: Iterable[Item],
    names: Sequence[str],
    network: nn.Module,
    inferer: Any,
    classes: Sequence[str],
    path: str,
) -> None:
    """Predict the items of a data set, and write a table: path of the file, and a column per class.

    Args:
        dataset: Items with the prepared "image".
        names: Their files.
        network: The network.
        inferer: An inferer of MONAI.
        classes: The class names.
        path: The table (.csv) to write.
    """
    device = next(network.parameters()).device
    with atomic_path(Path(path)) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["sample", *[f"probability:{name}" for name in classes]])
        for name, item in zip(names, dataset, strict=True):
            with torch.inference_mode():
                logits = inferer(item["image"][None].to(device), network).double().cpu().numpy()
            writer.writerow([for_spreadsheets(name), *softmax(logits)[0].tolist()])


def _config(manifest: BundleManifest, member: Member, ordinal: str | None) -> dict[str, Any]:
    """``inference.json``: MONAI instantiates what has a ``_target_``, and evaluates texts that begin with ``$``."""
    here = __name__
    return {
        "imports": ["$import pathlib", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "images",
        "output": "predictions.csv",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "classes": list(manifest.classes),
        "network_def": {
            "_target_": f"{here}.{make_network.__name__}",
            "model": dict(member.model),
            "in_channels": member.in_channels,
            "num_classes": len(member.classes),
            "image_size": list(member.image_size),
            "ordinal": ordinal,
        },
        "network": {
            "_target_": f"{here}.{with_weights.__name__}",
            "network": "$@network_def.to(@device)",
            "path": f"$str(pathlib.Path(@bundle_root) / '{WEIGHTS}')",
        },
        "preprocessing": {
            "_target_": "Compose",
            "transforms": [
                {
                    "_target_": f"{here}.{PrepareImage.__name__}",
                    "preprocessing": member.preprocessing.model_dump(mode="json"),
                    "normalisation": asdict(member.normalisation),
                    "window": list(manifest.window) if manifest.window else None,
                }
            ],
        },
        "files": "$sorted(str(path) for path in pathlib.Path(@dataset_dir).iterdir())",
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': path} for path in @files]",
            "transform": "@preprocessing",
        },
        "inferer": {"_target_": "SimpleInferer"},
        "save": {
            "_target_": f"{here}.{save_probabilities.__name__}",
            "_mode_": "callable",
            "dataset": "@dataset",
            "names": "@files",
            "network": "@network",
            "inferer": "@inferer",
            "classes": "@classes",
            "path": "@output",
        },
        "run": ["$@save()"],
    }


def _metadata(manifest: BundleManifest, member: Member, versions: Mapping[str, str]) -> dict[str, Any]:
    """``metadata.json``."""
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json",
        "version": "0.1.0",
        "changelog": {"0.1.0": f"Exported by Gyrus {versions[DISTRIBUTION]} at {manifest.created}"},
        "monai_version": versions["monai"],
        "pytorch_version": versions["torch"],
        "numpy_version": versions["numpy"],
        "required_packages_version": {DISTRIBUTION: versions[DISTRIBUTION]},
        "name": manifest.title,
        "task": "Classification of brain MRI",
        "description": "Calibration, operating point and scores are in bundle.json and model_card.md.",
        "authors": "Not stated",
        "copyright": manifest.licence,
        "intended_use": manifest.intended_use,
        "image_classes": "Brain MRI, one channel" if member.in_channels == 1 else "Brain MRI",
        "label_classes": ", ".join(manifest.classes),
        "pred_classes": ", ".join(manifest.classes),
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "MR",
                    "num_channels": member.in_channels,
                    "spatial_shape": list(member.image_size),
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {str(number): "image" for number in range(member.in_channels)},
                }
            },
            "outputs": {
                "pred": {
                    "type": "logits",
                    "format": "classes",
                    "num_channels": len(member.classes),
                    "spatial_shape": [],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {str(number): name for number, name in enumerate(member.classes)},
                }
            },
        },
    }
