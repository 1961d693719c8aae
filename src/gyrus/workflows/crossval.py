"""Cross-validate: evaluate each subject once per repeat, with a network that has never seen it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from gyrus.configuration import write_document
from gyrus.datasets.copies import near_copy_notes
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split, group_names, kfold, leave_one_group_out
from gyrus.datasets.table_features import require_same_columns
from gyrus.datasets.text_tables import write_csv
from gyrus.errors import ConfigError, RunError
from gyrus.evaluation.added_value import AddedValue
from gyrus.evaluation.number_folds import number_fold_notes
from gyrus.evaluation.number_result import NumberEvaluation, load_evaluation
from gyrus.evaluation.out_of_fold import fold_notes, fold_scores, join_folds, require_all_tested, summarise_folds
from gyrus.evaluation.result import Evaluation
from gyrus.files import write_text
from gyrus.inference.number_predictions import AnyPredictions, NumberPredictions, load_predictions
from gyrus.inference.predictions import Predictions
from gyrus.reporting.crossval_report import report_folds
from gyrus.reporting.number_report import report_number_folds
from gyrus.runs.run_folder import Run
from gyrus.text import listed
from gyrus.training.worker import by_process_0
from gyrus.workflows.baselines import evaluate_fold_baselines
from gyrus.workflows.crossval_folder import (
    CrossValidation,
    fold_folder,
    fold_runs,
    metrics_path,
    open_folder,
    planned_config,
    predictions_path,
    write_facts,
)
from gyrus.workflows.display import SILENT, Display, show_notes
from gyrus.workflows.evaluate import evaluate_predictions, require_evaluable, score_own_visits
from gyrus.workflows.experiment_config import ExperimentConfig, load_config
from gyrus.workflows.harmonisation import check_sites_of_folds
from gyrus.workflows.load_data import scan_to_train
from gyrus.workflows.parallel_training import train_all
from gyrus.workflows.table_fusion import PARTS, evaluate_added_value
from gyrus.workflows.train import finish_run, train_on_split
from gyrus.workflows.training_plan import require_classes, require_order, require_two_classes


class NestedChoice(Protocol):
    """Chooses the config of each fold, for a nested cross-validation."""

    def __call__(
        self, config: ExperimentConfig, manifest: Manifest, split: Split, folder: Path, display: Display
    ) -> ExperimentConfig:
        """Return the config of a fold. Its sections ``data`` and ``split`` must not change.

        Args:
            config: The config before the choice.
            manifest: The images of the training and validation sets of the fold, without its test set.
            split: Their split; its test set is empty.
            folder: A folder for the files of this choice.
            display: Where progress is shown.
        """

    def check(self, config: ExperimentConfig) -> None:
        """Check the settings of the choice before any file is written.

        Raises:
            ConfigError: A setting cannot be used.
        """

    def describe(self) -> dict[str, Any]:
        """All that determines the choice, as plain values. If it changes, it is another cross-validation."""


@by_process_0
def crossval(
    config: ExperimentConfig | str | Path | None = None,
    *,
    data: str | Path | None = None,
    out: str | Path,
    folds: int = 5,
    repeats: int = 1,
    overrides: Mapping[str, Any] | None = None,
    choose: NestedChoice | None = None,
    display: Display = SILENT,
) -> CrossValidation:
    """Train one network per fold, and evaluate each subject with the network that has never seen it.

    Subjects are assigned to folds, stratified by class, in an order that the seed determines. Within each fold, a
    validation set of subjects chooses the weights; the test set of the fold chooses nothing. A finished fold is not
    trained again, and an interrupted fold continues.

    Args:
        config: The name of a recipe, the path of a YAML or JSON file, or a config.
        data: Overrides ``data.path``. Training, validation and test sets that the data define are not used.
        out: The folder: new, empty, or of the same cross-validation.
        folds: How many folds.
        repeats: How often to assign all subjects anew; repeat r uses the seeds of the config plus r.
        overrides: Fields by dotted name, as ``{"training.epochs": 5}``.
        choose: For a nested cross-validation: chooses the config of each fold.
        display: Where progress is shown.

    Returns:
        The result, which is saved in the folder as well.

    Raises:
        GyrusError: The config, the data or the folder cannot be used. Most errors are raised before training starts.
        KeyboardInterrupt: Training was interrupted; the same call continues it.
    """
    settings, folder = load_config(config, overrides, data=data), Path(out)
    if folds < 2 or repeats < 1:
        raise ConfigError(f"A cross-validation needs 2 or more folds and 1 or more repeats, got {folds} and {repeats}.")
    manifest = scan_to_train(settings, display)
    require_classes(manifest, display)
    require_order(manifest, settings)
    require_evaluable(manifest, settings.evaluation)
    if choose:
        choose.check(settings)
    if settings.split.method == "leave-one-group-out":
        names = group_names(manifest, settings.split)
        folds = len(names)
        show_notes(display, [f"one fold per {settings.split.group}: {listed(names)}"])
    assigned = assign_folds(settings, manifest, folds=folds, repeats=repeats)
    plan = _plan(settings, manifest, folds, choose)
    open_folder(folder, plan, repeats)
    saved = folder / "manifest.parquet"
    if saved.is_file():
        before = Manifest.load(saved).table
        require_same_columns(before, manifest.table, settings.data.columns_of_the_table, "the cross-validation")
    with Run(folder).locked():
        # First, because a folder that holds anything else but no plan is not continued.
        write_facts(folder, plan, folds=folds, repeats=repeats, status="started")
        write_document(folder / "config.yaml", settings)
        manifest.save(saved)
        if manifest.table["subset"].notna().any():
            show_notes(display, ["the subsets that the data define are not used; all samples are assigned to folds"])
        trainings = {
            f"Repeat {repeat + 1} of {repeats}, fold {fold + 1} of {folds}": partial(
                _run_fold, fold_folder(folder, repeat, fold).absolute(), fold_settings, saved.absolute(), split, choose
            )
            for (repeat, fold), (fold_settings, split) in assigned.items()
        }
        train_all(trainings, manifest, settings.preprocessing, display)
        found = _evaluate_folds(folder, settings, manifest, folds, repeats)
        _report(found, manifest)
        write_facts(folder, plan, folds=folds, repeats=repeats, status="finished")
    return found


def _report(found: CrossValidation, manifest: Manifest) -> None:
    """Write the figures and the page of a cross-validation."""
    predictions, evaluation = found.predictions(), found.pooled[0]
    how: dict[str, Any] = {"summary": found.summary, "manifest": manifest, "baselines": found.baselines}
    if isinstance(predictions, NumberPredictions) and isinstance(evaluation, NumberEvaluation):
        report_number_folds(found.folder, predictions=predictions, evaluation=evaluation, **how)
    elif isinstance(predictions, Predictions) and isinstance(evaluation, Evaluation):
        how |= {"added_value": found.added_value, "visit_scores": found.visit_scores}
        report_folds(found.folder, predictions=predictions, evaluation=evaluation, scores=found.scores, **how)


def assign_folds(
    settings: ExperimentConfig, manifest: Manifest, *, folds: int, repeats: int
) -> dict[tuple[int, int], tuple[ExperimentConfig, Split]]:
    """The split of each fold, and the config that trains this fold by itself, by repeat and fold.

    Raises:
        SplitError: There are fewer subjects than folds, a subset would be empty, or a training or validation set would
            have one class only.
    """
    first = settings.seed if settings.split.seed is None else settings.split.seed
    assigned = {}
    for repeat in range(repeats):
        by_group = settings.split.method == "leave-one-group-out"
        method = settings.split.method if by_group else "kfold"
        how = settings.split.model_copy(update={"method": method, "folds": folds, "seed": first + repeat})
        for fold, split in enumerate((leave_one_group_out if by_group else kfold)(manifest, how)):
            require_two_classes(manifest, split, f"Fold {fold} of repeat {repeat}")
            changes = {"split": how.model_copy(update={"fold": fold}), "seed": settings.seed + repeat}
            assigned[repeat, fold] = settings.model_copy(update=changes), split
    return assigned


def _run_fold(
    folder: Path,
    settings: ExperimentConfig,
    manifest_file: Path,
    split: Split,
    choose: NestedChoice | None,
    display: Display,
) -> None:
    """Train a fold, or continue it. Another process gets the name of the manifest's file."""

    def start() -> Run:
        manifest = Manifest.load(manifest_file)
        chosen = settings
        if choose:
            known = manifest.select([*split.samples["train"], *split.samples["val"]])
            without_test = replace(
                split, samples={**split.samples, "test": ()}, subjects={**split.subjects, "test": ()}
            )
            files = folder.with_name(folder.name.replace("fold-", "choice-"))
            chosen = choose(settings, known, without_test, files, display)
            if (chosen.data, chosen.split) != (settings.data, settings.split):
                raise ConfigError("`choose` must not change `data` or `split`: the fold determines the training set.")
        return train_on_split(manifest, split, chosen, out=folder, display=display)

    run = finish_run(folder, start, settings=None if choose else settings, display=display)
    if Split.load(run.split) != split:
        raise RunError(f"{folder} holds a run with another split. Give a new folder with --out.")


def _evaluate_folds(
    folder: Path, settings: ExperimentConfig, manifest: Manifest, folds: int, repeats: int
) -> CrossValidation:
    """Evaluate the out-of-fold predictions of finished folds, and write all files except the report."""
    places = [(repeat, fold) for repeat in range(repeats) for fold in range(folds)]
    runs = dict(zip(places, fold_runs(folder), strict=True))
    scores = fold_scores({place: load_evaluation(run.metrics) for place, run in runs.items()})
    pooled: list[Evaluation | NumberEvaluation] = []
    for repeat in range(repeats):
        tables = [load_predictions(runs[repeat, fold].predictions("test")) for fold in range(folds)]
        tested: AnyPredictions = join_folds(tables)  # type: ignore[type-var]
        require_all_tested(tested, manifest.table["sample"].tolist())
        tested.save(predictions_path(folder, repeat))
        pooled.append(evaluate_predictions(tested, settings.evaluation, seed=settings.seed))
    summary, first = summarise_folds(scores, pooled), pooled[0]
    notes = number_fold_notes(summary) if isinstance(first, NumberEvaluation) else fold_notes(summary, first, folds)
    pooled = [replace(each, notes=(*each.notes, *near_copy_notes(manifest), *notes)) for each in pooled]
    baselines = evaluate_fold_baselines(
        [runs[0, fold] for fold in range(folds)],
        Run(folder),
        load_predictions(predictions_path(folder, 0)),
        settings.evaluation,
        seed=settings.seed,
    )
    added = _added_value(folder, settings, manifest, [runs[0, fold] for fold in range(folds)])
    visits = score_own_visits(Run(folder), load_predictions(predictions_path(folder, 0)), manifest, settings)
    check_sites_of_folds(Run(folder), manifest, [Split.load(runs[0, fold].split) for fold in range(folds)], settings)
    found = CrossValidation(folder, folds, tuple(pooled), scores, baselines, added, visits)
    for repeat, evaluation in enumerate(pooled):
        evaluation.save(metrics_path(folder, repeat))
    write_csv(scores, found.table)
    write_csv(found.summary, folder / "summary.csv")
    write_text(folder / "classification_report.txt", found.text())
    return found


def _added_value(
    folder: Path, settings: ExperimentConfig, manifest: Manifest, runs: Sequence[Run]
) -> AddedValue | None:
    """What the image adds to the table over the folds of the first repeat; None without a table or an image."""
    for part in PARTS:
        name = f"test-{part}"
        if not all(run.predictions(name).is_file() for run in runs):
            return None
        join_folds([Predictions.load(run.predictions(name)) for run in runs]).save(Run(folder).predictions(name))
    both = Predictions.load(predictions_path(folder, 0))
    return evaluate_added_value(Run(folder), manifest, both, experiment=settings, config=settings.evaluation)


def _plan(settings: ExperimentConfig, manifest: Manifest, folds: int, choose: NestedChoice | None) -> dict[str, Any]:
    """All that determines the networks. If it differs, a folder holds another cross-validation."""
    return {
        "folds": folds,
        "nested": choose.describe() if choose else None,
        "manifest": manifest.digest,
        "config": planned_config(settings),
    }
