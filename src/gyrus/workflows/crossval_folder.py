"""The folder of a cross-validation: what was found, and the files that it is saved in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd

from gyrus.configuration import parse
from gyrus.errors import RunError
from gyrus.evaluation.added_value import AddedValue
from gyrus.evaluation.matching import MatchedScores
from gyrus.evaluation.number_folds import number_summary_text
from gyrus.evaluation.number_result import NumberEvaluation, load_evaluation
from gyrus.evaluation.out_of_fold import summarise_folds, summary_text
from gyrus.evaluation.result import Baselines, Evaluation
from gyrus.evaluation.site_check import SiteCheck
from gyrus.evaluation.visit_scores import VisitScores
from gyrus.files import make_folder, read_lines, reading, refuse_links, require_empty
from gyrus.inference.number_predictions import AnyPredictions, load_predictions
from gyrus.redaction import command_line
from gyrus.runs.run_folder import Run, current_environment
from gyrus.serialisation import Saved
from gyrus.text import one_per_line
from gyrus.workflows.experiment_config import ExperimentConfig, changed_fields, lasting_fields


@dataclass(frozen=True)
class CrossValidationFacts(Saved):
    """The content of ``crossval.json``.

    Attributes:
        folds: How many folds.
        repeats: How many repeats.
        status: "started" or "finished".
        created: When it started, ISO 8601.
        command: The command line.
        plan: All that determines the networks. A folder with another plan holds another cross-validation.
        environment: Versions of Python, the system and libraries.
    """

    SCHEMA: ClassVar[str] = "gyrus.crossval/1"

    folds: int
    repeats: int
    status: str = "started"
    created: str = ""
    command: tuple[str, ...] = ()
    plan: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CrossValidation:
    """A finished cross-validation.

    Attributes:
        folder: The folder; ``repeat-0/fold-0`` and so on are run folders.
        folds: How many folds.
        pooled: The evaluation of the out-of-fold predictions of each repeat, of classes or of a number.
        scores: One row per repeat, fold and unit; see :func:`gyrus.evaluation.out_of_fold.fold_scores`.
        baselines: The baselines of the first repeat over all folds; None unless every fold has baselines.
        added_value: What the image adds to the table, in the first repeat; None without a table or an image.
        visit_scores: Scores by visit and by person, in the first repeat; None where no subject has several visits.
    """

    folder: Path
    folds: int
    pooled: tuple[Evaluation | NumberEvaluation, ...]
    scores: pd.DataFrame
    baselines: Baselines | None = None
    added_value: AddedValue | None = None
    visit_scores: VisitScores | None = None

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs of all folds, repeat by repeat."""
        return fold_runs(self.folder)

    @property
    def summary(self) -> pd.DataFrame:
        """Mean, SD and range over the folds, and pooled; see :func:`gyrus.evaluation.out_of_fold.summarise_folds`."""
        return summarise_folds(self.scores, self.pooled)

    @property
    def report(self) -> Path:
        """The report, HTML."""
        return self.folder / "report.html"

    @property
    def table(self) -> Path:
        """The scores of every fold, CSV; the summary is beside it in ``summary.csv``."""
        return self.folder / "folds.csv"

    def predictions(self, repeat: int = 0) -> AnyPredictions:
        """The out-of-fold predictions of a repeat."""
        return load_predictions(predictions_path(self.folder, repeat))

    def text(self) -> str:
        """The classification report of the out-of-fold predictions, then the scores of the folds."""
        repeats = f", {len(self.pooled)} repeats" if len(self.pooled) > 1 else ""
        folds = f"{self.folds} folds" + ("" if self.pooled[0].warning else ", each subject in one")
        first = self.pooled[0]
        question = [one_per_line(self.added_value.text().splitlines()) + "\n"] if self.added_value else []
        report = first.text(self.baselines)
        summary = (
            number_summary_text(self.summary, first)
            if isinstance(first, NumberEvaluation)
            else summary_text(self.summary, first)
        )
        saved = Run(self.folder).matched_scores
        matched = [MatchedScores.load(saved).text(), ""] if saved.is_file() else []
        report += f"\n{self.visit_scores.text()}\n" if self.visit_scores else ""
        checked = Run(self.folder).site_check
        sites = [one_per_line([SiteCheck.load(checked).text()]), ""] if checked.is_file() else []
        return "\n".join([*question, report, f"{folds}{repeats}", "", summary, "", *matched, *sites])

    @classmethod
    def load(cls, folder: Path) -> CrossValidation:
        """Open a finished cross-validation.

        Raises:
            RunError: There is none, or it has not finished.
        """
        facts = read_facts(folder)
        if facts.status != "finished":
            raise RunError(f"The cross-validation in {folder} has not finished. Continue it with the same command.")
        pooled = tuple(load_evaluation(metrics_path(folder, repeat)) for repeat in range(facts.repeats))
        with reading(folder / "folds.csv", "the scores of the folds"):
            scores = pd.read_csv(read_lines(folder / "folds.csv"))
            summarise_folds(scores, pooled)
        saved, added = Run(folder).baselines, Run(folder).added_value
        baselines = Baselines.load(saved) if saved.is_file() else None
        added_value = AddedValue.load(added) if added.is_file() else None
        visits = Run(folder).visit_scores
        visit_scores = VisitScores.load(visits) if visits.is_file() else None
        return cls(folder, facts.folds, pooled, scores, baselines, added_value, visit_scores)


def is_crossval(folder: Path) -> bool:
    """Whether a folder holds a cross-validation, finished or not."""
    try:
        return (folder / "crossval.json").is_file()
    except OSError:  # an impossible name
        return False


def read_facts(folder: Path) -> CrossValidationFacts:
    """Read ``crossval.json``.

    Raises:
        RunError: There is no cross-validation in the folder.
        DataError: The file is damaged, or of another version.
    """
    if not is_crossval(folder):
        raise RunError(f"There is no cross-validation in {folder}: it has no crossval.json.")
    return CrossValidationFacts.load(folder / "crossval.json")


def write_facts(folder: Path, plan: Mapping[str, Any], *, folds: int, repeats: int, status: str) -> None:
    """Write ``crossval.json``; the time of the start is kept."""
    created = read_facts(folder).created if is_crossval(folder) else datetime.now(UTC).isoformat(timespec="seconds")
    facts = CrossValidationFacts(folds, repeats, status, created, tuple(command_line()), plan, current_environment())
    facts.save(folder / "crossval.json")


def planned_config(settings: ExperimentConfig) -> dict[str, Any]:
    """The part of a config that determines the networks of all folds."""
    config = lasting_fields(settings)
    # New folds keep copies together, whatever is asked for given subsets.
    for section, name in (("data", "merge_missing"), ("split", "on_duplicates")):
        del config[section][name]
    config["evaluation"] = {"tta": settings.evaluation.tta}
    return config


def open_folder(folder: Path, plan: Mapping[str, Any], repeats: int) -> None:
    """Create the folder of a cross-validation. Temporary files of a killed process count as nothing.

    Raises:
        RunError: The folder holds other files, or a cross-validation with another plan or more repeats.
    """
    refuse_links(folder, error=RunError)
    if not is_crossval(folder):
        advice = "It holds no cross-validation. Give a new folder with --out."
        require_empty(folder, advice, error=RunError, ignored=[".lock"])
        make_folder(folder)
        return
    known = read_facts(folder)
    # The plan of an earlier version lacks the fields that were added since.
    config = planned_config(parse(ExperimentConfig, known.plan["config"], where=str(folder / "crossval.json")))
    before = {**known.plan, "config": config}
    changed = [name.removeprefix("config.") for name, _, _ in changed_fields(before, plan)]
    if changed:
        raise RunError(
            f"{folder} holds another cross-validation, which differs in {', '.join(changed)}. Give a new folder with "
            "--out, or the same data and config to continue."
        )
    if repeats < known.repeats:
        raise RunError(f"{folder} holds {known.repeats} repeats; ask for at least as many, got {repeats}.")


def fold_runs(folder: Path) -> tuple[Run, ...]:
    """The runs of all folds of a cross-validation, repeat by repeat.

    Raises:
        RunError: There is no cross-validation, or one of its folds has not finished.
    """
    facts = read_facts(folder)
    return tuple(
        Run.open(fold_folder(folder, repeat, fold)) for repeat in range(facts.repeats) for fold in range(facts.folds)
    )


def fold_folder(folder: Path, repeat: int, fold: int) -> Path:
    """The run folder of a fold."""
    return folder / f"repeat-{repeat}" / f"fold-{fold}"


def predictions_path(folder: Path, repeat: int) -> Path:
    """The out-of-fold predictions of a repeat, parquet."""
    return folder / "predictions" / f"out-of-fold-{repeat}.parquet"


def metrics_path(folder: Path, repeat: int) -> Path:
    """The evaluation of the out-of-fold predictions of a repeat, JSON."""
    return folder / ("metrics.json" if repeat == 0 else f"metrics-{repeat}.json")
