"""Cross-validation by person: each person is judged once a repeat, by a network that has never seen them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from gyrus.configuration import write_document
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split, kfold
from gyrus.errors import ConfigError, RunError, SplitError
from gyrus.evaluation.baselines import Baselines, baseline_sentences
from gyrus.evaluation.out_of_fold import (
    fold_notes,
    fold_scores,
    out_of_fold,
    require_all_tested,
    summarise_folds,
    summary_text,
)
from gyrus.evaluation.result import Evaluation
from gyrus.files import read_json, write_json, write_text
from gyrus.inference.predictions import Predictions
from gyrus.reporting.crossval_report import report_folds, report_folds_by_unit
from gyrus.runs.run_folder import Run, environment
from gyrus.types import SplitUnit
from gyrus.workflows.baselines import judge_folds
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.evaluate import check_asked, judge
from gyrus.workflows.experiment_config import ExperimentConfig, load_config
from gyrus.workflows.load_data import scan_data
from gyrus.workflows.train import complete, train_on, with_data

SCHEMA = "gyrus.crossval/1"


class Choose(Protocol):
    """Chooses the config of one fold, for a nested cross-validation."""

    def __call__(
        self, config: ExperimentConfig, manifest: Manifest, subsets: Split, folder: Path, display: Display
    ) -> ExperimentConfig:
        """The config of a fold; everything may be changed but what says which data and how they are split.

        Args:
            config: Before the choice.
            manifest: The images of the fold's training and validation people, and of nobody else.
            subsets: Who of them is in which part; nobody is in the test set.
            folder: Its own.
            display: Where progress is shown.
        """

    def check(self, config: ExperimentConfig) -> None:
        """Tell, before anything is written, what could not be chosen.

        Raises:
            ConfigError: What is wrong.
        """

    def describe(self) -> dict[str, Any]:
        """What decides the choice, as plain values: where it differs, a folder holds another cross-validation."""


@dataclass(frozen=True)
class CrossValidation:
    """The folder of a cross-validation, and what it found.

    Attributes:
        folder: The folder; ``repeat-0/fold-0`` and so on are run folders.
        folds: How many folds.
        pooled: The evaluation of the out-of-fold predictions of each repeat.
        scores: One row a repeat, fold and unit; see :func:`gyrus.evaluation.out_of_fold.fold_scores`.
        baselines: What the networks of the first repeat must beat, over all folds; None where not every fold has any.
    """

    folder: Path
    folds: int
    pooled: tuple[Evaluation, ...]
    scores: pd.DataFrame
    baselines: Baselines | None = None

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
        """The page for people, HTML."""
        return self.folder / "report.html"

    @property
    def table(self) -> Path:
        """The scores of every fold, CSV; the summary lies beside it as summary.csv."""
        return self.folder / "folds.csv"

    def predictions(self, repeat: int = 0) -> Predictions:
        """What was said about each sample by the fold that did not know it."""
        return Predictions.load(_out_of_fold_path(self.folder, repeat))

    def text(self) -> str:
        """The scores of the folds, then the classification report of the out-of-fold predictions."""
        repeats = f", {len(self.pooled)} repeats" if len(self.pooled) > 1 else ""
        kept = f"{self.folds} folds, each person in one" if not self.pooled[0].statement else f"{self.folds} folds"
        first = baseline_sentences(self.pooled[0], self.baselines) if self.baselines else ()
        lines = [*first, f"{kept}{repeats}", "", summary_text(self.summary, self.pooled[0]), "", self.pooled[0].text()]
        return "\n".join(lines)

    @classmethod
    def load(cls, folder: Path) -> CrossValidation:
        """Open a finished cross-validation.

        Raises:
            RunError: There is none, or it has not finished.
        """
        about = read_crossval(folder)
        if about["status"] != "finished":
            raise RunError(f"The cross-validation in {folder} has not finished. Give the same command again to go on.")
        pooled = tuple(Evaluation.load(_metrics_path(folder, repeat)) for repeat in range(about["repeats"]))
        scores = pd.read_csv(folder / "folds.csv")
        saved = Run(folder).baselines
        return cls(folder, about["folds"], pooled, scores, Baselines.load(saved) if saved.is_file() else None)


@dataclass(frozen=True)
class UnitComparison:
    """Two cross-validations of one config: the folds by subject, and for comparison by image.

    Attributes:
        subject: The scores to quote.
        image: The scores that flatter.
        words: Both side by side, and why they differ.
        report: The page that shows both.
    """

    subject: CrossValidation
    image: CrossValidation
    words: str
    report: Path

    def text(self) -> str:
        """The scores side by side and why they differ."""
        return self.words


def cross_validate(
    config: ExperimentConfig | str | Path | None = None,
    *,
    out: str | Path,
    data: str | Path | None = None,
    folds: int = 5,
    repeats: int = 1,
    overrides: Mapping[str, Any] | None = None,
    choose: Choose | None = None,
    display: Display = SILENT,
) -> CrossValidation:
    """Train once a fold, and judge each person by the network that has never seen them.

    People are dealt into folds by class, in an order that the seed decides. Within what a fold may learn from, a
    validation set by person chooses the weights; the fold's test set decides nothing. A fold that has finished is
    not trained again, and one that was interrupted goes on.

    Args:
        config: A recipe's name, the path of a YAML or JSON file, or a config.
        out: The folder, new, empty, or of the same cross-validation.
        data: Overrides ``data.path``. Parts that the data give are not used.
        folds: How many.
        repeats: How often everyone is dealt anew; repeat r has the seeds of the config plus r.
        overrides: Fields by dotted name, as ``{"training.epochs": 5}``.
        choose: For a nested cross-validation: chooses the config of each fold.
        display: Where progress is shown.

    Returns:
        What was found; all of it lies in the folder too.

    Raises:
        GyrusError: The config, the data or the folder cannot be used; told before training begins.
        KeyboardInterrupt: Training was interrupted; the same call continues it.
    """
    settings, folder = load_config(config, with_data(overrides, data)), Path(out)
    if folds < 2 or repeats < 1:
        raise ConfigError(f"A cross-validation needs 2 or more folds and 1 or more repeats, got {folds} and {repeats}.")
    manifest = scan_data(settings.data, display)
    check_asked(manifest, settings.evaluation)
    if choose:
        choose.check(settings)
    dealt = deal_folds(settings, manifest, folds=folds, repeats=repeats)
    plan = _plan(settings, manifest, folds, choose)
    _open(folder, plan, repeats)
    with Run(folder).locked():
        write_document(folder / "config.yaml", settings)
        manifest.save(folder / "manifest.parquet")
        _record(folder, plan, repeats, "started")
        if manifest.table["subset"].notna().any():
            display.say("Note: the parts that the data give are not used; everyone is dealt into the folds.")
        for (repeat, fold), (fold_settings, subsets) in dealt.items():
            display.say(f"Repeat {repeat + 1} of {repeats}, fold {fold + 1} of {folds}:")
            _run_fold(folder / f"repeat-{repeat}", fold, fold_settings, manifest, subsets, choose, display)
        found = _gather(folder, settings, manifest, folds, repeats)
        report_folds(
            folder, found.predictions(), found.pooled[0], found.scores, found.summary, baselines=found.baselines
        )
        _record(folder, plan, repeats, "finished")
    return found


def cross_validate_both(
    config: ExperimentConfig | str | Path | None = None,
    *,
    out: str | Path,
    data: str | Path | None = None,
    folds: int = 5,
    repeats: int = 1,
    overrides: Mapping[str, Any] | None = None,
    choose: Choose | None = None,
    display: Display = SILENT,
) -> UnitComparison:
    """Cross-validate twice, with folds by subject and by image, and set the scores side by side.

    The arguments are those of :func:`cross_validate`; the two lie in ``out/subject`` and ``out/image``.

    Raises:
        GyrusError: As :func:`cross_validate`.
        KeyboardInterrupt: As :func:`cross_validate`.
    """
    found: dict[SplitUnit, CrossValidation] = {}
    for unit in ("subject", "image"):
        display.say(f"Folds by {unit}:")
        changes = {**(overrides or {}), "split.unit": unit}
        found[unit] = cross_validate(
            config,
            out=Path(out) / unit,
            data=data,
            folds=folds,
            repeats=repeats,
            overrides=changes,
            choose=choose,
            display=display,
        )
    report = Path(out) / "report.html"
    words = report_folds_by_unit(
        {f"folds by {unit}": (each.folder, each.pooled[0]) for unit, each in found.items()}, report
    )
    return UnitComparison(found["subject"], found["image"], words, report)


def read_crossval(folder: Path) -> dict[str, Any]:
    """What a folder of a cross-validation says of itself.

    Raises:
        RunError: There is none.
    """
    path = folder / "crossval.json"
    if not path.is_file():
        raise RunError(f"There is no cross-validation in {folder}: it has no crossval.json.")
    about: dict[str, Any] = read_json(path)
    if about.get("schema") != SCHEMA:
        raise RunError(f"{path} is not of schema {SCHEMA}; it says {about.get('schema')!r}.")
    return about


def fold_runs(folder: Path) -> tuple[Run, ...]:
    """The runs of all folds of a cross-validation, repeat by repeat.

    Raises:
        RunError: There is no cross-validation, or one of its folds has not finished.
    """
    about = read_crossval(folder)
    paths = [
        folder / f"repeat-{repeat}" / f"fold-{fold}"
        for repeat in range(about["repeats"])
        for fold in range(about["folds"])
    ]
    return tuple(Run.open(path) for path in paths)


def deal_folds(
    settings: ExperimentConfig, manifest: Manifest, *, folds: int, repeats: int
) -> dict[tuple[int, int], tuple[ExperimentConfig, Split]]:
    """The config that trains each fold by itself, and its split, by repeat and fold.

    Raises:
        SplitError: There are fewer people than folds, a part would be empty, or a fold could learn or choose by one
            class only.
    """
    first = settings.seed if settings.split.seed is None else settings.split.seed
    dealt = {}
    for repeat in range(repeats):
        how = settings.split.model_copy(update={"method": "kfold", "folds": folds, "seed": first + repeat})
        for fold, subsets in enumerate(kfold(manifest, how)):
            _require_two_classes(manifest, subsets, f"Fold {fold} of repeat {repeat}")
            changes = {"split": how.model_copy(update={"fold": fold}), "seed": settings.seed + repeat}
            dealt[repeat, fold] = settings.model_copy(update=changes), subsets
    return dealt


def _require_two_classes(manifest: Manifest, subsets: Split, where: str) -> None:
    labels = manifest.table.set_index("sample")["label"]
    for subset in ("train", "val"):
        found = labels[list(subsets.samples[subset])].unique()
        if len(found) < 2:
            raise SplitError(
                f"{where} would have only class '{found[0]}' in its {subset} part, where nothing could be told apart. "
                "Two classes need someone to learn from, someone to choose by and someone to judge: 3 people at the "
                "least. Find more people, leave the class out or join it with another, or change --folds or split.val."
            )


def _run_fold(
    repeat: Path,
    fold: int,
    settings: ExperimentConfig,
    manifest: Manifest,
    subsets: Split,
    choose: Choose | None,
    display: Display,
) -> None:
    folder = repeat / f"fold-{fold}"

    def start() -> Run:
        chosen = settings
        if choose:
            known = manifest.select([*subsets.samples["train"], *subsets.samples["val"]])
            chosen = choose(settings, known, _without_test(subsets), repeat / f"choice-{fold}", display)
            if (chosen.data, chosen.split) != (settings.data, settings.split):
                raise ConfigError("`choose` may not change data or split: the fold decides who is learnt from.")
        return train_on(manifest, subsets, chosen, out=folder, display=display)

    run = complete(folder, start, display=display)
    if Split.load(run.split) != subsets:
        raise RunError(f"{folder} holds a run with another split. Give a new folder with --out.")


def _without_test(subsets: Split) -> Split:
    return replace(subsets, samples={**subsets.samples, "test": ()}, subjects={**subsets.subjects, "test": ()})


def _gather(folder: Path, settings: ExperimentConfig, manifest: Manifest, folds: int, repeats: int) -> CrossValidation:
    """Judge the out-of-fold predictions of finished folds, and write everything but the page."""
    runs = dict(
        zip([(repeat, fold) for repeat in range(repeats) for fold in range(folds)], fold_runs(folder), strict=True)
    )
    scores = fold_scores({place: Evaluation.load(run.metrics) for place, run in runs.items()})
    pooled = []
    for repeat in range(repeats):
        tested = out_of_fold([Predictions.load(runs[repeat, fold].predictions("test")) for fold in range(folds)])
        require_all_tested(tested, manifest.table["sample"].tolist())
        tested.save(_out_of_fold_path(folder, repeat))
        pooled.append(judge(tested, settings.evaluation, seed=settings.seed))
    notes = fold_notes(summarise_folds(scores, pooled), pooled[0], folds)
    pooled = [replace(each, notes=(*each.notes, *notes)) for each in pooled]
    first = Predictions.load(_out_of_fold_path(folder, 0))
    of_first = [runs[0, fold] for fold in range(folds)]
    baselines = judge_folds(of_first, Run(folder), first, settings.evaluation, seed=settings.seed)
    found = CrossValidation(folder, folds, tuple(pooled), scores, baselines)
    for repeat, evaluation in enumerate(pooled):
        evaluation.save(_metrics_path(folder, repeat))
    write_text(found.table, scores.to_csv(index=False))
    write_text(folder / "summary.csv", found.summary.to_csv(index=False))
    write_text(folder / "classification_report.txt", found.text())
    return found


def _plan(settings: ExperimentConfig, manifest: Manifest, folds: int, choose: Choose | None) -> dict[str, Any]:
    """What decides the networks: where this differs, a folder holds another cross-validation."""
    config = settings.model_dump(mode="json", exclude={"about": True, "data": {"path"}})
    config["evaluation"] = {"tta": settings.evaluation.tta}
    return {
        "folds": folds,
        "nested": choose.describe() if choose else None,
        "manifest": manifest.digest,
        "config": config,
    }


def _open(folder: Path, plan: Mapping[str, Any], repeats: int) -> None:
    """Make the folder, or refuse it where it holds anything else than this cross-validation."""
    if not (folder / "crossval.json").exists():
        if folder.exists() and (not folder.is_dir() or any(path.name != ".lock" for path in folder.iterdir())):
            raise RunError(f"{folder} is not empty, and holds no cross-validation. Give a new folder with --out.")
        folder.mkdir(parents=True, exist_ok=True)
        return
    known = read_crossval(folder)
    changed = _differences(known["plan"], plan)
    if changed:
        raise RunError(
            f"{folder} holds another cross-validation; different are: {', '.join(changed)}. Give a new folder with "
            "--out, or the same data and config to go on."
        )
    if repeats < known["repeats"]:
        raise RunError(f"{folder} holds {known['repeats']} repeats; ask for as many or more, got {repeats}.")


def _differences(known: Any, asked: Any, name: str = "") -> list[str]:
    """The dotted names at which two documents differ."""
    if isinstance(known, dict) and isinstance(asked, dict):
        fields = dict.fromkeys([*known, *asked])
        return [
            each
            for field in fields
            for each in _differences(known.get(field), asked.get(field), f"{name}.{field}" if name else field)
        ]
    return [] if known == asked else [name.removeprefix("config.")]


def _record(folder: Path, plan: Mapping[str, Any], repeats: int, status: str) -> None:
    path = folder / "crossval.json"
    created = read_json(path)["created"] if path.exists() else datetime.now(UTC).isoformat(timespec="seconds")
    write_json(
        path,
        {
            "schema": SCHEMA,
            "status": status,
            "created": created,
            "command": sys.argv,
            "folds": plan["folds"],
            "repeats": repeats,
            "plan": plan,
            "environment": environment(),
        },
    )


def _out_of_fold_path(folder: Path, repeat: int) -> Path:
    return folder / "predictions" / f"out-of-fold-{repeat}.parquet"


def _metrics_path(folder: Path, repeat: int) -> Path:
    return folder / ("metrics.json" if repeat == 0 else f"metrics-{repeat}.json")
