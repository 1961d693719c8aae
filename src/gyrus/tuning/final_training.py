"""Final training: the best configuration with several seeds, scored once on the test set."""

from __future__ import annotations

from collections.abc import Sequence

from filelock import FileLock

from gyrus.datasets.splits import Split
from gyrus.errors import ConfigError
from gyrus.files import read_json, write_json
from gyrus.tuning.study import FinalRuns, StudyResult
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.experiment_config import ExperimentConfig
from gyrus.workflows.train_seeds import SeedRuns, train_seeds


def train_best(
    result: StudyResult, seeds: Sequence[int], *, with_default: bool = False, display: Display = SILENT
) -> FinalRuns:
    """Train the best configuration with several seeds on the split of the study, and score it on the test set.

    This closes the study: later trials would be chosen by the test set.

    Args:
        result: The study.
        seeds: One run per seed.
        with_default: Also train the config before tuning.
        display: Where progress is shown.

    Raises:
        ConfigError: The data have changed since the study began, or another trial has been scored on the test set.
        KeyboardInterrupt: Training was interrupted; the same call continues it.
    """
    with FileLock(result.folder.path / ".final.lock"):
        _record_choice(result)
        display.say("Training the best configuration, to be scored on the test set:")
        tuned = _train(result, result.configuration(result.best), "tuned", seeds, display)
        if not with_default:
            return FinalRuns(tuned, None)
        display.say("Training the config before tuning, to be scored on the test set:")
        return FinalRuns(tuned, _train(result, result.settings, "default", seeds, display))


def _record_choice(result: StudyResult) -> None:
    """Record which trial is scored on the test set, once and for all."""
    path = result.folder.final / "trial.json"
    if not path.exists():
        write_json(path, {"trial": result.best.number})
        return
    scored = read_json(path)["trial"]
    if scored != result.best.number:
        raise ConfigError(
            f"Trial {scored} of this study has been scored on the test set, and trial {result.best.number} is the best "
            "now. Another choice would be a choice by the test set; give another --out."
        )


def _train(
    result: StudyResult, settings: ExperimentConfig, name: str, seeds: Sequence[int], display: Display
) -> SeedRuns:
    same_split = {"split.seed": result.split.seed}
    runs = train_seeds(settings, seeds=seeds, out=result.folder.final / name, overrides=same_split, display=display)
    for run in runs.runs.values():
        split = Split.load(run.split)
        same_data = split.manifest_digest == result.split.manifest_digest
        if not same_data or dict(split.samples) != dict(result.split.samples):
            raise ConfigError(
                f"The data have changed since the study began, so subjects may have moved between training and test "
                f"set: the score in {run.folder} is not valid. Start a new study."
            )
    return runs
