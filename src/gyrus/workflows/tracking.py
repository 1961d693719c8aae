"""What those are told who follow a run from elsewhere."""

from __future__ import annotations

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.evaluation.result import Evaluation
from gyrus.extras import DISTRIBUTION
from gyrus.files import read_json
from gyrus.runs.run_folder import Run, installed_version
from gyrus.training.loggers import RunLogger


def tags_of(manifest: Manifest, split: Split) -> dict[str, str]:
    """Which data a run learns from and is judged on, and how they were cut; the warning of a split that leaks."""
    return {
        "data": manifest.digest,
        "split": split.unit,
        "split method": split.method if split.fold is None else f"{split.method}, fold {split.fold}",
        "split seed": str(split.seed),
        "warning": split.statement or "none",
        "gyrus": str(installed_version(DISTRIBUTION)),
    }


def keep_outcome(log: RunLogger, run: Run) -> None:
    """Tell the scores on the test set, and hand over figures, report and weights; the list of people stays here."""
    scores = {
        f"test_{name}_by_{unit}": estimate.value
        for unit, scores in Evaluation.load(run.metrics).scores.items()
        for name, estimate in scores.metrics.items()
        if estimate.value is not None
    }
    files = [run.config, run.metrics, run.report, run.card, run.history, run.model, run.weights]
    log.keep(
        scores,
        sorted(run.figures.glob("*.png")),
        [path for path in files if path.exists()],
        step=int(read_json(run.folder / "run.json")["best_epoch"]),
    )
