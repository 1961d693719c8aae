"""Several runs as one classifier: the mean of their probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.errors import ConfigError, DataError, LeakageError, RunError
from gyrus.evaluation.result import Evaluation
from gyrus.files import read_json, write_json, write_text
from gyrus.inference.pooling import average, fit_weights
from gyrus.inference.predictions import Predictions
from gyrus.reporting.run_report import report_predictions
from gyrus.runs.run_folder import Run
from gyrus.workflows.crossval import CrossValidation, fold_runs
from gyrus.workflows.evaluate import judge
from gyrus.workflows.experiment_config import EvaluationConfig

SCHEMA = "gyrus.ensemble/1"

Weighting = Literal["equal", "validation"]
"""All members alike, or by weights fitted on the validation set that all of them share."""


@dataclass(frozen=True)
class Ensemble:
    """An ensemble of runs that was judged on the test set that they share.

    Attributes:
        folder: With ``predictions.parquet``, ``metrics.json``, ``ensemble.json`` and the page.
        members: The run folders.
        weights: The share of each.
        weighting: Where the weights come from.
        evaluation: Of the mean of the probabilities.
        alone: The evaluation of each member on the same test set.
    """

    folder: Path
    members: tuple[str, ...]
    weights: tuple[float, ...]
    weighting: Weighting
    evaluation: Evaluation
    alone: tuple[Evaluation, ...]

    @property
    def report(self) -> Path:
        """The page for people, HTML."""
        return self.folder / "report.html"

    @property
    def predictions(self) -> Path:
        """The table of predictions, parquet; ``gyrus compare`` takes it."""
        return self.folder / "predictions.parquet"

    def text(self) -> str:
        """Members and weights with their own scores, then the classification report of the ensemble."""
        width = max(map(len, self.members), default=0) + 2
        lines = [f"{'Member':{width}}{'weight':>7}  {'accuracy':22}macro ROC AUC"]
        for name, weight, evaluation in zip(self.members, self.weights, self.alone, strict=True):
            metrics = evaluation.headline.metrics
            cells = f"{metrics['accuracy'].text():22}{metrics['macro_roc_auc'].text()}"
            lines.append(f"{name:{width}}{weight:7.3f}  {cells}")
        return "\n".join([*lines, "", self.evaluation.text()])

    @classmethod
    def load(cls, folder: Path) -> Ensemble:
        """Open what :func:`ensemble` wrote.

        Raises:
            RunError: There is no ensemble.
        """
        path = folder / "ensemble.json"
        about = read_json(path) if path.is_file() else {}
        if about.get("schema") != SCHEMA:
            raise RunError(f"There is no ensemble in {folder}: it has no ensemble.json of schema {SCHEMA}.")
        return cls(
            folder,
            tuple(about["members"]),
            tuple(about["weights"]),
            about["weighting"],
            Evaluation.load(folder / "metrics.json"),
            tuple(Evaluation.load(folder / "members" / f"{number}.json") for number in range(len(about["members"]))),
        )


def ensemble(
    sources: Sequence[Run | str | Path],
    *,
    out: str | Path,
    weighting: Weighting = "equal",
    config: EvaluationConfig | None = None,
) -> Ensemble:
    """Judge the mean of the probabilities of runs on the test set that they share.

    Cross-validations over the same folds are averaged fold by fold: each person is judged by networks none of which has
    seen them. Nothing is chosen on the test set: which runs take part is the caller's to say before looking, and
    weights come from the validation set.

    Args:
        sources: Two or more runs, or their folders; or two or more folders of cross-validations.
        out: The folder to write into, new, empty, or of an earlier ensemble.
        weighting: "equal", or "validation": fitted on the validation set, which all must share.
        config: Settings of the intervals.

    Raises:
        RunError: A folder holds no finished run, or ``out`` holds something else.
        ConfigError: There are fewer than two runs; one was split by image; weights cannot be fitted.
        DataError: The test sets or the classes differ.
        LeakageError: Someone who is tested was learnt from or chosen by in one of the runs.
    """
    folder = Path(out)
    members = _fold_members(sources) if _are_crossvals(sources) else _run_members(sources)
    if len(members.names) < 2:
        raise ConfigError(f"An ensemble needs two or more runs, got {len(members.names)}.")
    if folder.exists() and not (folder / "ensemble.json").exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} is not empty, and holds no ensemble. Give a new folder with --out.")
    for runs in members.sharing:
        _require_shared_test(runs)
    weights = members.weights(weighting)
    together = average(members.tested, weights)
    settings = config or EvaluationConfig()
    evaluation = judge(together, settings)
    evaluation = replace(evaluation, notes=(*evaluation.notes, _words(members, weights, weighting)))
    alone = tuple(judge(each, settings) for each in members.tested)
    found = Ensemble(folder, members.names, weights, weighting, evaluation, alone)
    _save(found, together)
    return found


@dataclass(frozen=True)
class _Members:
    """Who answers together.

    Attributes:
        names: The folders.
        tested: What each said of the people it is judged on.
        sharing: Runs that must share a test set: all, or those of each fold.
        kind: What a member is.
    """

    names: tuple[str, ...]
    tested: tuple[Predictions, ...]
    sharing: tuple[tuple[Run, ...], ...]
    kind: Literal["runs", "cross-validations over the same folds"]

    def weights(self, weighting: Weighting) -> tuple[float, ...]:
        """The share of each; see :func:`weights_of`."""
        if self.kind == "runs":
            return weights_of(self.sharing[0], weighting)
        if weighting != "equal":
            raise ConfigError("Each fold has a validation set of its own, so cross-validations have equal weights.")
        return (1 / len(self.names),) * len(self.names)


def _are_crossvals(sources: Sequence[Run | str | Path]) -> bool:
    return all(not isinstance(source, Run) and (Path(source) / "crossval.json").is_file() for source in sources) and (
        len(sources) > 1
    )


def _run_members(sources: Sequence[Run | str | Path]) -> _Members:
    runs = members_of(sources)
    tested = tuple(Predictions.load(run.predictions("test")) for run in runs)
    return _Members(tuple(str(run.folder) for run in runs), tested, (runs,), "runs")


def _fold_members(sources: Sequence[Run | str | Path]) -> _Members:
    """Cross-validations by their out-of-fold predictions, of the first repeat."""
    members_of(sources)  # refuses those that are named twice or have not finished
    found = [CrossValidation.load(Path(str(source))) for source in sources]
    counts = {each.folds for each in found}
    if len(counts) > 1:
        raise DataError(
            f"The cross-validations have {sorted(counts)} folds; they can answer together over the same only."
        )
    by_fold = tuple(tuple(each.runs[fold] for each in found) for fold in range(counts.pop()))
    tested = tuple(each.predictions() for each in found)
    return _Members(tuple(str(each.folder) for each in found), tested, by_fold, "cross-validations over the same folds")


def members_of(sources: Sequence[Run | str | Path]) -> tuple[Run, ...]:
    """The finished runs of folders; the folder of a cross-validation stands for the runs of all its folds.

    Raises:
        RunError: A folder holds neither, or a run has not finished.
        ConfigError: A run is named twice.
    """
    runs: list[Run] = []
    for source in sources:
        folder = source.folder if isinstance(source, Run) else Path(source)
        runs.extend(fold_runs(folder) if (folder / "crossval.json").is_file() else [Run.open(folder)])
    folders = [run.folder.resolve() for run in runs]
    twice = [folder for folder in folders if folders.count(folder) > 1]
    if twice:
        raise ConfigError(f"The run {twice[0]} is named twice; each member counts once.")
    return tuple(runs)


def weights_of(runs: Sequence[Run], weighting: Weighting) -> tuple[float, ...]:
    """The share of each run in the mean.

    Args:
        runs: Finished runs.
        weighting: "equal", or "validation": the likeliest on the validation set.

    Raises:
        ConfigError: The validation sets differ.
    """
    if weighting == "equal":
        return (1 / len(runs),) * len(runs)
    tables = [Predictions.load(run.predictions("val")) for run in runs]
    try:
        return fit_weights(tables)
    except DataError as error:
        raise ConfigError(
            f"Weights can be fitted only where all runs share the validation set. {error} "
            "The folds of a cross-validation never share it; use equal weights."
        ) from error


def _require_shared_test(runs: Sequence[Run]) -> None:
    splits = [Split.load(run.split) for run in runs]
    for run, split in zip(runs, splits, strict=True):
        if split.unit == "image":
            raise ConfigError(
                f"{run.folder} was split by image, so that people who are tested were also learnt from. Judge an "
                "ensemble of runs that were split by person."
            )
    for run, split in zip(runs[1:], splits[1:], strict=True):
        if split.samples["test"] != splits[0].samples["test"]:
            shared = len(set(split.samples["test"]) & set(splits[0].samples["test"]))
            raise DataError(
                f"The test sets differ: {run.folder} was judged on {len(split.samples['test'])} samples, "
                f"{runs[0].folder} on {len(splits[0].samples['test'])}, and {shared} are the same. Judge an ensemble "
                "of runs with one split (split.seed). What the folds of a cross-validation reach is told by their "
                "out-of-fold predictions; as an ensemble they have learnt from everyone."
            )
    for run, split in zip(runs, splits, strict=True):
        _refuse_known(run, split, splits[0])


def _refuse_known(run: Run, split: Split, tested: Split) -> None:
    """Refuse test people, or test images under another name, that a run has learnt from or was chosen by."""
    learnt = {*split.samples["train"], *split.samples["val"]}
    known = set(tested.subjects["test"]) & {*split.subjects["train"], *split.subjects["val"]}
    table = Manifest.load(run.manifest).table
    digests = set(table.loc[table["sample"].isin(learnt), "digest"].dropna())
    copies = table[table["sample"].isin(tested.samples["test"]) & table["digest"].isin(digests)]
    known |= set(copies["subject"].dropna())
    if known:
        names = sorted(known)
        more = f" and {len(names) - 10} more" if len(names) > 10 else ""
        raise LeakageError(
            f"{len(names)} subjects of the test set, or copies of their images, were in the training or validation "
            f"set of {run.folder}: {', '.join(names[:10])}{more}. An ensemble with this run cannot be judged on them.",
            names,
        )


def _words(members: _Members, weights: Sequence[float], weighting: Weighting) -> str:
    count = f"{len(members.names)} {members.kind}"
    if weighting == "equal":
        return f"This is the mean of the probabilities of {count}, all alike."
    shares = ", ".join(f"{weight:.2f}" for weight in weights)
    return (
        f"This is the mean of the probabilities of {count} with the weights {shares}, fitted on the "
        "validation set that also chose the epoch of each."
    )


def _save(found: Ensemble, together: Predictions) -> None:
    together.save(found.predictions)
    found.evaluation.save(found.folder / "metrics.json")
    for number, evaluation in enumerate(found.alone):
        evaluation.save(found.folder / "members" / f"{number}.json")
    write_text(found.folder / "classification_report.txt", found.text())
    report_predictions(together, found.evaluation, found.folder)
    about = {"members": found.members, "weights": found.weights, "weighting": found.weighting}
    write_json(found.folder / "ensemble.json", {"schema": SCHEMA} | about)
