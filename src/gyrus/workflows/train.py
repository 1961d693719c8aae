"""One training from files to an honest score: :func:`train` is the whole road."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from gyrus.configuration import write_document
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split, check, split
from gyrus.datasets.store import open_store
from gyrus.errors import RunError
from gyrus.evaluation.evaluate import Evaluation
from gyrus.files import atomic_path, write_json
from gyrus.inference.predict import pick_device
from gyrus.models.classifier import Classifier
from gyrus.runs.run_folder import Run
from gyrus.training.loggers import RunLogger, open_log, require_loggers
from gyrus.types import SplitUnit
from gyrus.workflows.artifacts import save_embeddings, save_examples
from gyrus.workflows.baselines import baseline_answers, save_answers, shuffle_labels
from gyrus.workflows.data_module import DataModule, fit_parts, new_model
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.evaluate import check_asked, judge_run
from gyrus.workflows.experiment_config import EvaluationConfig, ExperimentConfig, load_config
from gyrus.workflows.image_quality import save_quality
from gyrus.workflows.load_data import scan_data
from gyrus.workflows.tracking import keep_outcome, tags_of


def train(
    config: ExperimentConfig | str | Path | None = None,
    *,
    out: str | Path,
    data: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    display: Display = SILENT,
) -> Run:
    """Train a classifier and judge it on people it has never seen.

    Args:
        config: A recipe's name, the path of a YAML or JSON file, or a config.
        out: The run folder, new or empty.
        data: Overrides ``data.path``.
        overrides: Fields by dotted name, as ``{"training.epochs": 5}``.
        display: Where progress is shown.

    Returns:
        The run; its status is "interrupted" where training was stopped by Ctrl-C or SIGTERM.

    Raises:
        GyrusError: The config, the data or the folder cannot be used; told before training begins.
    """
    settings = load_config(config, with_data(overrides, data))
    manifest = scan_data(settings.data, display)
    check_asked(manifest, settings.evaluation)
    subsets = split(manifest, settings.split, seed=settings.seed)
    return train_on(manifest, subsets, settings, out=out, display=display)


def with_data(overrides: Mapping[str, Any] | None, data: str | Path | None) -> dict[str, Any]:
    """Overrides that also name the data, where they are given."""
    return {**(overrides or {}), **({"data.path": str(data)} if data else {})}


def train_on(
    manifest: Manifest, subsets: Split, settings: ExperimentConfig, *, out: str | Path, display: Display = SILENT
) -> Run:
    """Train a classifier on data that are known and split already; otherwise as :func:`train`.

    Args:
        manifest: The data.
        subsets: A split of them.
        settings: The config; what it says of data and split is kept for whoever repeats the run.
        out: The run folder, new or empty.
        display: Where progress is shown.
    """
    require_loggers(settings.training.loggers)
    run = Run.create(Path(out))
    with run.locked():
        write_document(run.config, settings)
        manifest.save(run.manifest)
        subsets.save(run.split)
        return _carry_out(run, settings, manifest, subsets, display)


def complete(folder: Path, start: Callable[[], Run], *, display: Display = SILENT) -> Run:
    """The finished run of a folder: the one that is there, or resumed, or started now.

    Raises:
        KeyboardInterrupt: Training was interrupted; the same call continues it.
    """
    if not (folder / "run.json").exists():
        run = start()
    else:
        run = Run.open(folder, finished=False)
        run = run if run.status == "finished" else resume(folder, display=display)
    if run.status == "interrupted":
        raise KeyboardInterrupt
    return run


def resume(folder: str | Path, *, display: Display = SILENT) -> Run:
    """Continue a run that was killed or interrupted; it reaches the weights of an unbroken run.

    Raises:
        RunError: There is no run, or it has finished already.
    """
    run = Run.open(Path(folder), finished=False)
    if run.status == "finished":
        raise RunError(f"The run in {run.folder} has finished; there is nothing to resume. Its report: {run.report}")
    with run.locked():
        settings = load_config(run.config)
        if run.split.exists():
            manifest, subsets = Manifest.load(run.manifest), Split.load(run.split)
        else:  # killed before it was written
            manifest = scan_data(settings.data, display)
            subsets = split(manifest, settings.split, seed=settings.seed)
            manifest.save(run.manifest)
            subsets.save(run.split)
        return _carry_out(run, settings, manifest, subsets, display)


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
    return judge_run(run, settings.model_copy(update={"evaluation": config or settings.evaluation}))


def _carry_out(run: Run, settings: ExperimentConfig, manifest: Manifest, subsets: Split, display: Display) -> Run:
    """Everything behind the split; also what a resumed run does, from the nouns that were saved."""
    with open_log(settings.training.loggers, settings.training.tracking, run.folder) as log:
        log.describe(settings.model_dump(mode="json"), tags_of(manifest, subsets))
        run = _learn_and_judge(run, settings, manifest, subsets, display, log)
        if run.status == "finished":
            keep_outcome(log, run)
        return run


def _learn_and_judge(
    run: Run, settings: ExperimentConfig, manifest: Manifest, subsets: Split, display: Display, log: RunLogger
) -> Run:
    check(subsets, manifest)
    for note in (subsets.statement, *subsets.notes):
        if note:
            display.say(f"Note: {note}.")
    run.mark("started", manifest=manifest.digest)
    with display.progress("Decoding images") as progress:
        store = open_store(manifest, settings.preprocessing, progress=progress)
    data = DataModule.of(manifest, subsets, store, settings)
    write_json(run.preprocessing, {"normalisation": asdict(data.normalisation)})
    resuming = (run.folder / "checkpoints" / "last.ckpt").exists()
    model = new_model(settings, store, len(manifest.classes), with_pretrained=not resuming)
    if not resuming:
        _describe_model(run, settings, model, manifest.classes, subsets.unit)
    fitted = fit_parts(model, data, run.folder, resume=resuming, display=display, log=log)
    for warning in fitted.warnings:
        display.say(f"Note: {warning}")
    if fitted.stopped == "interrupted":
        run.mark("interrupted")
        return run
    _save_weights(run.weights, model)
    device = pick_device(settings.training.device)
    for subset in ("val", "test"):
        predictions = data.predict(subset, model, device, display)
        predictions.save(run.predictions(subset))
    save_examples(run, predictions, data.dataset("test"))
    save_embeddings(run, model, data.dataset("test"), seed=settings.seed)
    showing = settings.preprocessing.showing_the_head()
    save_quality(run, manifest, subsets, store if showing is settings.preprocessing else open_store(manifest, showing))
    if settings.evaluation.baselines:
        display.say("Judging baselines on the same people")
        save_answers(run, *baseline_answers(manifest, subsets, store, seed=settings.seed))
    run.mark("started", best_epoch=fitted.best_epoch, **{fitted.monitor: fitted.best_score})
    if settings.evaluation.shuffled_labels and not _train_shuffled(run, settings, manifest, subsets, display):
        run.mark("interrupted")
        return run
    judge_run(run, settings)
    run.mark("finished")
    return run


def _train_shuffled(run: Run, settings: ExperimentConfig, manifest: Manifest, subsets: Split, display: Display) -> bool:
    """Train on shuffled labels in a folder inside the run; False where that was interrupted."""
    evaluation = settings.evaluation.model_copy(update={"shuffled_labels": False, "baselines": False})
    training = settings.training.model_copy(update={"loggers": ()})  # those who follow the run want no second one
    other = settings.model_copy(update={"evaluation": evaluation, "training": training})
    inner = Run(run.shuffled)
    if not (inner.folder / "run.json").exists():
        inner = Run.create(run.shuffled)
        write_document(inner.config, other)
        shuffled, dealt = shuffle_labels(manifest, subsets, seed=settings.seed)
        shuffled.save(inner.manifest)
        dealt.save(inner.split)
    if inner.status == "finished":
        return True
    display.say("The same network on labels dealt out anew among the people:")
    return (
        _carry_out(inner, other, Manifest.load(inner.manifest), Split.load(inner.split), display).status == "finished"
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
