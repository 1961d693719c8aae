"""Runs, and predictions of other tools, against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from gyrus.errors import ConfigError, DataError, RunError
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.leaderboard import Entry, Leaderboard, rank_entries
from gyrus.evaluation.result import Evaluation, Unit
from gyrus.files import read_json, write_text
from gyrus.inference.predictions import Predictions, knows_its_split
from gyrus.reporting.leaderboard_report import write_leaderboard
from gyrus.reporting.run_report import report_predictions
from gyrus.runs.run_folder import Run
from gyrus.types import SplitUnit
from gyrus.workflows.crossval import CrossValidation, read_crossval
from gyrus.workflows.ensemble import Ensemble
from gyrus.workflows.experiment_config import EvaluationConfig, load_config

TABLES = (".csv", ".parquet", ".json")


def compare_runs(
    sources: Sequence[str | Path] | Mapping[str, str | Path],
    *,
    out: str | Path,
    metric: str = "accuracy",
    unit: Unit | None = None,
    split_unit: SplitUnit | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[Leaderboard, Path]:
    """Compare runs, cross-validations, ensembles and tables of predictions, and write the page and the tables.

    Args:
        sources: Run folders, folders of ``gyrus crossval`` or ``gyrus ensemble``, or tables of predictions of any tool;
            a mapping names them.
        out: Folder for page, figures and tables, new or one of an earlier comparison.
        metric: What decides the order.
        unit: "subject" or "image"; by default by subject where subjects are known.
        split_unit: How the data behind tables of other tools were split; needed for those.
        resamples: Bootstrap resamples and permutations of subjects.
        seed: Decides both.
        level: The share that the intervals cover.

    Returns:
        The leaderboard, and the page.

    Raises:
        RunError: A folder holds no finished run.
        DataError: A table cannot be read.
        ConfigError: A table of another tool is given without ``split_unit``.
    """
    named = dict(sources) if isinstance(sources, Mapping) else _named([Path(source) for source in sources])
    entries = [read_entry(Path(path), name, split_unit) for name, path in named.items()]
    board = rank_entries(entries, metric=metric, unit=unit, resamples=resamples, seed=seed, level=level)
    return board, write_leaderboard(Path(out), board)


def evaluate_table(
    path: str | Path, *, out: str | Path, split_unit: SplitUnit | None = None, config: EvaluationConfig | None = None
) -> tuple[Evaluation, Path]:
    """Judge a table of predictions of any tool, and write ``metrics.json``, the text, the figures and the page.

    Args:
        path: See :func:`read_predictions`.
        out: Folder to write into.
        split_unit: How the data behind it were split.
        config: Settings of the intervals.

    Returns:
        The evaluation, and the page.

    Raises:
        DataError: The table cannot be read, or has no true class.
        ConfigError: The table does not know its split, and ``split_unit`` is not given.
    """
    settings, folder = config or EvaluationConfig(), Path(out)
    predictions = read_predictions(Path(path), split_unit)
    evaluation = evaluate(predictions, resamples=settings.resamples, level=settings.level, interval=settings.interval)
    evaluation.save(folder / "metrics.json")
    write_text(folder / "classification_report.txt", evaluation.text())
    return evaluation, report_predictions(predictions, evaluation, folder)


def find_runs(folder: str | Path) -> tuple[list[Path], list[Path]]:
    """The finished runs at any depth below a folder, and those that have not finished.

    A cross-validation or an ensemble counts as one run; runs inside a run, such as one with shuffled labels, do not
    count.

    Raises:
        RunError: There is no finished run.
    """
    folder = Path(folder)
    found = sorted(path.parent for path in folder.rglob("run.json"))
    whole = sorted(path.parent for path in folder.rglob("crossval.json"))
    runs = [path for path in found if not any(other in path.parents for other in [*found, *whole])]
    finished = [path for path in runs if Run(path).status == "finished"]
    finished += [path for path in whole if read_crossval(path)["status"] == "finished"]
    finished += [path.parent for path in folder.rglob("ensemble.json")]
    if not finished:
        raise RunError(f"There is no finished run below {folder}. Name the folder that holds your run folders.")
    return sorted(finished), sorted(path for path in [*runs, *whole] if path not in finished)


def read_entry(path: Path, name: str, split_unit: SplitUnit | None = None) -> Entry:
    """A classifier to compare: a run, a cross-validation, an ensemble, or a table of predictions.

    Args:
        path: A run folder, a folder of ``gyrus crossval`` or ``gyrus ensemble``, or a .csv, .parquet or .json table.
        name: What to call it.
        split_unit: How the data behind a table of another tool were split.

    Raises:
        RunError: A folder holds no finished run.
        DataError: A table cannot be read.
        ConfigError: A table of another tool is given without ``split_unit``.
    """
    if path.suffix.lower() in TABLES:
        return Entry(name, read_predictions(path, split_unit), facts={"Model": "predictions of another tool"})
    if (path / "crossval.json").is_file():
        return _cross_validated(path, name)
    if (path / "ensemble.json").is_file():
        together = Ensemble.load(path)
        facts = {"Model": f"mean of {len(together.members)} runs"}
        return Entry(name, Predictions.load(together.predictions), facts=facts)
    run = Run.open(path)
    validation = run.predictions("val")
    return Entry(
        name,
        Predictions.load(run.predictions("test")),
        Predictions.load(validation) if validation.exists() else None,
        _facts(run),
    )


def read_predictions(path: Path, split_unit: SplitUnit | None = None) -> Predictions:
    """A table of predictions, of Gyrus or of another tool.

    Args:
        path: A .csv, .parquet or .json file; see :meth:`gyrus.inference.predictions.Predictions.from_file`.
        split_unit: How its data were split; a table that Gyrus saved in a run knows it.

    Raises:
        DataError: The file is missing, or no table of predictions.
        ConfigError: The table does not know its split, and ``split_unit`` is not given.
    """
    if not path.is_file():
        raise DataError(f"There is no file {path}. Name a table of predictions: {', '.join(TABLES)}.")
    if path.suffix.lower() == ".parquet" and knows_its_split(path):
        return Predictions.load(path)
    if split_unit is None:
        raise ConfigError(
            f"{path} does not say how its data were split, and a score means nothing without. Give --split-unit "
            "subject if no person is both in training and in the test set, --split-unit image otherwise."
        )
    return Predictions.from_file(path, split_unit=split_unit)


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Each path under the shortest name that tells it from the others: the ends that all share are left out."""
    parts = {path: path.resolve().parts for path in dict.fromkeys(paths)}
    while len(parts) > 1 and len({whole[-1] for whole in parts.values()}) == 1:
        parts = {path: whole[:-1] for path, whole in parts.items()}
    deepest = max(map(len, parts.values()), default=1)
    names: dict[str, Path] = {}
    for depth in range(1, deepest + 1):
        names = {"/".join(whole[-depth:]): path for path, whole in parts.items()}
        if len(names) == len(parts):
            break
    return names


def _facts(run: Run) -> dict[str, str]:
    model, settings = read_json(run.model), load_config(run.config)
    size = " x ".join(map(str, model["image_size"]))
    return {
        "Model": str(model["model"]["name"]),
        "Parameters": f"{model['parameters']:,}",
        "Input": f"{model['in_channels']} x {size}",
        "Seed": str(settings.seed),
    }


def _cross_validated(folder: Path, name: str) -> Entry:
    """The out-of-fold predictions of the first repeat."""
    found, about = CrossValidation.load(folder), read_crossval(folder)
    model = load_config(folder / "config.yaml").model.name
    repeats = f", first of {about['repeats']} repeats" if about["repeats"] > 1 else ""
    return Entry(name, found.predictions(), facts={"Model": f"{model}, {found.folds} folds{repeats}"})
