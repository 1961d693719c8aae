"""Train a classifier and evaluate it on subjects it has never seen: from files to a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gyrus.configuration import stored_document, write_document
from gyrus.datasets import splits
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.datasets.store import Store, open_store, stored_shape
from gyrus.datasets.table_features import require_same_columns
from gyrus.errors import DataError, GyrusError, RunError
from gyrus.evaluation.number_result import NumberEvaluation
from gyrus.evaluation.result import Evaluation
from gyrus.extras import DISTRIBUTION
from gyrus.inference.predict import pick_device
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run, installed_version
from gyrus.training.loggers import RunLogger, open_log, require_loggers
from gyrus.training.worker import by_process_0
from gyrus.workflows.baselines import predict_baselines, save_baseline_predictions, shuffle_labels
from gyrus.workflows.classical import ClassicalClassifier, needs_pixels, takes_table
from gyrus.workflows.data_module import DataModule, fit_model, new_model
from gyrus.workflows.display import SILENT, Display, show_warnings
from gyrus.workflows.evaluate import evaluate_run
from gyrus.workflows.experiment_config import (
    ExperimentConfig,
    lasting_fields,
    load_config,
    load_run_config,
    require_same_settings,
)
from gyrus.workflows.likeness import measure_by_features, measure_by_network, save_unlike_training
from gyrus.workflows.load_data import scan_to_train
from gyrus.workflows.number_baselines import predict_mean, predict_number_baselines
from gyrus.workflows.saved_outputs import (
    save_embeddings,
    save_examples,
    save_model_description,
    save_normalisation,
    save_quality,
    save_weights,
)
from gyrus.workflows.table_fusion import add_table, save_parts
from gyrus.workflows.training_plan import data_to_train, require_memory
from gyrus.workflows.weights_origin import require_unseen


@by_process_0
def train(
    config: ExperimentConfig | str | Path | None = None,
    *,
    data: str | Path | None = None,
    out: str | Path,
    overrides: Mapping[str, Any] | None = None,
    display: Display = SILENT,
) -> Run:
    """Train a classifier and evaluate it on subjects it has never seen.

    Args:
        config: The name of a recipe, the path of a YAML or JSON file, or a config.
        data: Overrides ``data.path``.
        out: The run folder, new or empty.
        overrides: Fields by dotted name, as ``{"training.epochs": 5}``.
        display: Where progress is shown.

    Returns:
        The run. Its status is "interrupted" if training was stopped by Ctrl-C or SIGTERM.

    Raises:
        GyrusError: The config, the data or the folder cannot be used. Most errors are raised before training starts.
    """
    settings = load_config(config, overrides, data=data)
    manifest, split = data_to_train(settings, display)
    return train_on_split(manifest, split, settings, out=out, display=display)


def train_on_split(
    manifest: Manifest, split: Split, settings: ExperimentConfig, *, out: str | Path, display: Display = SILENT
) -> Run:
    """Train a classifier on data that are scanned and split already; otherwise as :func:`train`.

    Args:
        manifest: The data.
        split: A split of the data.
        settings: The config. Its sections ``data`` and ``split`` are saved with the run, but not used.
        out: The run folder, new or empty.
        display: Where progress is shown.
    """
    require_loggers(settings.training.loggers)
    require_unseen(settings, manifest, split, display)
    _require_memory(settings, manifest)
    run = Run.create(Path(out), settings, settings=lasting_fields(settings))
    with run.locked():
        manifest.save(run.manifest)
        split.save(run.split)
        return _train_with_logs(run, settings, manifest, split, display)


@by_process_0
def resume(folder: str | Path, *, data: str | Path | None = None, display: Display = SILENT) -> Run:
    """Continue a run that was killed or interrupted. The final weights are those of an uninterrupted run.

    Args:
        folder: The run folder.
        data: Where its data are now, if they have moved.
        display: Where progress is shown.

    Raises:
        RunError: There is no run in the folder, it has finished already, or its config has changed.
        DataError: ``data`` are not those that the run was started with.
    """
    run = Run.open(Path(folder), finished=False)
    if run.status == "finished":
        raise RunError(f"The run in {run.folder} has finished; there is nothing to resume. Its report: {run.report}")
    with run.locked():
        settings = load_run_config(run)
        moved = data is not None and str(data) != settings.data.path
        if moved:
            settings = load_config(settings, data=data)
        if run.split.exists():
            manifest, split = Manifest.load(run.manifest), Split.load(run.split)
            if moved:
                manifest = _find_again(manifest, settings, display)
                manifest.save(run.manifest)
                write_document(run.config, settings)
        else:  # killed before it was written
            manifest = scan_to_train(settings, display)
            split = splits.split(manifest, settings.split, seed=settings.seed)
            manifest.save(run.manifest)
            split.save(run.split)
        _require_memory(settings, manifest)
        return _train_with_logs(run, settings, manifest, split, display)


def finish_run(
    folder: Path, start: Callable[[], Run], *, settings: ExperimentConfig | None = None, display: Display = SILENT
) -> Run:
    """The finished run of a folder: opened, resumed, or started now.

    Args:
        folder: The run folder.
        start: Starts the run.
        settings: Its config, which a run in the folder must have; None if only ``start`` determines it.
        display: Where progress is shown.

    Raises:
        RunError: The folder has a run with another config.
        KeyboardInterrupt: Training was interrupted; the same call continues it.
    """
    run = Run(folder)
    if not run.exists or run.is_half_made:
        run = start()
    else:
        if settings:
            require_same_settings(run, lasting_fields(load_config(run.config)), settings)
        if run.status != "finished":
            run = resume(folder, data=settings.data.path if settings else None, display=display)
    if run.status == "interrupted":
        raise KeyboardInterrupt
    return run


def _require_memory(settings: ExperimentConfig, manifest: Manifest) -> None:
    """Refuse a training that needs more memory than there is, before anything is written."""
    if settings.model.classical is None and settings.training.check_memory:
        shape = stored_shape(manifest, settings.preprocessing)
        require_memory(settings, shape, len(manifest.classes), len(manifest))


def _find_again(manifest: Manifest, settings: ExperimentConfig, display: Display) -> Manifest:
    """The manifest of the same data in another place.

    Raises:
        DataError: They are other data.
    """
    found = scan_to_train(settings, display)
    if {*found.classes} == {*manifest.classes}:  # earlier versions had no order of stages
        found = replace(found, classes=manifest.classes, target=manifest.target)
    if found.digest != manifest.digest:
        columns = ["sample", "digest", "label", "subject"]
        before, now = (
            set(each.table[columns].astype("string").fillna("").itertuples(index=False, name=None))
            for each in (manifest, found)
        )
        raise DataError(
            f"{settings.data.path} does not hold the data that the run was started with: of {len(before)} images, "
            f"{len(before - now)} are missing or differ in pixels, label or subject; {len(now - before)} are new. "
            "Name the folder that the data were moved to, or start a new run."
        )
    require_same_columns(manifest.table, found.table, settings.data.columns_of_the_table, "the run")
    return found


def _train_with_logs(run: Run, settings: ExperimentConfig, manifest: Manifest, split: Split, display: Display) -> Run:
    """Train and evaluate, and report to the loggers of the config."""
    try:
        with open_log(settings.training.loggers, settings.training.tracking, run.folder) as log:
            log.describe(stored_document(settings), _tags(manifest, split))
            evaluation = _train(run, settings, manifest, split, display, log)
            if evaluation:
                _log_results(log, run, evaluation)
    except Exception:
        with suppress(GyrusError, OSError):  # the first error is reported, not that of a full disk here
            if run.status != "finished":
                run.mark("failed")
        raise
    return run


def _train(
    run: Run, settings: ExperimentConfig, manifest: Manifest, split: Split, display: Display, log: RunLogger
) -> Evaluation | NumberEvaluation | None:
    """All steps after the split, for a new and for a resumed run; None if training was interrupted."""
    splits.check_split(split, manifest)
    show_warnings(display, (split.warning, *split.notes))
    run.mark("started", manifest=manifest.digest)
    if settings.model.classical is not None:
        return _fit_without_network(run, settings, manifest, split, display)

    store = _open_store(settings, manifest, display)
    data = DataModule.from_split(manifest, split, store, settings)
    save_normalisation(run, data.normalisation, data.encoder)

    resuming = run.checkpoint.exists()
    model = new_model(
        settings,
        store,
        len(manifest.classes),
        with_pretrained=not resuming,
        scaling=data.scaling,
        table_features=data.table_features,
    )
    if not resuming:
        save_model_description(run, settings.model, model, manifest.classes, split.kept_together, manifest.target)
    fitted = fit_model(model, data, run.folder, resume=resuming, display=display, log=log)
    show_warnings(display, fitted.warnings)
    run.mark("started", trained_with=fitted.device_settings.to_document())
    if fitted.stopped == "interrupted":
        run.mark("interrupted")
        return None
    save_weights(run, model)

    device = pick_device(settings.training.device)
    val, test = (data.predict(subset, model, device, display) for subset in ("val", "test"))
    if isinstance(val, Predictions) and isinstance(test, Predictions) and settings.data.table_columns:
        if takes_table(settings):
            if not _train_image_alone(run, settings, manifest, split, display):
                run.mark("interrupted")
                return None
            save_parts(run, settings, manifest, split)
        else:
            val, test = add_table(run, settings, manifest, split, val=val, test=test, display=display)
    val.save(run.predictions("val"))
    test.save(run.predictions("test"))

    if settings.evaluation.report:
        if isinstance(test, Predictions):
            save_examples(run, test, store, data.rows("test"))
        save_embeddings(run, model, data.dataset("test"), seed=settings.seed)
        _save_quality(run, settings, manifest, split, store)
    if settings.evaluation.unlike_training:
        save_unlike_training(run, manifest, split, measure_by_network(model, data), test, settings.seed, display)
    if settings.evaluation.baselines:
        _save_baselines(run, settings, manifest, split, store, display)
    run.mark("started", best_epoch=fitted.best_epoch, **{fitted.monitor: fitted.best_score})
    if settings.evaluation.shuffled_labels and not _train_on_shuffled_labels(run, settings, manifest, split, display):
        run.mark("interrupted")
        return None

    evaluation = evaluate_run(run, settings, manifest, split, val=val, test=test)
    run.mark("finished")
    return evaluation


def _open_store(settings: ExperimentConfig, manifest: Manifest, display: Display) -> Store:
    with display.progress("Decoding images") as progress:
        return open_store(manifest, settings.preprocessing, progress=progress)


def _fit_without_network(
    run: Run, settings: ExperimentConfig, manifest: Manifest, split: Split, display: Display
) -> Evaluation | NumberEvaluation | None:
    """Fit a classifier without a network on features of subjects, and evaluate it; None if that was interrupted."""
    store = _open_store(settings, manifest, display) if needs_pixels(settings) else None
    classifier = ClassicalClassifier.fit(manifest, split, settings, store, display)
    display.say(f"{'Columns' if classifier.features.table_only else 'Features'}: {classifier.features.text}")
    classifier.save(run, settings)
    val, test = (classifier.predict(manifest, split, subset, store, display) for subset in ("val", "test"))
    val.save(run.predictions("val"))
    test.save(run.predictions("test"))
    if store is not None:
        if settings.evaluation.report:
            if isinstance(test, Predictions):
                rows = np.flatnonzero(manifest.table["sample"].isin(split.samples["test"]))
                save_examples(run, test, store, rows)
            _save_quality(run, settings, manifest, split, store)
        if settings.evaluation.unlike_training and classifier.takes_image:
            measure = measure_by_features(classifier, manifest, store)
            save_unlike_training(run, manifest, split, measure, test, settings.seed, display)
        if settings.evaluation.baselines:
            _save_baselines(run, settings, manifest, split, store, display)
        if settings.evaluation.shuffled_labels and not _train_on_shuffled_labels(
            run, settings, manifest, split, display
        ):
            run.mark("interrupted")
            return None
    elif manifest.target.is_number and settings.evaluation.baselines:
        save_baseline_predictions(run, *predict_mean(manifest, split))
    evaluation = evaluate_run(run, settings, manifest, split, val=val, test=test)
    run.mark("finished")
    return evaluation


def _save_quality(run: Run, settings: ExperimentConfig, manifest: Manifest, split: Split, store: Store) -> None:
    heads = settings.preprocessing.showing_the_head()
    save_quality(run, manifest, split, store if heads is settings.preprocessing else open_store(manifest, heads))


def _save_baselines(
    run: Run, settings: ExperimentConfig, manifest: Manifest, split: Split, store: Store, display: Display
) -> None:
    display.say("Evaluating baselines on the same test set")
    baselines = predict_number_baselines if manifest.target.is_number else predict_baselines
    save_baseline_predictions(run, *baselines(manifest, split, store, seed=settings.seed))


def _train_image_alone(
    run: Run, settings: ExperimentConfig, manifest: Manifest, split: Split, display: Display
) -> bool:
    """Train the same network without the table in a folder inside the run; False if that was interrupted."""
    data = settings.data.model_copy(update={"table_columns": {}, "harmonise": None})
    control = settings.model_copy(update={"data": data})
    title = "Training the same network without the table:"
    return _train_inside(Run(run.image_alone), control, lambda: (manifest, split), title, display)


def _train_on_shuffled_labels(
    run: Run, settings: ExperimentConfig, manifest: Manifest, split: Split, display: Display
) -> bool:
    """Train on shuffled labels in a folder inside the run; False if that was interrupted."""
    what = "network" if settings.model.classical is None else "model"
    title = f"Training the same {what} with labels shuffled across subjects:"
    return _train_inside(
        Run(run.shuffled), settings, lambda: shuffle_labels(manifest, split, seed=settings.seed), title, display
    )


def _train_inside(
    inner: Run, settings: ExperimentConfig, data: Callable[[], tuple[Manifest, Split]], title: str, display: Display
) -> bool:
    """Train a control in a folder inside a run, or continue it; False if that was interrupted.

    Args:
        inner: The run of the control.
        settings: Its config; baselines and further controls are left out.
        data: Its data and their split.
        title: What is shown before the training.
        display: Where progress is shown.
    """
    if inner.exists and inner.status == "finished":
        return True
    off = dict.fromkeys(("shuffled_labels", "baselines", "unlike_training"), False)
    evaluation = settings.evaluation.model_copy(update=off)
    training = settings.training.model_copy(update={"loggers": ()})  # one run, one entry in each logger
    control = settings.model_copy(update={"evaluation": evaluation, "training": training})
    if not inner.exists or inner.is_half_made:
        Run.create(inner.folder, control, settings=lasting_fields(control))
    manifest, split = data()
    if not inner.split.exists() or Manifest.load(inner.manifest).root != manifest.root:  # new, or the data have moved
        manifest.save(inner.manifest)
        split.save(inner.split)
    display.say(title)
    _train_with_logs(inner, control, Manifest.load(inner.manifest), Split.load(inner.split), display)
    return inner.status == "finished"


def _tags(manifest: Manifest, split: Split) -> dict[str, str]:
    """The data, the split and its warning, for the loggers."""
    return {
        "data": manifest.digest,
        "split": split.kept_together,
        "split method": split.method if split.fold is None else f"{split.method}, fold {split.fold}",
        "split seed": str(split.seed),
        "warning": split.warning or "none",
        "gyrus": str(installed_version(DISTRIBUTION)),
    }


def _log_results(log: RunLogger, run: Run, evaluation: Evaluation | NumberEvaluation) -> None:
    """Log the test scores, the figures, the report and the weights; the manifest with the subjects is not sent."""
    scores = {
        f"test_{name}_by_{unit}": estimate.value
        for unit, scores in evaluation.scores.items()
        for name, estimate in scores.metrics.items()
        if estimate.value is not None
    }
    files = [run.config, run.metrics, run.report, run.card, run.history, run.model, run.weights]
    log.save(
        scores,
        sorted(run.figures.glob("*.png")),
        [path for path in files if path.exists()],
        step=int(run.facts.get("best_epoch", 0)),
    )
