"""``gyrus auto``: from a data set to one classifier, with the honest score of how it was found. See :func:`auto`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gyrus.auto.budget import Budget
from gyrus.auto.fingerprint import Fingerprint, take_fingerprint
from gyrus.auto.plan import AutoOptions, Plan, make_plan, split_overrides
from gyrus.auto.procedure import Procedure
from gyrus.auto.result import AutoResult
from gyrus.auto.trainings import Trainings
from gyrus.configuration import write_document
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import split
from gyrus.errors import ConfigError, RunError
from gyrus.files import make_folder, refuse_links, require_empty
from gyrus.runs.run_folder import Run
from gyrus.text import counted
from gyrus.training.worker import by_process_0
from gyrus.workflows.display import SILENT, Display, show_notes
from gyrus.workflows.evaluate import require_evaluable
from gyrus.workflows.experiment_config import ExperimentConfig, load_config
from gyrus.workflows.load_data import is_people_table, scan_to_train
from gyrus.workflows.training_plan import require_classes, require_order


def plan_auto(
    data: str | Path,
    *,
    minutes: float = 30.0,
    candidates: Sequence[str] = (),
    folds: int | None = None,
    metric: str = "macro_roc_auc",
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    display: Display = SILENT,
) -> tuple[Fingerprint, Plan]:
    """What :func:`auto` would do with the same arguments; nothing is written.

    Raises:
        GyrusError: As :func:`auto`.
    """
    options = AutoOptions(minutes, tuple(candidates), folds, metric, seed)
    settings = _settings(data, options, overrides)
    return _look(_scan(settings, display), settings, options, overrides, display)


@by_process_0
def auto(
    data: str | Path,
    *,
    out: str | Path,
    minutes: float = 30.0,
    candidates: Sequence[str] = (),
    folds: int | None = None,
    metric: str = "macro_roc_auc",
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    begun: float | None = None,
    display: Display = SILENT,
) -> AutoResult:
    """Find the best classifier for a data set within a time, and score it on subjects that it was not chosen on.

    The same call continues what was interrupted; the time of all calls counts.

    Args:
        data: Folder, table, Parquet file, or hf:owner/name.
        out: The folder: new, empty, or of the same call.
        minutes: The time for everything.
        candidates: Names of :data:`gyrus.auto.candidates.CANDIDATES`; empty: those that suit the data.
        folds: Number of folds; None: by the number of subjects.
        metric: The score by which candidates are compared, a name of :data:`gyrus.evaluation.metrics.METRICS`.
        seed: Seed of everything random.
        overrides: Fields of all configs by dotted name; or of one candidate, as ``{"slice-cnn.training.epochs": 5}``.
        begun: The value of ``time.monotonic()`` from which on the time counts; None: that of the call.
        display: Where progress is shown.

    Returns:
        The result, which is saved in the folder as well.

    Raises:
        GyrusError: The options, the data or the folder cannot be used.
        KeyboardInterrupt: It was interrupted; the same call continues it.
    """
    options = AutoOptions(minutes, tuple(candidates), folds, metric, seed)
    settings, folder = _settings(data, options, overrides), Path(out)
    refuse_links(folder, error=RunError)
    if not (folder / "plan.json").is_file():
        advice = "It holds nothing that `gyrus auto` can continue. Give a new folder with --out."
        require_empty(folder, advice, error=RunError, ignored=[".lock", "time.json"])
    budget = Budget(minutes, folder / "time.json", begun=begun)
    manifest = _scan(settings, display)
    fingerprint, plan = _open(folder, manifest, settings, options, overrides, display)
    make_folder(folder)
    with Run(folder).locked():
        fingerprint.save(folder / "fingerprint.json")
        plan.save(folder / "plan.json")
        trainings = Trainings(folder / "candidates", plan, settings, manifest, budget, display)
        manifest.save(folder / "manifest.parquet")
        for each in plan.used:
            write_document(folder / "configs" / f"{each.name}.yaml", each.settings)
        budget.update()
        return Procedure(folder, fingerprint, plan, settings, manifest, trainings, budget, display).run()


def _settings(data: str | Path, options: AutoOptions, overrides: Mapping[str, Any] | None) -> ExperimentConfig:
    """How the data are read, split and scored: the config that all candidates share."""
    common, _ = split_overrides(overrides or {})
    reading = {name: value for name, value in common.items() if name.split(".")[0] in ("data", "split", "evaluation")}
    changes: dict[str, Any] = {"seed": options.seed, **reading}
    if is_people_table(data, reading.get("data.columns") or {}):
        changes["model.name"] = "logistic-regression"
    settings = load_config(None, changes, data=data)
    if settings.data.target is not None:
        raise ConfigError(
            f"gyrus auto chooses between classifiers of classes, and data.target asks for the number "
            f"'{settings.data.target}'. Use gyrus crossval --target {settings.data.target} with a recipe."
        )
    if settings.split.method in ("given", "leave-one-group-out"):
        raise ConfigError(
            f"split.method={settings.split.method} is not possible with gyrus auto: it assigns subjects to folds, and "
            "scores on the test set of the data where they define one."
        )
    return settings


def _scan(settings: ExperimentConfig, display: Display) -> Manifest:
    manifest = scan_to_train(settings, display)
    require_classes(manifest, display)
    require_order(manifest, settings)
    require_evaluable(manifest, settings.evaluation)
    if settings.split.unit == "subject":  # subjects that are unknown are refused, with advice, before anything else
        config = settings.split.model_copy(update={"method": "holdout"})
        found = split(replace(manifest, near_copies=()), config, seed=settings.seed)  # the plan names copies
        show_notes(display, [found.warning, *found.notes])
    return manifest


def _look(
    manifest: Manifest,
    settings: ExperimentConfig,
    options: AutoOptions,
    overrides: Mapping[str, Any] | None,
    display: Display,
) -> tuple[Fingerprint, Plan]:
    """Measure the data, and make the plan."""
    with display.progress("Measuring images") as progress:
        fingerprint = take_fingerprint(
            manifest,
            name=Path(str(settings.data.path)).name,
            table_columns=tuple(settings.data.table_columns),
            seed=options.seed,
            progress=progress,
        )
    return fingerprint, make_plan(fingerprint, options, overrides, data=settings.data.path)


def _open(
    folder: Path,
    manifest: Manifest,
    settings: ExperimentConfig,
    options: AutoOptions,
    overrides: Mapping[str, Any] | None,
    display: Display,
) -> tuple[Fingerprint, Plan]:
    """The fingerprint and the plan of a folder, made now or by an earlier call of the same command.

    Raises:
        RunError: The folder holds a call with other data or options.
    """
    if not (folder / "plan.json").is_file():
        fingerprint, plan = _look(manifest, settings, options, overrides, display)
        display.say(fingerprint.text())
        display.say(plan.text())
        return fingerprint, plan
    fingerprint, plan = Fingerprint.load(folder / "fingerprint.json"), Plan.load(folder / "plan.json")
    now = make_plan(replace(fingerprint, digest=manifest.digest), options, overrides, data=settings.data.path)
    changed = [
        name
        for name in ("digest", "folds", "outer", "metric", "seed", "candidates")
        if getattr(plan, name) != getattr(now, name)
    ]
    if changed:
        raise RunError(
            f"{folder} holds a call of gyrus auto with other data or options ({', '.join(changed)}). Give a new folder "
            "with --out, or the same data and options to continue."
        )
    display.say(f"Continuing in {folder}: {counted(len(plan.used), 'candidate')}, {plan.folds} folds")
    return fingerprint, now
