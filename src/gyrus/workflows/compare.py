"""Compare runs, cross-validations, ensembles and predictions of other tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

from gyrus.errors import ConfigError, RunError
from gyrus.evaluation.leaderboard import Entry, Leaderboard, rank_entries
from gyrus.evaluation.metrics import ALL_METRICS
from gyrus.evaluation.number_leaderboard import NumberEntry, NumberLeaderboard, by_test_set, rank_numbers
from gyrus.evaluation.number_metrics import NUMBER_METRICS
from gyrus.evaluation.result import Unit
from gyrus.inference.number_predictions import AnyPredictions, NumberPredictions, load_predictions
from gyrus.inference.predictions import TABLES, Predictions
from gyrus.reporting import leaderboard_report
from gyrus.reporting import number_leaderboard as number_leaderboard_report
from gyrus.runs.run_folder import Run
from gyrus.text import counted, listed
from gyrus.types import SplitUnit
from gyrus.workflows.crossval_folder import CrossValidation, is_crossval, read_facts
from gyrus.workflows.ensemble import Ensemble
from gyrus.workflows.evaluate import read_predictions
from gyrus.workflows.experiment_config import load_config, load_run_config


@dataclass(frozen=True)
class ComparedRuns:
    """A comparison of classifiers.

    Attributes:
        leaderboard: The ranks, the scores and the paired differences.
        report: The page.
        unfinished: Folders of runs that were left out because they have not finished.
        without_metric: Names of runs that were left out because they have no such score.
        apart: Comparisons of runs that predict something else (a number, or another number), or of a
            number on other subjects.
    """

    leaderboard: Leaderboard | NumberLeaderboard
    report: Path
    unfinished: tuple[Path, ...] = ()
    without_metric: tuple[str, ...] = ()
    apart: tuple[ComparedRuns, ...] = ()

    def text(self) -> str:
        """The ranks and the paired differences."""
        if isinstance(self.leaderboard, NumberLeaderboard):
            return number_leaderboard_report.text(self.leaderboard)
        return leaderboard_report.text(self.leaderboard)


def compare(
    runs: Sequence[str | Path] | Mapping[str, str | Path],
    *,
    out: str | Path = "comparison",
    metric: str | None = None,
    unit: Unit | None = None,
    split_unit: SplitUnit | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> ComparedRuns:
    """Compare classifiers that were evaluated on the same subjects, and write the page and the tables.

    Args:
        runs: Run folders, folders of ``gyrus crossval`` or ``gyrus ensemble``, or tables of predictions of any tool;
            a mapping gives them names.
        out: The folder for page, figures and tables; an earlier comparison in it is replaced.
        metric: The metric to rank by; by default accuracy, or the mean absolute error of a number.
        unit: "subject" or "image"; by default by subject if subjects are known.
        split_unit: How the data were split; required for tables of other tools.
        resamples: Bootstrap resamples and permutations of subjects.
        seed: Seed of both.
        level: Coverage of the confidence intervals.

    Raises:
        RunError: A folder holds no finished run.
        DataError: A table cannot be read.
        ConfigError: A table of another tool is given without ``split_unit``, or the runs do not predict the same.
    """
    named = dict(runs) if isinstance(runs, Mapping) else _named([Path(run) for run in runs])
    entries = [read_entry(Path(path), name, split_unit) for name, path in named.items()]
    groups = _by_target(entries)
    if len(groups) > 1:
        named_groups = [f"{target} ({listed([each.name for each in group])})" for target, group in groups.items()]
        raise ConfigError(
            f"What is compared must predict the same, but these predict {listed(named_groups)}. Compare each group by "
            "itself, or rank all with gyrus leaderboard FOLDER."
        )
    return _rank(entries, Path(out), metric, unit=unit, resamples=resamples, seed=seed, level=level)


def _by_target(entries: Sequence[Entry | NumberEntry]) -> dict[str, list[Entry | NumberEntry]]:
    """The entries by what they predict: classes first, then each number."""
    groups: dict[str, list[Entry | NumberEntry]] = {}
    for entry in sorted(entries, key=lambda each: isinstance(each, NumberEntry)):
        number = isinstance(entry, NumberEntry)
        groups.setdefault(f"the number '{entry.test.target.name}'" if number else "classes", []).append(entry)
    return groups


def _rank(entries: Sequence[Entry | NumberEntry], out: Path, metric: str | None, **how: Any) -> ComparedRuns:
    """Rank entries that predict the same, and write the page and the tables."""
    numbers = [entry for entry in entries if isinstance(entry, NumberEntry)]
    if numbers:
        ranked = rank_numbers(numbers, metric=metric or "mae", **how)
        return ComparedRuns(ranked, number_leaderboard_report.write_number_leaderboard(out, ranked))
    board = rank_entries([each for each in entries if isinstance(each, Entry)], metric=metric or "accuracy", **how)
    return ComparedRuns(board, leaderboard_report.write_leaderboard(out, board))


def _has_metric(group: Sequence[Entry | NumberEntry], metric: str | None) -> bool:
    return metric is None or metric in (NUMBER_METRICS if isinstance(group[0], NumberEntry) else ALL_METRICS)


def leaderboard(
    folder: str | Path,
    *,
    out: str | Path | None = None,
    metric: str | None = None,
    unit: Unit | None = None,
    resamples: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> ComparedRuns:
    """Compare all finished runs below a folder.

    Runs that predict classes, and those of each number and test set, are ranked by themselves. The first ranking is
    written to ``out``, each further one to a folder ``number-1`` and so on inside.

    Args:
        folder: A folder with run folders at any depth.
        out: The folder for page, figures and tables; by default ``leaderboard`` inside ``folder``.
        metric: As in :func:`compare`; runs without such a score are left out. So are:
        unit: "subject" or "image".
        resamples: Bootstrap resamples and permutations of subjects.
        seed: Seed of both.
        level: Coverage of the confidence intervals.

    Raises:
        RunError: There is no finished run below the folder.
    """
    finished, unfinished = find_runs(folder)
    place = Path(out or Path(folder) / "leaderboard")
    groups: list[Sequence[Entry | NumberEntry]] = []
    for group in _by_target([read_entry(path, name) for name, path in _named(finished).items()]).values():
        numbers = [entry for entry in group if isinstance(entry, NumberEntry)]
        groups += by_test_set(numbers, unit) if numbers else [group]
    able = [_has_metric(group, metric) for group in groups]
    able = able if any(able) else [True] * len(groups)  # an unknown metric is refused below
    how: dict[str, Any] = {"unit": unit, "resamples": resamples, "seed": seed, "level": level}
    first, *apart = (
        _rank(group, place / f"number-{number}" if number else place, metric, **how)
        for number, group in enumerate(compress(groups, able))
    )
    without = tuple(entry.name for group, has in zip(groups, able, strict=True) if not has for entry in group)
    return replace(first, unfinished=tuple(unfinished), without_metric=without, apart=tuple(apart))


def find_runs(folder: str | Path) -> tuple[list[Path], list[Path]]:
    """The finished runs at any depth below a folder, and the unfinished ones.

    A cross-validation or an ensemble counts as one run. Runs inside a run, for example with shuffled labels, do not
    count.

    Raises:
        RunError: There is no finished run.
    """
    folder = Path(folder)
    found = sorted(path.parent for path in folder.rglob("run.json"))
    crossvals = sorted(path.parent for path in folder.rglob("crossval.json"))
    runs = [path for path in found if not any(other in path.parents for other in [*found, *crossvals])]
    finished = [path for path in runs if Run(path).status == "finished"]
    finished += [path for path in crossvals if read_facts(path).status == "finished"]
    finished += [path.parent for path in folder.rglob("ensemble.json")]
    if not finished:
        raise RunError(f"There is no finished run below {folder}. Name the folder that holds your run folders.")
    return sorted(finished), sorted(path for path in [*runs, *crossvals] if path not in finished)


def read_entry(path: Path, name: str, split_unit: SplitUnit | None = None) -> Entry | NumberEntry:
    """Read a classifier to compare: a run, a cross-validation, an ensemble, or a table of predictions.

    Args:
        path: A run folder, a folder of ``gyrus crossval`` or ``gyrus ensemble``, or a .csv, .parquet or .json table.
        name: Its name in the comparison.
        split_unit: How the data behind a table of another tool were split.

    Raises:
        RunError: A folder holds no finished run.
        DataError: A table cannot be read.
        ConfigError: A table of another tool is given without ``split_unit``.
    """
    if path.suffix.lower() in TABLES:
        return _entry(name, read_predictions(path, split_unit), None, {"Model": "predictions of another tool"})
    if is_crossval(path):
        facts = read_facts(path)
        model = load_config(path / "config.yaml").model.name
        repeats = f", first of {facts.repeats} repeats" if facts.repeats > 1 else ""
        first = CrossValidation.load(path).predictions()
        return _entry(name, first, None, {"Model": f"{model}, {facts.folds} folds{repeats}"})
    if (path / "ensemble.json").is_file():
        ensemble = Ensemble.load(path)
        about = {"Model": f"mean of {counted(len(ensemble.members), 'run')}"}
        return _entry(name, load_predictions(ensemble.predictions), None, about)
    run = Run.open(path)
    test, validation = run.predictions("test"), run.predictions("val")
    val = load_predictions(validation) if validation.exists() else None
    return _entry(name, load_predictions(test), val, _facts(run))


def _entry(
    name: str, test: AnyPredictions, val: AnyPredictions | None, facts: Mapping[str, str]
) -> Entry | NumberEntry:
    if isinstance(test, NumberPredictions):
        return NumberEntry(name, test, facts)
    return Entry(name, test, val if isinstance(val, Predictions) else None, facts)


def _named(paths: Sequence[Path]) -> dict[str, Path]:
    """Each path by the shortest name that is unique; endings that all paths share are left out."""
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
    model, settings = run.description, load_run_config(run)
    if not run.has_network:
        name, classical = model["model"]["name"], settings.model.classical
        kinds = [
            *settings.data.table_columns,
            *(kind for kind in (classical.features if classical else ()) if kind != "table"),
        ]
        return {
            "Model": f"{name} on {', '.join(kinds)}",
            "Parameters": f"{model['parameters']:,}",
            "Input": counted(model.get("feature_count", len(model["features"])), "feature"),
            "Seed": str(settings.seed),
        }
    size = " x ".join(map(str, model["image_size"]))
    return {
        "Model": str(model["model"]["name"]),
        "Parameters": f"{model['parameters']:,}",
        "Input": f"{model['in_channels']} x {size}",
        "Seed": str(settings.seed),
    }
