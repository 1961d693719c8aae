"""One experiment from files to an honest score. The page to read first.

:func:`train` is the whole road: manifest, split, store, network, training, predictions, evaluation, report. Every
noun that it makes is saved in the run folder, so that :func:`predict` and :func:`evaluate` need nothing else.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file, save_file

from gyrus.configuration import parse, read_document, with_overrides, write_document
from gyrus.data.augmentation.config import AugmentationConfig
from gyrus.data.dataset import PixelDataset
from gyrus.data.manifest import Manifest
from gyrus.data.preprocessing import Normalisation, PreprocessingConfig
from gyrus.data.sources import scan
from gyrus.data.splits import Split, SplitConfig, check, split
from gyrus.data.stacking import StackConfig, stack
from gyrus.data.store import Store, open_store
from gyrus.errors import ConfigError, DataError, RunError
from gyrus.evaluation.evaluate import Evaluation
from gyrus.evaluation.evaluate import evaluate as evaluate_predictions
from gyrus.files import atomic_path, read_json, write_json, write_text
from gyrus.models.contract import Classifier
from gyrus.models.freezing import apply_freezing
from gyrus.models.zoo import ModelConfig, build
from gyrus.prediction.predict import pick_device, predict_logits
from gyrus.prediction.table import Predictions
from gyrus.registry import look_up
from gyrus.report.of_runs import report_comparison, report_run
from gyrus.runs import Run
from gyrus.training.config import TrainingConfig
from gyrus.training.fit import fit
from gyrus.types import Part, SplitUnit


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Section):
    """Which data, and how to read them; see :func:`gyrus.data.scan`."""

    path: str | None = Field(None, description="folder, table, parquet file, or hf:owner/name")
    source: str | None = Field(None, description="the kind of source, where it is not to be recognised")
    classes: tuple[str, ...] | None = Field(None, description="class names in the order of the model's outputs")
    columns: dict[str, str] = Field(default_factory=dict, description="role to column name of a table")
    subject_rule: str | None = Field(None, description="name of the rule that tells subjects from file names")
    subject_pattern: str | None = Field(None, description="regular expression with a group named subject")
    on_bad_file: Literal["fail", "skip"] = Field("fail", description="whether unusable files stop the run")
    stack: StackConfig | None = Field(None, description="volumes from the slices of each scan; null: single slices")


class EvaluationConfig(_Section):
    """How sure the scores are; see :func:`gyrus.evaluation.evaluate.evaluate`."""

    resamples: int = Field(2000, ge=0, description="bootstrap resamples of the subjects; 0 for no intervals")
    level: float = Field(0.95, gt=0, lt=1, description="coverage of the intervals")


class About(_Section):
    """Where a recipe comes from, and what to think of its published score."""

    title: str = Field(description="what it is, in one line")
    system: str = Field("", description="the reference system that it follows")
    expects: str = Field("", description="the data that it is meant for")
    published: str = Field("", description="the score that was published for it")
    measured: str = Field("", description="how that was measured")
    wrong: tuple[str, ...] = Field((), description="what is wrong with the score or the method")
    changed: tuple[str, ...] = Field((), description="what is changed against the original, and why")


class ExperimentConfig(_Section):
    """Everything that decides a run. Strict: an unknown name is an error."""

    about: About | None = Field(None, description="where the config comes from")
    data: DataConfig = DataConfig()
    split: SplitConfig = SplitConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    seed: int = Field(0, ge=0, description="of the split, the weights and the order of training")


class Display(Protocol):
    """Where progress is shown."""

    def say(self, text: str) -> None:
        """Show a line."""

    def progress(self, title: str) -> AbstractContextManager[Callable[[int, int], None]]:
        """Show a bar while the block runs; call what it gives with the number done and of all."""


class Silent:
    """A display that shows nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int], None]]:  # noqa: ARG002
        """Do nothing."""
        yield lambda _done, _total: None


SILENT = Silent()


def recipes() -> dict[str, Path]:
    """The configs that come with Gyrus, by name."""
    folder = Path(str(resources.files("gyrus") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_config(config: ExperimentConfig | str | Path | None = None, overrides: Sequence[str] = ()) -> ExperimentConfig:
    """A config from a recipe's name or a YAML or JSON file, with some fields set anew.

    Args:
        config: A recipe's name, the path of a file, a config, or None for the defaults.
        overrides: Assignments such as ``training.epochs=5``.

    Raises:
        ConfigError: Lists every mistake.
    """
    document: dict[str, Any] = {}
    where = "The config"
    if isinstance(config, ExperimentConfig):
        document = config.model_dump(mode="json")
    elif config is not None:
        path = Path(config)
        if isinstance(config, str) and path.suffix not in (".yaml", ".yml", ".json"):
            path = look_up(config, recipes(), "recipe")
        document, where = read_document(path), str(config)
    return parse(ExperimentConfig, with_overrides(document, overrides), where=where)


def train(
    config: ExperimentConfig | str | Path | None = None,
    *,
    out: str | Path,
    data: str | Path | None = None,
    overrides: Sequence[str] = (),
    display: Display = SILENT,
) -> Run:
    """Train a classifier and judge it on people it has never seen.

    Args:
        config: A recipe's name, the path of a YAML or JSON file, or a config.
        out: The run folder, new or empty.
        data: Overrides ``data.path``.
        overrides: Assignments such as ``training.epochs=5``.
        display: Where progress is shown.

    Returns:
        The run; its status is "interrupted" where training was stopped by Ctrl-C or SIGTERM.

    Raises:
        GyrusError: The config, the data or the folder cannot be used; told before training begins.
    """
    settings = load_config(config, [*overrides, *([f"data.path={json.dumps(str(data))}"] if data else [])])
    manifest = _scan(settings.data, display)
    parts = split(manifest, settings.split, seed=settings.seed)
    run = Run.create(Path(out))
    with run.locked():
        write_document(run.config, settings)
        manifest.save(run.manifest)
        parts.save(run.split)
        return _carry_out(run, settings, manifest, parts, display)


def resume(folder: str | Path, *, display: Display = SILENT) -> Run:
    """Continue a run that was killed or interrupted; it reaches the weights of an unbroken run.

    Raises:
        RunError: There is no run, or it has finished already.
    """
    run = Run.open(Path(folder), finished=False)
    if run.status == "finished":
        raise RunError(f"The run in {run.folder} has finished; there is nothing to resume. Its report: {run.report}")
    with run.locked():
        settings, manifest, parts = load_config(run.config), Manifest.load(run.manifest), Split.load(run.split)
        return _carry_out(run, settings, manifest, parts, display)


@dataclass(frozen=True)
class SplitComparison:
    """The same training, judged on people it has never seen and, for comparison, on images it has never seen.

    Attributes:
        subject: The run with the split by subject: the score to quote.
        image: The run with the split by image: the score that flatters.
        words: The scores side by side and why they differ.
        report: The page that shows both.
    """

    subject: Run
    image: Run
    words: str
    report: Path

    def text(self) -> str:
        """The scores side by side and why they differ."""
        return self.words


def train_both(
    config: ExperimentConfig | str | Path | None = None,
    *,
    out: str | Path,
    data: str | Path | None = None,
    overrides: Sequence[str] = (),
    display: Display = SILENT,
) -> SplitComparison:
    """Train twice, split by subject and by image, and set the scores side by side.

    The arguments are those of :func:`train`. The runs lie in ``out/subject`` and ``out/image``; what is there and
    finished is not trained again, and what was interrupted goes on.

    Raises:
        GyrusError: As :func:`train`.
        KeyboardInterrupt: Training was interrupted; the same call continues it.
    """
    runs: dict[SplitUnit, Run] = {}
    for unit in ("subject", "image"):
        display.say(f"Split by {unit}:")
        folder = Path(out) / unit
        if not (folder / "run.json").exists():
            run = train(config, out=folder, data=data, overrides=[*overrides, f"split.unit={unit}"], display=display)
        else:
            run = Run.open(folder, finished=False)
            run = run if run.status == "finished" else resume(folder, display=display)
        if run.status == "interrupted":
            raise KeyboardInterrupt
        runs[unit] = run
    report = Path(out) / "report.html"
    words = report_comparison({f"split by {unit}": run for unit, run in runs.items()}, report)
    return SplitComparison(runs["subject"], runs["image"], words, report)


def evaluate(run: Run | str | Path, *, config: EvaluationConfig | None = None) -> Evaluation:
    """Judge a finished run again from its predictions, and write its metrics and report anew.

    Args:
        run: The run, or its folder.
        config: Other settings of the intervals than the run's.

    Raises:
        RunError: There is no finished run.
    """
    run = run if isinstance(run, Run) else Run.open(Path(run))
    settings = load_config(run.config)
    return _judge(run, settings.model_copy(update={"evaluation": config or settings.evaluation}))


def predict(
    run: Run | str | Path,
    inputs: Sequence[str | Path],
    *,
    data: DataConfig | None = None,
    device: str = "auto",
    display: Display = SILENT,
) -> Predictions:
    """What a trained classifier says of new images. Needs the run folder only, never the training data.

    Args:
        run: The run, or its folder.
        inputs: Image files, folders or tables.
        data: How to read them; labels are not needed.
        device: "auto", "cpu", "cuda" or "mps".
        display: Where progress is shown.

    Returns:
        One row an image; ``sample`` is the path of the image, or path#row.

    Raises:
        RunError: There is no finished run.
        DataError: An input cannot be read.
    """
    run = run if isinstance(run, Run) else Run.open(Path(run))
    if not inputs:
        raise DataError("Nothing to predict: name at least one image, folder or table.")
    trained = _Trained.load(run)
    parts = [_predict_input(trained, path, data or DataConfig(), pick_device(device), display) for path in inputs]
    table = pd.concat([part.table for part in parts], ignore_index=True).drop_duplicates("sample")
    return Predictions.from_table(table, classes=trained.classes, split_unit=trained.split_unit, part="new")


def _scan(config: DataConfig, display: Display) -> Manifest:
    if config.path is None:
        raise ConfigError("No data: name a folder, a table or hf:owner/name with --data, or as data.path.")
    with display.progress("Reading files") as progress:
        manifest = scan(
            config.path,
            source=config.source,
            subject_rule=config.subject_rule,
            subject_pattern=config.subject_pattern,
            classes=config.classes,
            columns=config.columns,
            progress=progress,
        )
    return _usable(manifest, config, display)


def _usable(manifest: Manifest, config: DataConfig, display: Display) -> Manifest:
    """Stack where that is asked for, and stop at or leave out what cannot be used."""
    if config.stack:
        manifest = stack(manifest, config.stack)
    if config.on_bad_file == "fail":
        manifest.require_clean()
    for problem in manifest.problems:
        display.say(f"Left out: {problem}")
    return manifest


def _carry_out(run: Run, settings: ExperimentConfig, manifest: Manifest, parts: Split, display: Display) -> Run:
    """Everything behind the split; also what a resumed run does, from the nouns that were saved."""
    check(parts, manifest)
    for note in (parts.statement, *parts.notes):
        if note:
            display.say(f"Note: {note}.")
    run.mark("started", manifest=manifest.digest)
    with display.progress("Decoding images") as progress:
        store = open_store(manifest, settings.preprocessing, progress=progress)
    data = _Parts.of(manifest, parts, store, settings.preprocessing)
    write_json(run.preprocessing, {"normalisation": asdict(data.normalisation)})
    resuming = (run.folder / "checkpoints" / "last.ckpt").exists()
    model = _new_model(settings, store, len(manifest.classes), with_pretrained=not resuming)
    if not resuming:
        _describe_model(run, settings, model, manifest.classes, parts.unit)
    fitted = fit(
        model,
        data.dataset("train", settings.augmentation, settings.seed),
        data.dataset("val"),
        settings.training,
        run.folder,
        classes=manifest.classes,
        seed=settings.seed,
        resume=resuming,
        progress=not isinstance(display, Silent),
        before_epoch=lambda epoch, network: apply_freezing(cast(Classifier, network), settings.model.freezing, epoch),
    )
    for warning in fitted.warnings:
        display.say(f"Note: {warning}")
    if fitted.stopped == "interrupted":
        run.mark("interrupted")
        return run
    _save_weights(run.weights, model)
    device = pick_device(settings.training.device)
    for part in ("val", "test"):
        predictions = data.predict(part, model, device, display)
        predictions.save(run.predictions(part))
    run.mark("started", best_epoch=fitted.best_epoch, **{fitted.monitor: fitted.best_score})
    _judge(run, settings)
    run.mark("finished")
    return run


@dataclass(frozen=True)
class _Parts:
    """The parts of a split as data sets, and who the rows are."""

    manifest: Manifest
    split: Split
    store: Store
    normalisation: Normalisation

    @classmethod
    def of(cls, manifest: Manifest, split: Split, store: Store, preprocessing: PreprocessingConfig) -> _Parts:
        train = manifest.table["sample"].isin(split.samples["train"]).to_numpy()
        return cls(manifest, split, store, Normalisation.fit(preprocessing.intensity, store.statistics[train]))

    def rows(self, part: Part) -> np.ndarray:
        return np.flatnonzero(self.manifest.table["sample"].isin(self.split.samples[part]))

    def dataset(self, part: Part, augmentation: AugmentationConfig | None = None, seed: int = 0) -> PixelDataset:
        rows = self.rows(part)
        targets = self.manifest.targets.to_numpy()[rows]
        return PixelDataset(self.store, rows, targets, self.normalisation, augmentation=augmentation, seed=seed)

    def predict(self, part: Part, model: Classifier, device: torch.device, display: Display) -> Predictions:
        with display.progress(f"Predicting {part}") as progress:
            logits = predict_logits(model, self.dataset(part), device=device, progress=progress)
        table = self.manifest.table.iloc[self.rows(part)]
        return Predictions.from_logits(
            table["sample"].tolist(),
            logits,
            classes=self.manifest.classes,
            split_unit=self.split.unit,
            part=part,
            subjects=table["subject"].tolist(),
            targets=table["label"].tolist(),
        )


def _new_model(settings: ExperimentConfig, store: Store, classes: int, *, with_pretrained: bool) -> Classifier:
    torch.manual_seed(settings.seed)
    return build(
        settings.model,
        in_channels=store.channels,
        num_classes=classes,
        image_size=store.image_size,
        with_pretrained=with_pretrained,
    )


def _describe_model(
    run: Run, settings: ExperimentConfig, model: Classifier, classes: Sequence[str], unit: SplitUnit
) -> None:
    write_json(
        run.model,
        {
            "model": settings.model.model_dump(mode="json"),
            "in_channels": model.in_channels,
            "image_size": model.signature.image_size,
            "classes": classes,
            "split_unit": unit,
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "pretrained": asdict(model.pretrained) if model.pretrained else None,
        },
    )


def _save_weights(path: Path, model: Classifier) -> None:
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in model.state_dict().items()}
    with atomic_path(path) as temporary:
        save_file(weights, temporary)


@dataclass(frozen=True)
class _Trained:
    """What prediction needs of a run."""

    model: Classifier
    classes: tuple[str, ...]
    split_unit: SplitUnit
    preprocessing: PreprocessingConfig
    normalisation: Normalisation
    stack: StackConfig | None

    @classmethod
    def load(cls, run: Run) -> _Trained:
        about, settings = read_json(run.model), load_config(run.config)
        model = build(
            settings.model,
            in_channels=about["in_channels"],
            num_classes=len(about["classes"]),
            image_size=about["image_size"],
            with_pretrained=False,
        )
        model.load_state_dict(load_file(run.weights))
        fitted = read_json(run.preprocessing)["normalisation"]
        normalisation = Normalisation(fitted["method"], tuple(fitted["mean"]), tuple(fitted["std"]))
        return cls(
            model,
            tuple(about["classes"]),
            about["split_unit"],
            settings.preprocessing,
            normalisation,
            settings.data.stack,
        )


def _predict_input(
    trained: _Trained, path: str | Path, config: DataConfig, device: torch.device, display: Display
) -> Predictions:
    with display.progress(f"Reading {path}") as progress:
        manifest = scan(
            path,
            source=config.source,
            columns=config.columns,
            subject_rule=config.subject_rule,
            subject_pattern=config.subject_pattern,
            labelled=False,
            progress=progress,
        )
    manifest = _usable(manifest, config.model_copy(update={"stack": trained.stack}), display)
    with tempfile.TemporaryDirectory(prefix="gyrus-") as cache, display.progress(f"Predicting {path}") as progress:
        store = open_store(manifest, trained.preprocessing, cache=Path(cache))
        rows = np.arange(len(manifest))
        dataset = PixelDataset(store, rows, np.full(len(manifest), -1), trained.normalisation)
        logits = predict_logits(trained.model, dataset, device=device, progress=progress)
    return Predictions.from_logits(
        [str(manifest.root / sample) for sample in manifest.table["sample"]],
        logits,
        classes=trained.classes,
        split_unit=trained.split_unit,
        part="new",
        subjects=manifest.table["subject"].tolist(),
    )


def _judge(run: Run, settings: ExperimentConfig) -> Evaluation:
    """Evaluate the test part only: the validation part chose the weights, so its scores would flatter."""
    evaluation = evaluate_predictions(
        Predictions.load(run.predictions("test")),
        resamples=settings.evaluation.resamples,
        level=settings.evaluation.level,
        seed=settings.seed,
    )
    evaluation.save(run.metrics)
    write_text(run.classification_report, evaluation.text())
    report_run(run)
    return evaluation
