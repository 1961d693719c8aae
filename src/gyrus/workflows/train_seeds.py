"""The same training several times: both split units side by side, or several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from gyrus.errors import ConfigError
from gyrus.evaluation.evaluate import Evaluation
from gyrus.files import write_text
from gyrus.reporting.html import HEADLINES
from gyrus.reporting.run_report import report_comparison
from gyrus.runs.run_folder import Run
from gyrus.types import SplitUnit
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.experiment_config import ExperimentConfig, load_config
from gyrus.workflows.train import complete, train


@dataclass(frozen=True)
class SplitComparison:
    """The same training, judged on people it has never seen and, for comparison, on images it has never seen.

    Attributes:
        subject: The run with the split by subject: the score to quote.
        image: The run with the split by image: the score that flatters.
        words: The scores side by side and why they differ.
        report: The page that shows both.
    """

    subject: Run
    image: Run
    words: str
    report: Path

    def text(self) -> str:
        """The scores side by side and why they differ."""
        return self.words


def train_both(
    config: ExperimentConfig | str | Path | None = None,
    *,
    out: str | Path,
    data: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    display: Display = SILENT,
) -> SplitComparison:
    """Train twice, split by subject and by image, and set the scores side by side.

    The arguments are those of :func:`train`. The runs lie in ``out/subject`` and ``out/image``; what is there and
    finished is not trained again, and what was interrupted goes on.

    Raises:
        GyrusError: As :func:`train`.
        KeyboardInterrupt: Training was interrupted; the same call continues it.
    """
    runs: dict[SplitUnit, Run] = {}
    for unit in ("subject", "image"):
        display.say(f"Split by {unit}:")
        changes = {**(overrides or {}), "split.unit": unit}
        runs[unit] = _train_or_resume(config, Path(out) / unit, data, changes, display)
    report = Path(out) / "report.html"
    words = report_comparison({f"split by {unit}": run for unit, run in runs.items()}, report)
    return SplitComparison(runs["subject"], runs["image"], words, report)


@dataclass(frozen=True)
class Repeats:
    """The same training on the same split with several seeds.

    Attributes:
        runs: The run of each seed.
        scores: One row a seed and unit, one column a metric.
        table: Where they are written, CSV.
    """

    runs: Mapping[int, Run]
    scores: pd.DataFrame
    table: Path

    def text(self) -> str:
        """Mean, standard deviation and range of each score, and what to quote."""
        lines = [f"{len(self.runs)} seeds, the same split"]
        for unit, scores in self.scores.groupby("unit", sort=False):
            lines.append(f"{f'By {unit}':26}{'mean':>8}{'SD':>8}{'lowest':>8}{'highest':>9}")
            for metric in HEADLINES:
                values = scores[metric].dropna()
                if len(values):
                    spread = values.std() if len(values) > 1 else float("nan")
                    numbers = f"{values.mean():8.3f}{spread:8.3f}{values.min():8.3f}{values.max():9.3f}"
                    lines.append(f"{HEADLINES[metric]:26}{numbers}")
        return "\n".join([*lines, "Quote the mean: the best of several seeds is chosen on the test set."])


def train_seeds(
    config: ExperimentConfig | str | Path | None = None,
    *,
    seeds: Sequence[int],
    out: str | Path,
    data: str | Path | None = None,
    overrides: Mapping[str, Any] | None = None,
    display: Display = SILENT,
) -> Repeats:
    """Train several times on the same split, with other first weights and another order each time.

    The arguments are those of :func:`train`. The runs lie in ``out/seed-0`` and so on; what is there and finished
    is not trained again, and what was interrupted goes on.

    Raises:
        GyrusError: As :func:`train`.
        KeyboardInterrupt: Training was interrupted; the same call continues it.
    """
    if not seeds:
        raise ConfigError("Name at least one seed, for example 0,1,2.")
    settings = load_config(config, overrides)
    kept = settings.seed if settings.split.seed is None else settings.split.seed
    runs = {}
    for seed in dict.fromkeys(seeds):
        display.say(f"Seed {seed}:")
        changes = {**(overrides or {}), "split.seed": kept, "seed": seed}
        runs[seed] = _train_or_resume(config, Path(out) / f"seed-{seed}", data, changes, display)
    rows = [
        {"seed": seed, "unit": unit} | {name: estimate.value for name, estimate in scores.metrics.items()}
        for seed, run in runs.items()
        for unit, scores in Evaluation.load(run.metrics).scores.items()
    ]
    scores = pd.DataFrame(rows)
    table = Path(out) / "seeds.csv"
    write_text(table, scores.to_csv(index=False))
    return Repeats(runs, scores, table)


def _train_or_resume(
    config: ExperimentConfig | str | Path | None,
    folder: Path,
    data: str | Path | None,
    overrides: Mapping[str, Any] | None,
    display: Display,
) -> Run:
    """A finished run: the one that is there, or resumed, or trained."""
    return complete(
        folder, lambda: train(config, out=folder, data=data, overrides=overrides, display=display), display=display
    )
