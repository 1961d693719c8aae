"""Hyperparameter search: many configurations of one experiment, compared outside the test set. See :func:`tune`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from gyrus.configuration import differences, parse, read_document, stored_document, write_document
from gyrus.datasets import splits
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.errors import ConfigError
from gyrus.extras import missing_dependency
from gyrus.files import digest, make_folder, refuse_links
from gyrus.redaction import without_secrets
from gyrus.training.worker import by_process_0

try:
    import optuna
except ImportError as error:
    raise missing_dependency("Tuning", "tuning") from error

from gyrus.tuning.final_training import train_best
from gyrus.tuning.samplers_and_pruners import grid_size, make_pruner, make_sampler
from gyrus.tuning.search_space import SearchSpace
from gyrus.tuning.study import StudyConfig, StudyFolder, StudyResult
from gyrus.tuning.study_report import write_report
from gyrus.tuning.trial_storage import TrialQueue, open_storage, rank, storage_in_use
from gyrus.tuning.worker import inner_splits, without_test, work
from gyrus.workflows.display import SILENT, Display, show_notes
from gyrus.workflows.experiment_config import ExperimentConfig, load_config
from gyrus.workflows.load_data import scan_to_train
from gyrus.workflows.training_plan import require_classes, require_order
from gyrus.workflows.weights_origin import require_unseen

IRRELEVANT = (("data", "path"), ("training", "device"), ("training", "workers"))
"""Fields of the config in which the calls of one study may differ."""


@by_process_0
def tune(
    config: ExperimentConfig | str | Path | None = None,
    *,
    study: StudyConfig,
    data: str | Path | None = None,
    out: str | Path,
    overrides: Mapping[str, Any] | None = None,
    final_seeds: Sequence[int] = (),
    with_default: bool = False,
    display: Display = SILENT,
) -> StudyResult:
    """Try configurations until the number of trials is reached, and report the best one.

    The same call in several processes shares one study: on one machine through the folder, on several machines through
    a storage that all of them reach. Interrupted trials are repeated, finished trials are not. A call with more trials
    continues the study.

    Args:
        config: The experiment to tune: the name of a recipe, the path of a YAML or JSON file, or a config.
        study: The settings of the study.
        data: Overrides ``data.path``.
        out: The folder of the study.
        overrides: Fields by dotted name, as ``{"training.epochs": 5}``.
        final_seeds: Afterwards train the best configuration with these seeds and score it once on the test set; see
            :func:`gyrus.tuning.final_training.train_best`.
        with_default: Also train the config before tuning with these seeds.
        display: Where progress is shown.

    Returns:
        The study; its recipe, table, figures and report are in the folder.

    Raises:
        GyrusError: The config, the space, the data or the storage cannot be used.
        KeyboardInterrupt: The study was interrupted; the same call continues it.
    """
    if with_default and not final_seeds:
        raise ConfigError("--with-default needs --final-seeds, for example 0,1,2.")
    settings = load_config(config, overrides, data=data)

    def load_data() -> tuple[Manifest, Split]:
        manifest = scan_to_train(settings, display)
        require_classes(manifest, display)
        require_order(manifest, settings, study.objectives)
        return manifest, splits.split(manifest, settings.split, seed=settings.seed)

    result = _run_study(study, settings, load_data, StudyFolder(Path(out)), display)
    if final_seeds:
        result = replace(result, final=train_best(result, final_seeds, with_default=with_default, display=display))
    return result


def tune_on_split(
    manifest: Manifest,
    split: Split,
    settings: ExperimentConfig,
    *,
    study: StudyConfig,
    out: Path,
    display: Display = SILENT,
) -> StudyResult:
    """Tune on data that are split already, such as those of a fold of a cross-validation.

    Args:
        manifest: The data.
        split: Their split; the test set is not used.
        settings: The experiment to tune.
        study: The settings of the study.
        out: The folder of the study.
        display: Where progress is shown.

    Raises:
        GyrusError: As :func:`tune`.
        KeyboardInterrupt: As :func:`tune`.
    """
    return _run_study(study, settings, lambda: (manifest, split), StudyFolder(out), display)


def _run_study(
    study: StudyConfig,
    settings: ExperimentConfig,
    load_data: Callable[[], tuple[Manifest, Split]],
    folder: StudyFolder,
    display: Display,
) -> StudyResult:
    study = study.with_objectives(settings.training.monitor)
    settings = load_config(settings, {"training.monitor": study.monitor})
    study.space.check(settings)
    if study.sampler == "grid":
        size = grid_size(study.space, settings)
        study = replace(study, trials=min(size, study.trials))
        show_notes(display, [f"the grid has {size} combinations; {study.trials} of them are tried"])
    sampler = make_sampler(study, settings, rank=rank)
    pruner = make_pruner(study, longest=_most_epochs(study.space, settings) * max(1, study.folds))
    manifest, split = _prepare_folder(folder, study, settings, load_data, display)
    storage = open_storage(study.storage, folder.path)
    with storage_in_use(study.storage, folder.path), warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        optuna_study = optuna.create_study(
            study_name=folder.path.resolve().name,
            storage=storage,
            directions=list(study.directions),
            sampler=sampler,
            pruner=pruner,
            load_if_exists=True,
        )
        _require_same_study(optuna_study, folder, study, settings, manifest, split)
        result = StudyResult(folder, study, settings, manifest, split, optuna_study)
        queue = TrialQueue(optuna_study, storage, study.trials, lost_after=study.lost_after)
        work(result, queue, inner_splits(manifest, split, study.folds), display)
    with FileLock(folder.path / ".lock"):
        write_report(result)
    return result


def _most_epochs(space: SearchSpace, settings: ExperimentConfig) -> int:
    tuned = [end for each in space.parameters if each.field == "training.epochs" for end in each.ends]
    return max([settings.training.epochs, *tuned])


def _prepare_folder(
    folder: StudyFolder,
    study: StudyConfig,
    settings: ExperimentConfig,
    load_data: Callable[[], tuple[Manifest, Split]],
    display: Display,
) -> tuple[Manifest, Split]:
    """The data without the test set, loaded once; all workers and later calls use the same."""
    make_folder(folder.path)
    refuse_links(folder.path)
    with FileLock(folder.path / ".lock"):
        if folder.split.exists():
            _require_same_settings(folder, study, settings)
            return Manifest.load(folder.manifest), Split.load(folder.split)
        manifest, split = load_data()
        require_unseen(settings, manifest, split, display)
        show_notes(display, [split.warning, *split.notes])
        outside_test = without_test(manifest, split)
        write_document(folder.config, settings)
        write_document(folder.space, study.space)
        outside_test.save(folder.manifest)
        split.save(folder.split)
        return outside_test, split


def _require_same_settings(folder: StudyFolder, study: StudyConfig, settings: ExperimentConfig) -> None:
    before, now = (_relevant(stored_document(each)) for each in (load_config(folder.config), settings))
    changes = [change for change in differences(before, now) if not change[0].startswith("about")]
    if changes:
        described = "; ".join(f"{field} was {old!r}, is {new!r}" for field, old, new in changes)
        raise ConfigError(f"The study in {folder.path} has other settings: {described}. Give another --out.")
    if parse(SearchSpace, read_document(folder.space), where=str(folder.space)).named != study.space.named:
        raise ConfigError(f"The study in {folder.path} has another search space. Give another --out.")


def _require_same_study(
    optuna_study: optuna.Study,
    folder: StudyFolder,
    study: StudyConfig,
    settings: ExperimentConfig,
    manifest: Manifest,
    split: Split,
) -> None:
    """Refuse to mix trials of other data or settings into the study of a shared storage."""
    marks = {
        "config": digest(_relevant(stored_document(settings))),
        "search space": digest(study.space.model_dump(mode="json")["parameters"]),
        "objectives": list(study.objectives),
        "folds": study.folds,
        "data": manifest.digest,
        "split": digest(dict(split.samples)),
    }
    known = optuna_study.user_attrs.get("gyrus")
    if known is None:
        optuna_study.set_user_attr("gyrus", marks)
        return
    # The folder's config equals the settings, even if an older version wrote it with other field names.
    if known.get("config") == digest(_relevant(read_document(folder.config))):
        marks["config"] = known["config"]
    changed = [name for name, mark in marks.items() if known.get(name) != mark]
    if changed:
        where = f" in {without_secrets(study.storage)}" if study.storage else ""
        raise ConfigError(
            f"The study '{optuna_study.study_name}'{where} has another {', '.join(changed)}. Its trials are not "
            "comparable; give another --out."
        )


def _relevant(config: dict[str, Any]) -> dict[str, Any]:
    """A config without the fields in which the calls of a study may differ."""
    return {
        section: {name: value for name, value in fields.items() if (section, name) not in IRRELEVANT}
        if isinstance(fields, dict)
        else fields
        for section, fields in config.items()
    }
