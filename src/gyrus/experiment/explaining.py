"""Which pixels a classifier's answers came from, and whether that can be believed."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from gyrus.data.manifest import VOLUME_FILES
from gyrus.data.volumes.writing import write_nifti
from gyrus.errors import ConfigError, DataError, GyrusError
from gyrus.experiment.config import DataConfig
from gyrus.experiment.display import SILENT, Display
from gyrus.experiment.ensembles import members_of
from gyrus.experiment.explained_images import Chosen, Crowd, crowd_of_inputs, crowd_of_run, one_a_person, open_images
from gyrus.experiment.predicting import Trained
from gyrus.explanation.album import Album, Means, Showing
from gyrus.explanation.atlas import Atlas
from gyrus.explanation.contract import Attribution, MethodSpec, Settings, scaled
from gyrus.explanation.layers import still
from gyrus.explanation.location import brain_of, region_table
from gyrus.explanation.methods import METHODS, explain, logits_of, pick_layer
from gyrus.explanation.placement import to_volume
from gyrus.explanation.reliance import swap_backgrounds
from gyrus.explanation.sanity import agreement
from gyrus.explanation.targets import Contrast, Target, parse_target
from gyrus.explanation.verdict import MethodReport, Scrutiny, Trial, as_table
from gyrus.files import atomic_path, digest, read_json, write_json
from gyrus.prediction.predict import pick_device
from gyrus.registry import look_up
from gyrus.report.explanation import write_explanation
from gyrus.report.explanation_figures import COLOUR_MAPS
from gyrus.report.of_runs import report_run
from gyrus.runs import Run
from gyrus.types import SPLIT_WARNINGS

Grid = Literal["random", "best", "worst", "class", "methods"]
"""Which images are shown: by chance, most surely right, most surely wrong, of each class, or few by every method."""

SYSTEM_D = {"very": 1.5, "mild": 1.3, "moderate": 1.2, "non": 1.0}
"""How system D emphasises its classes, by the first word of their names."""


@dataclass(frozen=True)
class ExplainConfig:
    """What is asked, and what is shown.

    Attributes:
        methods: Names in :data:`gyrus.explanation.methods.METHODS`.
        target: "predicted", "true", a class, or two of them with a minus sign between.
        layer: Of class activation maps; by default the deepest that is fine enough.
        grid: Which images are shown.
        shown: How many of them.
        images: How many the checks and the mean maps are made of, as far as possible each of another person.
        checks: Whether maps are checked, which takes several times as long as to make them.
        emphasis: Power of the maps of each class, for show; {"system-d": 1} for system D's.
        colours: Colour map.
        atlas: Regions to tell maps apart by.
        settings: The numbers that methods leave open.
        device: Where to compute.

    Raises:
        ConfigError: A name is not in its table, or a number is out of its range.
    """

    methods: tuple[str, ...] = ("grad-cam",)
    target: str = "predicted"
    layer: str | None = None
    grid: Grid = "random"
    shown: int = 8
    images: int = 24
    checks: bool = True
    emphasis: Mapping[str, float] = field(default_factory=dict)
    colours: str = "inferno"
    atlas: Atlas | None = None
    settings: Settings = field(default_factory=Settings)
    device: str = "auto"

    def __post_init__(self) -> None:
        for method in self.methods:
            look_up(method, METHODS, "method")
        look_up(self.grid, dict.fromkeys(get_args(Grid)), "grid")
        look_up(self.colours, COLOUR_MAPS, "colour map")
        if not self.methods:
            raise ConfigError(f"Name at least one method: {', '.join(METHODS)}.")
        if self.shown < 1 or self.images < 2:
            raise ConfigError(f"`shown` must be at least 1 and `images` at least 2, got {self.shown}, {self.images}.")


def explain_run(
    run: Run | str | Path | Sequence[Run | str | Path],
    inputs: Sequence[str | Path] = (),
    *,
    config: ExplainConfig | None = None,
    out: str | Path | None = None,
    data: DataConfig | None = None,
    display: Display = SILENT,
) -> Album:
    """Heat maps of a trained classifier, and what the checks say of them.

    A call that was broken off goes on where it was when it is repeated.

    Args:
        run: The run, or its folder. Of several, or of a cross-validation, the first is explained, and the maps of the
            others are compared with its.
        inputs: Image files, folders or tables; by default the test part of the run.
        config: What is asked.
        out: The folder to write into: new, empty, or of an earlier explanation. By default ``explanation`` in the run.
        data: How to read the inputs.
        display: Where progress is shown.

    Returns:
        The folder, with the page, the maps and the checks.

    Raises:
        RunError: There is no finished run.
        ConfigError: A method, layer, target or grid is not there.
        DataError: An image cannot be read, or what is asked for needs labels that are not known.
    """
    asked = config or ExplainConfig()
    first, *others = members_of([run] if isinstance(run, Run | str | Path) else run)
    album = Album(Path(out) if out else first.explanation)
    _require_own(album)
    trained, device = Trained.load(first), pick_device(asked.device)
    target = parse_target(asked.target, trained.classes)
    if inputs:
        crowd = crowd_of_inputs(trained, inputs, data or DataConfig(), device, display)
    else:
        crowd = crowd_of_run(first, trained.classes)
    task = _Task.of(asked, first, trained, crowd, target, album, device, display)
    maps = {method: task.maps(method) for method in asked.methods}
    reports = [task.report(method, maps[method], others) for method in asked.methods] if asked.checks else []
    _write(task, maps, reports)
    if out is None:
        report_run(first)
    return album


@dataclass(frozen=True, eq=False)
class _Task:
    """Everything that is asked, and everything that it is asked of."""

    asked: ExplainConfig
    run: Run
    trained: Trained
    crowd: Crowd
    places: np.ndarray
    shown: int
    chosen: Chosen
    logits: np.ndarray
    target: Target
    layer: str | None
    album: Album
    display: Display

    @classmethod
    def of(
        cls,
        asked: ExplainConfig,
        run: Run,
        trained: Trained,
        crowd: Crowd,
        target: Target,
        album: Album,
        device: torch.device,
        display: Display,
    ) -> _Task:
        model = trained.model.to(device).eval()
        shown = choose_shown(crowd, asked, trained.classes, seed=asked.settings.seed)
        tried = _choose_tried(crowd, asked.images, seed=asked.settings.seed)
        places = np.concatenate([shown, tried])
        chosen = open_images(crowd, places, trained, display)
        needs_layer = asked.layer is not None or any(METHODS[method].needs_layer for method in asked.methods)
        with still(model):
            layer = pick_layer(model, chosen.images[:1].to(device), asked.layer) if needs_layer else None
        logits = logits_of(model, chosen.images)
        return cls(asked, run, trained, crowd, places, len(shown), chosen, logits, target, layer, album, display)

    @property
    def model(self) -> nn.Module:
        return self.trained.model

    @cached_property
    def contrast(self) -> Contrast:
        return self.target.resolve(self.logits, self.chosen.truths, self.trained.classes)

    @property
    def tried(self) -> slice:
        """Those of the images that the checks are made of."""
        return slice(self.shown, None)

    @cached_property
    def brains(self) -> np.ndarray:
        """Where the brain is in the images that the checks are made of."""
        return np.stack([self._brain(number) for number in range(self.shown, len(self.places))])

    @cached_property
    def trial(self) -> Trial:
        """Set up for the checks."""
        with self.display.progress("Preparing the checks"):
            shuffled = None
            if (self.run.shuffled / "run.json").is_file() and Run(self.run.shuffled).status == "finished":
                shuffled = Trained.load(Run(self.run.shuffled)).model.to(next(self.model.parameters()).device).eval()
            return Trial.of(
                self.model,
                self.chosen.images[self.tried],
                self.contrast.select(self.tried),
                np.unique(self.chosen.people[self.tried], return_inverse=True)[1],
                brains=self.brains,
                shuffled=shuffled,
                seed=self.asked.settings.seed,
            )

    def maps(self, method: str) -> np.ndarray:
        """The maps of all images by one method, computed now or before."""
        path = self.album.work / f"{self._key(method)}.npy"
        if path.is_file():
            return np.asarray(np.load(path, allow_pickle=False))
        with self.display.progress(METHODS[method].title) as progress:
            maps = explain(
                self.model,
                self.chosen.images,
                self.contrast,
                method,
                layer=self._layer_of(method),
                settings=self.asked.settings,
                progress=progress,
            )
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, maps)
        return maps

    def report(self, method: str, maps: np.ndarray, others: Sequence[Run]) -> MethodReport:
        """What the checks say of one method, found out now or before."""
        folds = [str(run.folder.resolve()) for run in others]
        path = self.album.work / f"{self._key(method, folds)}.json"
        if path.is_file():
            return MethodReport.from_document(read_json(path))
        contrast = self.contrast.select(self.tried)

        def again(model: nn.Module, images: Tensor) -> np.ndarray:
            layer, settings = self._layer_of(method), self.asked.settings
            return explain(model, images, contrast, method, layer=layer, settings=settings)

        layer = self._layer_of(method)
        trial, by_others = self.trial, [self._maps_of(run, method) for run in others]
        with self.display.progress(f"Checking {METHODS[method].title}") as progress:
            found = trial.judge(method, maps[self.tried], again, layer=layer, folds=by_others, progress=progress)
        write_json(path, asdict(found))
        return found

    def _maps_of(self, run: Run, method: str) -> np.ndarray:
        """The maps of another network, fed as it is used to, of the images that the checks are made of."""
        other = Trained.load(run)
        chosen = open_images(self.crowd, self.places[self.tried], other, self.display)
        device = next(self.model.parameters()).device
        with self.display.progress(f"{METHODS[method].title} by {run.folder.name}") as progress:
            return explain(
                other.model.to(device),
                chosen.images,
                self.contrast.select(self.tried),
                method,
                layer=self._layer_of(method),
                settings=self.asked.settings,
                progress=progress,
            )

    def _layer_of(self, method: str) -> str | None:
        return self.layer if METHODS[method].needs_layer else None

    def _brain(self, number: int) -> np.ndarray:
        gray = self.chosen.gray[number]
        if gray.ndim == 2 or VOLUME_FILES not in self.chosen.manifests[number].table:
            return brain_of(gray)
        own = self.chosen.own(number)
        return brain_of(gray, None if own.affine is None else own.affine @ own.placement.matrix)

    def _key(self, method: str, folds: Sequence[str] = ()) -> str:
        return digest(
            {
                "weights": self._weights,
                "images": [manifest.table["digest"].iloc[0] for manifest in self.chosen.manifests],
                "shown": self.shown,
                "plus": self.contrast.plus.tolist(),
                "minus": None if self.contrast.minus is None else self.contrast.minus.tolist(),
                "method": method,
                "layer": self._layer_of(method),
                "settings": asdict(self.asked.settings),
                "folds": list(folds),
            }
        )[:24]

    @cached_property
    def _weights(self) -> str:
        return hashlib.sha256(self.run.weights.read_bytes()).hexdigest()


def choose_shown(crowd: Crowd, asked: ExplainConfig, classes: Sequence[str], *, seed: int) -> np.ndarray:
    """The places of the images to show, each of another person as far as there are enough.

    Raises:
        DataError: The grid needs labels, or there is no such image.
    """
    shuffled = np.random.default_rng(seed).permutation(len(crowd))
    answers, sureness = crowd.probabilities.argmax(axis=1), crowd.probabilities.max(axis=1)
    if asked.grid == "random":
        return one_a_person(shuffled, crowd.people, asked.shown)
    if asked.grid in ("best", "worst"):
        if (crowd.truths < 0).any():
            raise DataError(
                f"The grid '{asked.grid}' needs to know which answers are right, and the images have no labels. Use "
                "random, class or methods, or explain the test part of the run by naming no images."
            )
        wanted = (answers == crowd.truths) == (asked.grid == "best")
        if not wanted.any():
            raise DataError(
                f"No answer is {'right' if asked.grid == 'best' else 'wrong'}, so there is nothing to show."
            )
        places = shuffled[wanted[shuffled]]
        return one_a_person(places[np.argsort(-sureness[places], kind="stable")], crowd.people, asked.shown)
    groups = np.where(crowd.truths >= 0, crowd.truths, answers)
    each = max(1, asked.shown // len(classes))
    found = [one_a_person(shuffled[groups[shuffled] == k], crowd.people, each) for k in range(len(classes))]
    return np.concatenate(found)


def emphasis_of(asked: Mapping[str, float], classes: Sequence[str]) -> dict[str, float]:
    """The power of each class's maps.

    Args:
        asked: Class to power, or {"system-d": 1} for the powers of that system, which goes by the classes' first words.
        classes: The names.

    Raises:
        ConfigError: There is no such class, or a power is not above 0.
    """
    if "system-d" in asked:
        first = {name: name.lower().replace("-", "_").replace(" ", "_").split("_")[0] for name in classes}
        return {name: SYSTEM_D.get(word, 1.0) for name, word in first.items()}
    for name, power in asked.items():
        look_up(name, dict.fromkeys([*classes, "system-d"]), "class")
        if not power > 0:
            raise ConfigError(f"The emphasis of '{name}' must be a power above 0, got {power}.")
    return {name: asked.get(name, 1.0) for name in classes} if asked else {}


def _choose_tried(crowd: Crowd, count: int, *, seed: int) -> np.ndarray:
    """By another draw than those shown, so that what is looked at decides nothing."""
    return one_a_person(np.random.default_rng([seed, 1]).permutation(len(crowd)), crowd.people, count)


def _require_own(album: Album) -> None:
    """Refuse a folder that holds something else; of an earlier explanation only what was computed is kept."""
    folder = album.folder
    if folder.is_dir() and any(folder.iterdir()) and not (album.is_whole or album.work.is_dir()):
        raise GyrusError(f"{folder} holds something else. Give a new folder as --out.")
    album.work.mkdir(parents=True, exist_ok=True)
    (folder / "album.json").unlink(missing_ok=True)
    for name in ("maps", "means", "figures"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for path in (album.page, album.checks, album.regions):
        path.unlink(missing_ok=True)


def _write(task: _Task, maps: Mapping[str, np.ndarray], reports: Sequence[MethodReport]) -> None:
    asked, album = task.asked, task.album
    emphasis = emphasis_of(asked.emphasis, task.trained.classes)
    notes = [*_write_maps(task, maps, emphasis), *_statement(task)]
    for method, values in maps.items():
        _means(task, METHODS[method], values[task.tried]).save(album.means(method))
    if asked.atlas:
        _write_regions(task, asked.atlas, maps)
    if reports:
        _scrutiny(task, maps, reports, notes).save(album.checks)
    album.save_showing(
        Showing(
            title=task.run.folder.resolve().name,
            grid=asked.grid,
            target=str(task.target),
            methods=asked.methods,
            shown=task.chosen.names[: task.shown],
            colours=asked.colours,
            layer=task.layer,
            emphasis=emphasis or None,
            averaged=len(task.places) - task.shown,
            notes=tuple(dict.fromkeys(notes)),
        )
    )
    with task.display.progress("Drawing"):
        write_explanation(album)


def _write_maps(task: _Task, maps: Mapping[str, np.ndarray], emphasis: Mapping[str, float]) -> list[str]:
    """The maps of the images that are shown, in their own pixels; and what must be known of them."""
    classes, notes = task.trained.classes, []
    probabilities = torch.from_numpy(task.logits).double().softmax(1).numpy()
    for number in range(task.shown):
        own, truth = task.chosen.own(number), task.chosen.truths[number]
        asked_class = classes[int(task.contrast.plus[number])]
        for method, values in maps.items():
            attribution = Attribution(
                sample=task.chosen.names[number],
                map=own.placement.bring(values[number]),
                image=own.pixels,
                method=method,
                target=_target_words(task.target, asked_class),
                classes=classes,
                probabilities=probabilities[number],
                truth=classes[truth] if truth >= 0 else None,
                layer=task._layer_of(method),
                is_signed=METHODS[method].is_signed,
                emphasis=emphasis.get(asked_class, 1.0),
                affine=own.affine,
                affine_is_known=own.affine_is_known,
            )
            attribution.save(task.album.attribution(method, number))
            if own.affine is not None:
                notes += _write_volume(attribution, task.album.attribution(method, number, ".nii.gz"))
    return notes


def _write_volume(attribution: Attribution, path: Path) -> list[str]:
    """The map as NIfTI, on the grid of its scan; and what must be known of that grid."""
    assert attribution.affine is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(to_volume(attribution.map, attribution.affine), path)
    if attribution.affine_is_known:
        return []
    spacing = " x ".join(f"{length:g}" for length in np.linalg.norm(attribution.affine[:3, :3], axis=0))
    return [
        f"The slices do not say where in the scanner they lie. The NIfTI files of their maps have voxels of {spacing} "
        "mm around the middle of the stack, first slice at the bottom; they lie over no other file."
    ]


def _means(task: _Task, spec: MethodSpec, maps: np.ndarray) -> Means:
    truths = task.chosen.truths[task.tried]
    groups = np.where(truths >= 0, truths, task.logits[task.tried].argmax(axis=1))
    present = np.unique(groups).tolist()
    heats = np.stack([scaled(one, is_signed=spec.is_signed) for one in maps])
    gray = task.chosen.gray[task.tried].astype(np.float32)
    return Means(
        tuple(task.trained.classes[k] for k in present),
        tuple(int((groups == k).sum()) for k in present),
        np.stack([gray[groups == k].mean(axis=0) for k in present]),
        np.stack([heats[groups == k].mean(axis=0) for k in present]),
    )


def _write_regions(task: _Task, atlas: Atlas, maps: Mapping[str, np.ndarray]) -> None:
    labels = np.stack([_labels(task, atlas, number) for number in range(task.shown, len(task.places))])
    names = atlas.read_names()
    tables = [region_table(values[task.tried], labels, names).assign(method=method) for method, values in maps.items()]
    table = pd.concat(tables, ignore_index=True)
    with atomic_path(task.album.regions) as temporary:
        table[["method", *[name for name in table.columns if name != "method"]]].to_csv(
            temporary, index=False, lineterminator="\n", float_format="%.6g"
        )


def _labels(task: _Task, atlas: Atlas, number: int) -> np.ndarray:
    row, own = task.chosen.manifests[number].table.iloc[0], task.chosen.own(number)
    subject = None if pd.isna(row["subject"]) else str(row["subject"])
    affine = own.affine if own.affine_is_known else None
    return atlas.labels(str(row["sample"]), subject, own.placement, tuple(task.chosen.gray.shape[1:]), affine)


def _scrutiny(
    task: _Task, maps: Mapping[str, np.ndarray], reports: Sequence[MethodReport], notes: Sequence[str]
) -> Scrutiny:
    tried = {method: values[task.tried] for method, values in maps.items()}
    images, seed = task.chosen.images[task.tried], task.asked.settings.seed
    return Scrutiny(
        title=task.run.folder.resolve().name,
        target=str(task.target),
        images=len(images),
        people=len(np.unique(task.chosen.people[task.tried])),
        methods=tuple(reports),
        agreement=as_table(agreement(tried)),
        brain_area=float(task.brains.mean()),
        reliance=swap_backgrounds(task.model, images, task.brains, seed=seed),
        notes=tuple(dict.fromkeys(notes)),
    )


def _statement(task: _Task) -> list[str]:
    warning = SPLIT_WARNINGS[task.trained.split_unit]
    return [f"How the classifier was judged: {warning}."] if warning else []


def _target_words(target: Target, asked_class: str) -> str:
    """What a map is about, for its picture."""
    if target.minus is not None:
        return str(target)
    return f"{target.plus} class, {asked_class}" if target.plus in ("predicted", "true") else asked_class
