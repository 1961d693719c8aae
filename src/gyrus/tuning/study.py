"""A study: many configurations of one experiment, tried and compared on people outside the test set."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock

from gyrus.configuration import differences, parse, read_document, write_document
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split, split
from gyrus.errors import ConfigError
from gyrus.files import digest
from gyrus.tuning.samplers_and_pruners import grid_size, make_pruner, make_sampler
from gyrus.tuning.search_space import SearchSpace
from gyrus.tuning.storage import open_storage, shown
from gyrus.tuning.study_config import StudyConfig, StudyFolder
from gyrus.tuning.study_report import write_outcome
from gyrus.tuning.study_result import StudyResult
from gyrus.tuning.trial import inner_splits, without_test
from gyrus.tuning.trial_queue import TrialQueue, rank
from gyrus.tuning.worker import work
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.experiment_config import ExperimentConfig, load_config
from gyrus.workflows.load_data import scan_data


def tune(
    plan: StudyConfig,
    config: ExperimentConfig | str | Path | None = None,
    *,
    out: str | Path,
    data: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    display: Display = SILENT,
) -> StudyResult:
    """Try configurations until the budget is spent, and write down what was found.

    The same call in several processes shares one study: on one machine by its folder, on several by a storage that all
    reach. What was broken off is repeated, what is done is not done again, and a call with more trials goes on.

    Args:
        plan: How to go about it.
        config: What is tuned: a recipe's name, the path of a YAML or JSON file, or a config.
        out: The folder of the study.
        data: Overrides ``data.path``.
        overrides: Fields by dotted name, as ``{"training.epochs": 5}``.
        display: Where progress is shown.

    Returns:
        The study; its recipe, table, figures and page are in the folder.

    Raises:
        GyrusError: The config, the space, the data or the storage cannot be used.
        KeyboardInterrupt: It was interrupted; the same call goes on, beginning with the trial that was broken off.
    """
    settings = load_config(config, overrides, data=data)

    def found() -> tuple[Manifest, Split]:
        manifest = scan_data(settings.data, display)
        return manifest, split(manifest, settings.split, seed=settings.seed)

    return _study(plan, settings, found, StudyFolder(Path(out)), display)


def tune_on(
    plan: StudyConfig,
    settings: ExperimentConfig,
    manifest: Manifest,
    subsets: Split,
    *,
    out: Path,
    display: Display = SILENT,
) -> StudyResult:
    """The same on people who are dealt already, such as those that a fold of a cross-validation may learn from.

    Args:
        plan: How to go about it.
        settings: What is tuned.
        manifest: The data.
        subsets: Who is in which part; whoever is in the test set is left out.
        out: The folder of the study.
        display: Where progress is shown.

    Raises:
        GyrusError: As :func:`tune`.
        KeyboardInterrupt: As :func:`tune`.
    """
    return _study(plan, settings, lambda: (manifest, subsets), StudyFolder(out), display)


def _study(
    plan: StudyConfig,
    settings: ExperimentConfig,
    found: Callable[[], tuple[Manifest, Split]],
    folder: StudyFolder,
    display: Display,
) -> StudyResult:
    plan.check()
    plan = plan.aimed(settings.training.monitor)
    settings = load_config(settings, {"training.monitor": plan.monitor})
    plan.space.check(settings)
    if plan.sampler == "grid":
        plan = _within_grid(plan, settings, display)
    sampler = make_sampler(
        plan.sampler, plan.space, settings, seed=plan.seed, objectives=len(plan.objectives), rank=rank
    )
    longest = _most_epochs(plan.space, settings) * max(1, plan.folds)
    pruner = make_pruner(plan.chosen_pruner, longest=longest, objectives=len(plan.objectives))
    manifest, subsets = _prepare(folder, plan, settings, found, display)
    storage = open_storage(plan.storage, folder.path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            study_name=folder.path.resolve().name,
            storage=storage,
            directions=list(plan.directions),
            sampler=sampler,
            pruner=pruner,
            load_if_exists=True,
        )
        _refuse_other_study(study, plan, settings, manifest, subsets)
        tuned = StudyResult(folder, plan, settings, manifest, subsets, study)
        budget = TrialQueue(study, storage, plan.trials, lost_after=plan.lost_after)
        work(tuned, budget, inner_splits(manifest, subsets, plan.folds), display)
    with FileLock(folder.path / ".lock"):
        write_outcome(tuned)
    return tuned


def _within_grid(plan: StudyConfig, settings: ExperimentConfig, display: Display) -> StudyConfig:
    size = grid_size(plan.space, settings)
    display.say(f"Note: the grid has {size} combinations; {min(size, plan.trials)} of them are tried.")
    return replace(plan, trials=min(size, plan.trials))


def _most_epochs(space: SearchSpace, settings: ExperimentConfig) -> int:
    tuned = [end for each in space.parameters if each.field == "training.epochs" for end in each.ends]
    return max([settings.training.epochs, *tuned])


def _prepare(
    folder: StudyFolder,
    plan: StudyConfig,
    settings: ExperimentConfig,
    found: Callable[[], tuple[Manifest, Split]],
    display: Display,
) -> tuple[Manifest, Split]:
    """The data without the test set; found once, then the same for every worker and every time."""
    folder.path.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.path / ".lock"):
        if folder.split.exists():
            _refuse_other_settings(folder, plan, settings)
            return Manifest.load(folder.manifest), Split.load(folder.split)
        manifest, subsets = found()
        for note in (subsets.warning, *subsets.notes):
            if note:
                display.say(f"Note: {note}.")
        seen = without_test(manifest, subsets)
        write_document(folder.config, settings)
        write_document(folder.space, plan.space)
        seen.save(folder.manifest)
        subsets.save(folder.split)
        return seen, subsets


def _refuse_other_settings(folder: StudyFolder, plan: StudyConfig, settings: ExperimentConfig) -> None:
    before = load_config(folder.config).model_dump(mode="json")
    changes = differences(before, settings.model_dump(mode="json"))
    changes = [change for change in changes if change[0] not in ("data.path", "training.device", "training.workers")]
    if changes:
        words = "; ".join(f"{field} was {old!r}, is {new!r}" for field, old, new in changes)
        raise ConfigError(f"The study in {folder.path} began with other settings: {words}. Give another --out.")
    if parse(SearchSpace, read_document(folder.space), where=str(folder.space)).named != plan.space.named:
        raise ConfigError(f"The study in {folder.path} began with another search space. Give another --out.")


def _refuse_other_study(
    study: optuna.Study, plan: StudyConfig, settings: ExperimentConfig, manifest: Manifest, subsets: Split
) -> None:
    """Refuse to mix trials of other data or settings into a study that lies in a shared storage."""
    config = settings.model_dump(mode="json")
    for section, name in (("data", "path"), ("training", "device"), ("training", "workers")):
        config[section].pop(name)
    marks = {
        "config": digest(config),
        "search space": digest(plan.space.model_dump(mode="json")["parameters"]),
        "objectives": list(plan.objectives),
        "folds": plan.folds,
        "data": manifest.digest,
        "split": digest(dict(subsets.samples)),
    }
    known = study.user_attrs.get("gyrus")
    if known is None:
        study.set_user_attr("gyrus", marks)
        return
    other = [name for name, mark in marks.items() if known.get(name) != mark]
    if other:
        place = f" in {shown(plan.storage)}" if plan.storage else ""
        raise ConfigError(
            f"The study '{study.study_name}'{place} began with another {', '.join(other)}. Its trials cannot be "
            "compared with these; give another --out."
        )
