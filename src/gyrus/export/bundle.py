"""A bundle in memory: from decoded pixels to logits, without PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from gyrus.errors import ConfigError, DataError
from gyrus.export.hub import local_bundle
from gyrus.export.manifest import BUNDLE, BundleManifest, Member, SubjectModel, require_unchanged
from gyrus.inference import engines, onnx_runtime
from gyrus.inference.acquisition_facts import measure_facts
from gyrus.inference.decision_rule import DecisionRule, softmax
from gyrus.inference.engines import Engine, OpenVinoEngine, images_at_once
from gyrus.inference.measures import MeasuringEngine
from gyrus.inference.number_rule import NumberRule
from gyrus.inference.patch_engine import PatchEngine
from gyrus.inference.unlike_training import Measured, UnlikeTraining, reference_count
from gyrus.registry import look_up
from gyrus.transforms.normalisation import image_statistics

BundleEngine = Literal["auto", "onnxruntime", "openvino"]


@dataclass(frozen=True)
class LoadedMember:
    """A network of a bundle with its engine.

    Attributes:
        about: Its part of the manifest.
        columns: For each class of the bundle, the output that stands for it; of a number all outputs.
        engine: From images (B, C, *spatial) to logits (B, K) in the order of ``about.classes``, then embeddings (B, F).
        unlike: The distances of its training data; None where it has none.
        of_subject: From the pooled embeddings (S, F, 1, 1) of subjects to their logits; None where each image is
            answered alone.
    """

    about: Member
    columns: tuple[int, ...]
    engine: Engine
    unlike: UnlikeTraining | None
    of_subject: Engine | None = None

    def prepare(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pixels of an image after the steps, and their statistics, from decoded pixels uint8 (C, *spatial)."""
        pixels = self.about.preprocessing.apply(image, sequences=self.about.normalisation.sequences)
        return pixels, image_statistics(pixels, self.about.preprocessing.intensity)

    def without_image(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """What stands for the pixels and statistics of some samples, for a network that takes no image."""
        return np.zeros((count, 0, *self.about.image_size), np.uint8), np.zeros((count, 0))

    def outputs(
        self, pixels: np.ndarray, statistics: np.ndarray, beside: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The logits float32 (N, K), in the order of ``about.classes``, and the embeddings (N, F) of prepared pixels.

        Of a number the K outputs are the number, or its quantiles.

        Args:
            pixels: uint8 (N, C, *spatial), from :meth:`prepare`; without channels for a network that takes no image.
            statistics: As :meth:`prepare` returns them.
            beside: float32 (N, T), the numbers beside the image, for a network that takes them.

        Raises:
            DataError: The network takes images of another size.
        """
        self.require_size(pixels.shape[1:])
        step = images_at_once(pixels.shape[1:])
        parts = (slice(start, start + step) for start in range(0, len(pixels), step))
        found = np.concatenate(
            [
                self.engine(self.inputs(pixels[part], statistics[part], None if beside is None else beside[part]))
                for part in parts
            ]
        )
        return found[:, : len(self.columns)], found[:, len(self.columns) :]

    def of_all_images(self, embeddings: np.ndarray, subjects: Sequence[str | None]) -> np.ndarray:
        """The logits (N, K) of the subject of each image, by all of its images together.

        Args:
            embeddings: Of N images (N, F).
            subjects: The subject of each; None where unknown, which counts as a subject of its own.
        """
        model = self.about.subject_model
        assert model is not None
        assert self.of_subject is not None
        units = [f"image {place}" if name is None else f"subject {name}" for place, name in enumerate(subjects)]
        names, codes = np.unique(units, return_inverse=True)
        pooled = np.zeros((len(names), embeddings.shape[1]))
        np.add.at(pooled, codes, embeddings)
        pooled /= np.bincount(codes)[:, None]
        for first, last in model.maxima:
            pooled[:, first:last] = -np.inf
            np.maximum.at(pooled[:, first:last], codes, embeddings[:, first:last])
        logits = self.of_subject(pooled[..., None, None].astype(np.float32))[:, : len(self.columns)]
        return np.asarray(logits[codes])

    def inputs(self, pixels: np.ndarray, statistics: np.ndarray, beside: np.ndarray | None = None) -> np.ndarray:
        """What the network gets (N, C + T, *spatial) of prepared pixels; arguments as for :meth:`outputs`."""
        takes_image = self.about.in_channels > 0
        images = self.about.normalisation.apply(pixels, statistics) if takes_image else pixels.astype(np.float32)
        if beside is None:
            return images
        planes = beside.reshape(*beside.shape, *[1] * (images.ndim - 2))
        planes = np.broadcast_to(planes, (*beside.shape, *images.shape[2:]))
        return np.concatenate([images, planes], axis=1, dtype=np.float32)

    def require_size(self, shape: tuple[int, ...]) -> None:
        """Refuse prepared pixels of another size than the network takes.

        Args:
            shape: (C, *spatial).

        Raises:
            DataError: It has another number of channels or another size.
        """
        about = self.about
        expected = (about.in_channels, *about.image_size)
        if about.patches and shape[0] == about.in_channels and len(shape) == len(expected):
            return
        if tuple(shape) != expected:
            raise DataError(
                f"The classifier takes images of {about.in_channels} channels and {_sizes(about.image_size)} voxels "
                f"after its preprocessing, but these have {shape[0]} channels and {_sizes(shape[1:])}."
            )


@dataclass(frozen=True)
class Bundle:
    """A bundle, loaded once, that predicts any number of times.

    Attributes:
        folder: The folder.
        manifest: The content of ``bundle.json``.
        members: The networks.
        source: Its address on the Hub with the commit; empty for a folder.
    """

    folder: Path
    manifest: BundleManifest
    members: tuple[LoadedMember, ...]
    source: str = ""

    @classmethod
    def open(
        cls, folder: str | Path, engine: str = "auto", *, say: Callable[[str], None] = lambda _text: None
    ) -> Bundle:
        """Load a bundle, after a check that its files are as they were exported.

        Args:
            folder: The folder, or the address of a bundle on the Hub, as for :func:`gyrus.export.hub.local_bundle`.
            engine: "onnxruntime", "openvino", or "auto": ONNX Runtime for networks of images, OpenVINO for volumes,
                if installed and shipped, else the other.
            say: Told which revision of the Hub is used.

        Raises:
            DataError: There is no bundle, or a file is missing, damaged or changed.
            ConfigError: There is no such engine, or the bundle has no network in its format.
            MissingDependencyError: No engine is installed.
        """
        folder, source = local_bundle(folder, say)
        manifest = read_manifest(folder)
        chosen = [_choose(member, manifest.spatial_dims, engine) for member in manifest.members]
        names = [name for _, name in chosen]
        names += [_choose(each.subject_model, 2, engine)[1] for each in manifest.members if each.subject_model]
        weights = [str(Path(name).with_suffix(".bin").as_posix()) for name in names if name.endswith(".xml")]
        references = [each.unlike_training for each in manifest.members if each.unlike_training]
        require_unchanged(folder, [BUNDLE, *names, *weights, *references])
        return replace(cls.from_manifest(folder, manifest, engine), source=source)

    @classmethod
    def from_manifest(cls, folder: Path, manifest: BundleManifest, engine: str = "auto") -> Bundle:
        """Load the networks of a bundle without a check of its files.

        Raises:
            GyrusError: As for :meth:`open`.
        """
        members = []
        for about in manifest.members:
            loaded = _load_chosen(folder, _choose(about, manifest.spatial_dims, engine))
            run = PatchEngine(loaded, about.patches) if about.patches else loaded
            run = MeasuringEngine(run, about.measures, about.in_channels) if about.measures else run
            columns = tuple(about.classes.index(label) for label in manifest.classes)
            if manifest.target.is_number:
                columns = tuple(range(max(1, len(manifest.levels))))
            unlike = UnlikeTraining.load(folder / about.unlike_training) if about.unlike_training else None
            pooled = about.subject_model
            of_subject = _load_chosen(folder, _choose(pooled, 2, engine)) if pooled else None
            members.append(LoadedMember(about, columns, run, unlike, of_subject))
        return cls(folder, manifest, tuple(members))

    @property
    def engines(self) -> tuple[str, ...]:
        """The names of what runs the networks."""
        return tuple(dict.fromkeys(member.engine.name for member in self.members))

    def combine(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        """The logits (N, K) of the bundle from those of each member, in the order of ``manifest.classes``.

        Those of one member as they are; else the logarithm of the mean probability, as
        :func:`gyrus.inference.pooling.average_predictions`. Of a number, or of its sorted quantiles, the mean.
        """
        ordered = [
            each[:, member.columns].astype(np.float64) for each, member in zip(logits, self.members, strict=True)
        ]
        weights = [member.about.weight for member in self.members]
        if self.manifest.target.is_number:
            return np.asarray(np.einsum("m,mnk->nk", weights, np.sort(np.stack(ordered), axis=2)))
        if len(ordered) == 1:
            return ordered[0]
        mean = np.einsum("m,mnk->nk", weights, np.stack([softmax(each) for each in ordered]))
        return np.asarray(np.log(np.maximum(mean, np.finfo(np.float64).tiny)))

    @property
    def decision_rule(self) -> DecisionRule | None:
        """What is applied to new predictions of classes; None where nothing was chosen on a validation set."""
        return self.manifest.choices.decision_rule(self.manifest.classes) if self.manifest.choices else None

    @property
    def number_rule(self) -> NumberRule | None:
        """The interval and correction that are applied to new predictions of a number; None where there are none."""
        return self.manifest.number.rule if self.manifest.number else None

    def apart(self, found: np.ndarray, expected: np.ndarray) -> float:
        """The largest difference of two tables of combined logits (N, K): of probabilities; NaN counts as largest.

        Of a number it is in standard deviations of the training set.
        """
        if self.manifest.target.is_number:
            return float(np.abs(found - expected).max() / self.manifest.number_sd)
        return float(np.abs(softmax(found) - softmax(expected)).max())

    @property
    def reference_count(self) -> int:
        """The validation subjects that p-values of being like the training data are ranks among; 0 without any."""
        return reference_count(member.unlike for member in self.members)

    def classify(self, image: np.ndarray) -> tuple[np.ndarray, list[np.ndarray | None]]:
        """The logits (K,) of one image, and its distances (1, parts) to the training data of each member.

        Args:
            image: Decoded pixels uint8 (C, rows, columns).
        """
        compared = any(member.unlike for member in self.members)
        facts = measure_facts(image.mean(axis=0, dtype=np.float32)) if compared else {}
        found, distances = list[np.ndarray](), list[np.ndarray | None]()
        for member in self.members:
            pixels, statistics = member.prepare(image)
            logits, embedding = member.outputs(pixels[None], statistics[None])
            found.append(logits)
            if member.unlike is None:
                distances.append(None)
                continue
            values = np.array([list(facts.values())])
            measured = Measured.from_pixels(embedding, pixels[None], values, tuple(facts))
            distances.append(member.unlike.distances(measured))
        return np.asarray(self.combine(found)[0]), distances


def read_manifest(folder: Path) -> BundleManifest:
    """Read ``bundle.json``.

    Raises:
        DataError: There is no bundle, or the file is damaged or does not follow the schema.
    """
    if not (folder / BUNDLE).is_file():
        raise DataError(f"There is no bundle in {folder}: it has no {BUNDLE}. Make one with `gyrus export`.")
    manifest = BundleManifest.load(folder / BUNDLE)
    named = {manifest.internal_scores or BUNDLE}
    for number, member in enumerate(manifest.members):
        if sorted(member.classes) != sorted(manifest.classes):
            raise DataError(
                f"{folder / BUNDLE}: member {number} has the classes {list(member.classes)}, the bundle "
                f"{list(manifest.classes)}."
            )
        named |= {*member.networks.values(), member.unlike_training or BUNDLE}
        named |= {*member.subject_model.networks.values()} if member.subject_model else set()
    for name in sorted(named):
        if not (folder / name).resolve().is_relative_to(folder.resolve()):
            raise DataError(f"{folder / BUNDLE} names a file outside of the bundle: {name}.")
    return manifest


def _choose(member: Member | SubjectModel, spatial_dims: int, engine: str) -> tuple[str, str]:
    """The engine and the file of the network."""
    if engine == "torch":
        raise ConfigError("A bundle runs without PyTorch. Use --engine auto, onnxruntime or openvino.")
    look_up(engine, dict.fromkeys(get_args(BundleEngine)), "engine of bundles")
    able = {}
    if "onnx" in member.networks:
        able["onnxruntime"] = member.networks["onnx"]
    if member.networks:
        able["openvino"] = member.networks.get("openvino", member.networks.get("onnx", ""))
    if engine != "auto":
        if engine not in able:
            raise ConfigError(f"The bundle has no network in the format ONNX for the engine {engine}. Use openvino.")
        return engine, able[engine]
    installed = {"onnxruntime": onnx_runtime.is_installed(), "openvino": engines.is_installed()}
    order = ("onnxruntime", "openvino") if spatial_dims == 2 else ("openvino", "onnxruntime")
    usable = [name for name in order if name in able]
    best = next((name for name in usable if installed[name]), usable[0])
    return best, able[best]


def _load_chosen(folder: Path, chosen: tuple[str, str]) -> Engine:
    kind, name = chosen
    path = folder / name
    if kind == "onnxruntime":
        return onnx_runtime.OnnxRuntimeEngine(path)
    return OpenVinoEngine.from_file(path)


def _sizes(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))
