"""Evaluate several runs as one classifier: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from gyrus.datasets.identifiers import examples, match_identifiers
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.errors import ConfigError, DataError, LeakageError, RunError
from gyrus.evaluation.number_result import NumberEvaluation, load_evaluation
from gyrus.evaluation.result import Evaluation
from gyrus.files import refuse_links, require_empty, write_text
from gyrus.inference.number_predictions import (
    AnyPredictions,
    NumberPredictions,
    average,
    average_numbers,
    load_predictions,
)
from gyrus.inference.pooling import average_predictions, fit_ensemble_weights
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.serialisation import Saved
from gyrus.text import counted, listed, visible
from gyrus.workflows.crossval_folder import CrossValidation, fold_runs, is_crossval
from gyrus.workflows.experiment_config import EvaluationConfig, load_run_config

if TYPE_CHECKING:
    from gyrus.evaluation.assessment import Assessment
    from gyrus.evaluation.number_assessment import NumberAssessment
    from gyrus.export.manifest import Choices

Weighting = Literal["equal", "validation"]
"""Equal weights, or weights fitted on the validation set that all members share."""

SavedWeighting = Literal["equal", "validation", "out-of-fold"]
"""How the weights of a saved ensemble were chosen; ``gyrus auto`` fits them on out-of-fold predictions."""


@dataclass(frozen=True)
class EnsembleMembers(Saved):
    """The content of ``ensemble.json``.

    Attributes:
        members: The run folders; see :meth:`folders`.
        weights: The weight of each; they sum to 1.
        weighting: How the weights were chosen.
    """

    SCHEMA: ClassVar[str] = "gyrus.ensemble/1"

    members: tuple[str, ...]
    weights: tuple[float, ...]
    weighting: SavedWeighting

    def folders(self, ensemble: Path) -> tuple[Path, ...]:
        """Where the members are: from the folder of the ensemble, from the current folder, or beside the ensemble.

        Args:
            ensemble: The folder of the ensemble.

        Raises:
            RunError: A member does not exist.
        """
        found = []
        for name in self.members:
            places = [ensemble / name, Path(name), ensemble.parent / Path(name).name]
            place = next((each for each in places if each.is_dir()), None)
            if place is None:
                raise RunError(
                    f"The ensemble in {ensemble} has the member {name}, which does not exist. Run the command in the "
                    "folder where the ensemble was made, or combine the runs again with `gyrus ensemble`."
                )
            found.append(place)
        return tuple(found)


@dataclass(frozen=True)
class Ensemble:
    """An ensemble of runs, evaluated on the test set that they share.

    Attributes:
        folder: The folder with ``predictions.parquet``, ``metrics.json``, ``ensemble.json`` and the report.
        about: The members and their weights.
        evaluation: The evaluation of the mean of the probabilities.
        alone: The evaluation of each member on the same test set.
    """

    folder: Path
    about: EnsembleMembers
    evaluation: Evaluation | NumberEvaluation
    alone: tuple[Evaluation | NumberEvaluation, ...]

    @property
    def members(self) -> tuple[str, ...]:
        """The run folders."""
        return self.about.members

    @property
    def weights(self) -> tuple[float, ...]:
        """The weight of each member."""
        return self.about.weights

    @property
    def report(self) -> Path:
        """The report, HTML."""
        return self.folder / "report.html"

    @property
    def predictions(self) -> Path:
        """The table of predictions, parquet, which ``gyrus compare`` reads."""
        return self.folder / "predictions.parquet"

    def text(self) -> str:
        """Members and weights with their own scores, then the classification report of the ensemble."""
        names = [visible(name) for name in self.members]
        width = max(map(len, names), default=0) + 2
        number = isinstance(self.evaluation, NumberEvaluation)
        first, second = ("mae", "pearson") if number else ("accuracy", "macro_roc_auc")
        titles = ("MAE", "Pearson correlation") if number else ("accuracy", "macro ROC AUC")
        lines = [f"{'Member':{width}}{'weight':>7}  {titles[0]:22}{titles[1]}"]
        for name, weight, evaluation in zip(names, self.weights, self.alone, strict=True):
            metrics = evaluation.headline.metrics
            cells = f"{metrics[first].text():22}{metrics[second].text()}"
            lines.append(f"{name:{width}}{weight:7.3f}  {cells}")
        return "\n".join([*lines, "", self.evaluation.text()])

    @classmethod
    def load(cls, folder: Path) -> Ensemble:
        """Open what :func:`ensemble` wrote.

        Raises:
            RunError: There is no ensemble in the folder.
            DataError: A file is damaged, or of another version.
        """
        if not (folder / "ensemble.json").is_file():
            raise RunError(f"There is no ensemble in {folder}: it has no ensemble.json.")
        about = EnsembleMembers.load(folder / "ensemble.json")
        alone = [load_evaluation(folder / "members" / f"{number}.json") for number in range(len(about.members))]
        return cls(folder, about, load_evaluation(folder / "metrics.json"), tuple(alone))


def ensemble(
    runs: Sequence[Run | str | Path],
    *,
    out: str | Path,
    weights: Weighting = "equal",
    config: EvaluationConfig | None = None,
) -> Ensemble:
    """Evaluate the mean of the probabilities of several runs on the test set that they share.

    Cross-validations over the same folds are averaged fold by fold, so that each subject is evaluated with networks
    that have never seen it. Nothing is chosen on the test set: decide which runs take part before you look at their
    test scores. Weights come from the validation set.

    Args:
        runs: Two or more runs or run folders, or two or more folders of cross-validations.
        out: The folder to write into: new, empty, or of an earlier ensemble.
        weights: "equal", or "validation": fitted on the validation set, which all runs must share.
        config: Settings of the confidence intervals.

    Raises:
        RunError: A folder holds no finished run, or ``out`` holds other files.
        ConfigError: There are fewer than two runs, one was split by image, or weights cannot be fitted.
        DataError: The test sets or the classes differ.
        LeakageError: A test subject was in the training or validation set of one of the runs.
    """
    # Late: predictions with an ensemble need neither.
    from gyrus.reporting.number_report import report_number_predictions
    from gyrus.reporting.run_report import report_predictions
    from gyrus.workflows.evaluate import evaluate_predictions

    folder = Path(out)
    members = _fold_members(runs) if _are_crossvals(runs) else _run_members(runs)
    if len(members.names) < 2:
        raise ConfigError(f"An ensemble needs two or more runs, got {len(members.names)}.")
    refuse_links(folder, error=RunError)
    if not (folder / "ensemble.json").exists():
        require_empty(folder, "It holds no ensemble. Give a new folder with --out.", error=RunError)
    for sharing in members.sharing:
        _require_shared_test(sharing)
    about = EnsembleMembers(members.names, members.weights(weights), weights)
    mean: AnyPredictions = average(members.tested, about.weights)  # type: ignore[type-var]
    settings = config or EvaluationConfig()
    evaluation = evaluate_predictions(mean, settings)
    what = "numbers" if isinstance(mean, NumberPredictions) else "probabilities"
    evaluation = replace(evaluation, notes=(*evaluation.notes, _note(members.kind, about, what)))
    alone = tuple(evaluate_predictions(each, settings) for each in members.tested)
    found = Ensemble(folder, about, evaluation, alone)

    mean.save(found.predictions)
    evaluation.save(folder / "metrics.json")
    for number, each in enumerate(alone):
        each.save(folder / "members" / f"{number}.json")
    write_text(folder / "classification_report.txt", found.text())
    if isinstance(mean, NumberPredictions) and isinstance(evaluation, NumberEvaluation):
        report_number_predictions(mean, evaluation, folder)
    elif isinstance(mean, Predictions) and isinstance(evaluation, Evaluation):
        report_predictions(mean, evaluation, folder)
    about.save(folder / "ensemble.json")
    return found


def open_runs(sources: Sequence[Run | str | Path]) -> tuple[Run, ...]:
    """Open finished runs; the folder of a cross-validation or of an ensemble stands for all its runs.

    Raises:
        RunError: A folder holds none of these, or a run has not finished.
        ConfigError: A run is named twice.
    """
    runs: list[Run] = []
    for source in sources:
        folder = source.folder if isinstance(source, Run) else Path(source)
        if is_ensemble(folder):
            runs.extend(open_runs(EnsembleMembers.load(folder / "ensemble.json").folders(folder)))
        else:
            runs.extend(fold_runs(folder) if is_crossval(folder) else [Run.open(folder)])
    folders = [run.folder.resolve() for run in runs]
    twice = [folder for folder in folders if folders.count(folder) > 1]
    if twice:
        raise ConfigError(f"The run {twice[0]} is named twice; each member counts once.")
    return tuple(runs)


def is_ensemble(folder: Path) -> bool:
    """Whether a folder holds an ensemble."""
    try:
        return (folder / "ensemble.json").is_file()
    except OSError:  # an impossible name
        return False


def saved_weights(sources: Sequence[Run | str | Path]) -> tuple[float, ...] | None:
    """The weight of each run of :func:`open_runs`, where the only source is an ensemble; else None."""
    if len(sources) != 1 or isinstance(sources[0], Run) or not is_ensemble(Path(sources[0])):
        return None
    folder = Path(sources[0])
    about = EnsembleMembers.load(folder / "ensemble.json")
    counts = [len(open_runs([place])) for place in about.folders(folder)]
    return tuple(weight / count for weight, count in zip(about.weights, counts, strict=True) for _ in range(count))


def member_weights(runs: Sequence[Run], weighting: Weighting | Sequence[float]) -> tuple[float, ...]:
    """The weight of each run in the mean of the probabilities.

    Args:
        runs: Finished runs.
        weighting: "equal", or "validation": of maximum likelihood on the validation set; or the weights themselves.

    Raises:
        ConfigError: The validation sets differ.
    """
    if not isinstance(weighting, str):
        return tuple(weighting)
    if weighting == "equal":
        return (1 / len(runs),) * len(runs)
    tables = [Predictions.load(run.predictions("val")) for run in runs]
    try:
        return fit_ensemble_weights(tables)
    except DataError as error:
        raise ConfigError(
            f"Weights can be fitted only if all runs share the validation set. {error} "
            "The folds of a cross-validation never share it; use equal weights."
        ) from error


def shared_assessment(
    runs: Sequence[Run], weights: Sequence[float], resamples: int = 2000
) -> tuple[Assessment | None, tuple[str, ...]]:
    """Choices made on the validation set that all members share, with the reason where there are none.

    Args:
        runs: Finished runs.
        weights: The weight of each.
        resamples: Bootstrap resamples; 0 for no intervals.
    """
    from gyrus.evaluation.assessment import assess
    from gyrus.workflows.evaluate import healthy_class

    settings = [load_run_config(run).evaluation for run in runs]
    stated = {(each.healthy, each.at_least) for each in settings}
    if len(stated) > 1:
        return None, ("No operating points, because evaluation.healthy or evaluation.at_least of the members differ.",)
    ((healthy, at_least),) = stated
    try:
        val, test = (
            average_predictions([Predictions.load(run.predictions(subset)) for run in runs], weights)
            for subset in ("val", "test")
        )
        healthy = healthy or healthy_class(test.classes)
        return assess(val, test, healthy=healthy, at_least=at_least, resamples=resamples), ()
    except (DataError, LeakageError) as error:
        return None, (f"No calibration and no operating points, because the members share no validation set: {error}",)


def shared_number_assessment(
    runs: Sequence[Run], weights: Sequence[float], resamples: int = 2000
) -> tuple[NumberAssessment | None, tuple[str, ...]]:
    """The same for a number: prediction intervals and correction of the bias; arguments as there."""
    from gyrus.evaluation.number_assessment import assess_numbers

    try:
        val, test = (
            average_numbers([NumberPredictions.load(run.predictions(subset)) for run in runs], weights)
            for subset in ("val", "test")
        )
        return assess_numbers(val, test, resamples=resamples), ()
    except (DataError, LeakageError) as error:
        return None, (f"No prediction intervals, because the members share no validation set: {error}",)


def shared_choices(runs: Sequence[Run], weights: Sequence[float], classes: Sequence[str]) -> Choices | None:
    """What was chosen on the validation set of a run, or on that of several, to apply to new data; None for nothing.

    Args:
        runs: Finished runs.
        weights: The weight of each.
        classes: Their classes; an assessment of other classes is one of another classifier.
    """
    from gyrus.evaluation.assessment import SHIPPED_GOAL, Assessment
    from gyrus.export.manifest import Choices

    if len(runs) > 1:
        assessment, _ = shared_assessment(runs, weights, resamples=0)
    else:
        assessment = Assessment.load(runs[0].assessment) if runs[0].assessment.is_file() else None
    if assessment is None or assessment.classes != tuple(classes):
        return None
    return Choices.from_assessment(assessment, SHIPPED_GOAL)


@dataclass(frozen=True)
class _Members:
    """The members of an ensemble.

    Attributes:
        names: The folders.
        tested: The predictions of each for its test set.
        sharing: Groups of runs that must share a test set: all runs, or those of each fold.
        kind: What a member is.
    """

    names: tuple[str, ...]
    tested: tuple[AnyPredictions, ...]
    sharing: tuple[tuple[Run, ...], ...]
    kind: Literal["runs", "cross-validations over the same folds"]

    def weights(self, weighting: Weighting) -> tuple[float, ...]:
        if self.kind == "runs":
            return member_weights(self.sharing[0], weighting)
        if weighting != "equal":
            raise ConfigError(
                "Cross-validations can only have equal weights, because each fold has a validation set of its own."
            )
        return (1 / len(self.names),) * len(self.names)


def _are_crossvals(sources: Sequence[Run | str | Path]) -> bool:
    return len(sources) > 1 and all(not isinstance(source, Run) and is_crossval(Path(source)) for source in sources)


def _run_members(sources: Sequence[Run | str | Path]) -> _Members:
    runs = open_runs(sources)
    tested = tuple(load_predictions(run.predictions("test")) for run in runs)
    return _Members(tuple(str(run.folder) for run in runs), tested, (runs,), "runs")


def _fold_members(sources: Sequence[Run | str | Path]) -> _Members:
    """Cross-validations with the out-of-fold predictions of their first repeat."""
    open_runs(sources)  # refuses folders that are named twice or have not finished
    found = [CrossValidation.load(Path(str(source))) for source in sources]
    counts = {each.folds for each in found}
    if len(counts) > 1:
        raise DataError(
            f"The cross-validations have {sorted(counts)} folds; an ensemble needs cross-validations over the same "
            "folds."
        )
    by_fold = tuple(tuple(each.runs[fold] for each in found) for fold in range(counts.pop()))
    tested = tuple(each.predictions() for each in found)
    return _Members(tuple(str(each.folder) for each in found), tested, by_fold, "cross-validations over the same folds")


def _require_shared_test(runs: Sequence[Run]) -> None:
    splits = [Split.load(run.split) for run in runs]
    for run, split in zip(runs, splits, strict=True):
        if split.unit == "image":
            raise ConfigError(
                f"{run.folder} was split by image, so that test subjects are also in the training set. Use runs that "
                "were split by subject."
            )
    for run, split in zip(runs[1:], splits[1:], strict=True):
        if split.samples["test"] != splits[0].samples["test"]:
            here, there = set(split.samples["test"]), set(splits[0].samples["test"])
            shared = len(here & there)
            only = "; ".join(examples(sorted(names)) for names in (here - there, there - here) if names)
            raise DataError(
                f"The test sets differ: that of {run.folder} has {len(split.samples['test'])} samples, that of "
                f"{runs[0].folder} has {len(splits[0].samples['test'])}, and {shared} are the same (only in one: "
                f"{only}). Use runs with one split (split.seed). The folds of a cross-validation are evaluated by "
                "their out-of-fold predictions; as one ensemble they have been trained on every subject."
            )
    for run, split in zip(runs, splits, strict=True):
        _refuse_leakage(run, split, splits[0])


def _refuse_leakage(run: Run, split: Split, tested: Split) -> None:
    """Refuse a run whose training or validation set has test subjects, or copies of test images."""
    used = {*split.samples["train"], *split.samples["val"]}
    # The runs may have read the subjects from different tables.
    match = match_identifiers(tested.subjects["test"], [*split.subjects["train"], *split.subjects["val"]])
    known = set(match.found)
    table = Manifest.load(run.manifest).table
    digests = set(table.loc[table["sample"].isin(used), "digest"].dropna())
    copies = table[table["sample"].isin(tested.samples["test"]) & table["digest"].isin(digests)]
    known |= set(copies["subject"].dropna())
    if known:
        names = sorted(known)
        raise LeakageError(
            f"{counted(len(names), 'subject')} of the test set, or copies of their images, were in the training or "
            f"validation set of {run.folder}: {listed(names)}. An ensemble with this run cannot be "
            "evaluated on them.",
            names,
        )


def _note(kind: str, about: EnsembleMembers, what: str) -> str:
    mean = f"This is the mean of the {what} of {len(about.members)} {kind}"
    if about.weighting == "equal":
        return f"{mean} with equal weights."
    weights = ", ".join(f"{weight:.2f}" for weight in about.weights)
    return f"{mean} with the weights {weights}, fitted on the validation set that also chose the epoch of each."
