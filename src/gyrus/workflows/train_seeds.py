"""Train several times with other seeds on one split, to show the spread of the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.datasets.text_tables import write_csv
from gyrus.errors import ConfigError
from gyrus.evaluation.metrics import headline_metrics
from gyrus.evaluation.number_metrics import number_headlines
from gyrus.evaluation.number_result import load_evaluation
from gyrus.executor import folder_for_temporary_files
from gyrus.files import temporary_folder
from gyrus.runs.run_folder import Run
from gyrus.training.worker import by_process_0
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.experiment_config import ExperimentConfig, load_config
from gyrus.workflows.parallel_training import train_all
from gyrus.workflows.train import finish_run, train_on_split
from gyrus.workflows.training_plan import data_to_train


@dataclass(frozen=True)
class SeedRuns:
    """Runs of one config on one split with several seeds.

    Attributes:
        runs: The run of each seed.
        scores: One row per seed and unit, one column per metric.
        table: The CSV file of the scores.
    """

    runs: Mapping[int, Run]
    scores: pd.DataFrame
    table: Path

    def text(self) -> str:
        """Mean, standard deviation and range of each score, and which to quote."""
        several = len(self.runs) > 1
        lines = ["1 seed" if not several else f"{len(self.runs)} seeds, the same split"]
        for unit, scores in self.scores.groupby("unit", sort=False):
            lines.append(f"{f'By {unit}':30}{'mean':>8}{'SD':>8}{'lowest':>8}{'highest':>9}")
            titles = number_headlines() if "mae" in scores else headline_metrics(ordered="quadratic_kappa" in scores)
            for metric in titles:
                values = scores[metric].dropna()
                if len(values):
                    spread = f"{values.std():8.3f}" if len(values) > 1 else f"{'-':>8}"
                    numbers = f"{values.mean():8.3f}{spread}{values.min():8.3f}{values.max():9.3f}"
                    lines.append(f"{titles[metric]:30}{numbers}")
        advice = (
            "Quote the mean: choosing the best of several seeds means choosing on the test set."
            if several
            else "One seed shows no variation: give several, such as --seeds 0,1,2."
        )
        return "\n".join([*lines, advice])


@by_process_0
def train_seeds(
    config: ExperimentConfig | str | Path | None = None,
    *,
    seeds: Sequence[int],
    data: str | Path | None = None,
    out: str | Path,
    overrides: Mapping[str, Any] | None = None,
    display: Display = SILENT,
) -> SeedRuns:
    """Train several times on the same split, each time with other initial weights and another order of training.

    The runs are saved in ``out/seed-0`` and so on. A finished run is not repeated, and an interrupted run continues.

    Args:
        config: As in :func:`gyrus.workflows.train.train`.
        seeds: One run per seed.
        data: As in :func:`gyrus.workflows.train.train`.
        out: The folder of the runs and of ``seeds.csv``.
        overrides: As in :func:`gyrus.workflows.train.train`.
        display: Where progress is shown.

    Raises:
        GyrusError: As :func:`gyrus.workflows.train.train`; or there is no seed.
        KeyboardInterrupt: Training was interrupted; the same call continues it.
    """
    if not seeds:
        raise ConfigError("Name at least one seed, for example 0,1,2.")
    settings = load_config(config, overrides, data=data)
    split_seed = settings.seed if settings.split.seed is None else settings.split.seed
    manifest, split = data_to_train(settings, display)
    runs = {seed: Run(Path(out) / f"seed-{seed}") for seed in dict.fromkeys(seeds)}
    with temporary_folder(folder_for_temporary_files()) as shared:
        saved = shared.absolute() / "manifest.parquet"
        manifest.save(saved)
        trainings = {}
        for seed, run in runs.items():
            changes = {**(overrides or {}), "split.seed": split_seed, "seed": seed}
            wanted = load_config(config, changes, data=data)
            trainings[f"Seed {seed}"] = partial(_train_seed, run.folder.absolute(), wanted, saved, split)
        train_all(trainings, manifest, settings.preprocessing, display)
    rows = [
        {"seed": seed, "unit": unit} | {name: estimate.value for name, estimate in scores.metrics.items()}
        for seed, run in runs.items()
        for unit, scores in load_evaluation(run.metrics).scores.items()
    ]
    found = SeedRuns(runs, pd.DataFrame(rows), Path(out) / "seeds.csv")
    write_csv(found.scores, found.table)
    return found


def _train_seed(folder: Path, settings: ExperimentConfig, manifest_file: Path, split: Split, display: Display) -> None:
    """Train with one seed, or continue it. Another process gets the name of the manifest's file."""

    def start() -> Run:
        return train_on_split(Manifest.load(manifest_file), split, settings, out=folder, display=display)

    finish_run(folder, start, settings=settings, display=display)
