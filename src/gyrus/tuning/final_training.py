"""After the study: the best configuration trained with several seeds, and judged once on the test set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from filelock import FileLock

from gyrus.datasets.splits import Split
from gyrus.errors import ConfigError
from gyrus.files import read_json, write_json
from gyrus.runs.run_folder import Run
from gyrus.tuning.study_result import StudyResult
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.experiment_config import ExperimentConfig
from gyrus.workflows.train_seeds import Repeats, train_seeds


@dataclass(frozen=True)
class FinalScores:
    """The best configuration, and where asked for the one that it began from, on the test set.

    Attributes:
        tuned: The trainings of the best configuration.
        default: Those of the config as it was.
    """

    tuned: Repeats
    default: Repeats | None

    def text(self) -> str:
        """The scores of both."""
        parts = [f"StudyResult: {self.tuned.text()}"]
        if self.default is not None:
            parts.append(f"Before tuning: {self.default.text()}")
        return "\n\n".join(parts)


def train_best(
    tuned: StudyResult, seeds: Sequence[int], *, with_default: bool = False, display: Display = SILENT
) -> FinalScores:
    """Train the best configuration with several seeds on the split of the study, and judge it on the test set.

    From then on the study is closed: trials after it would be chosen by the test set.

    Args:
        tuned: The study.
        seeds: One training each.
        with_default: Train the config as it was before tuning as well, in the same way.
        display: Where progress is shown.

    Raises:
        ConfigError: The data have changed since the study began, or another trial has been judged on the test set.
        KeyboardInterrupt: It was interrupted; the same call goes on.
    """
    with FileLock(tuned.folder.path / ".final.lock"):
        _close(tuned)
        display.say("The best configuration, judged on the test set:")
        best = _train(tuned, tuned.configuration(tuned.best), "tuned", seeds, display)
        if not with_default:
            return FinalScores(best, None)
        display.say("The config as it was, judged on the test set:")
        return FinalScores(best, _train(tuned, tuned.settings, "default", seeds, display))


def _close(tuned: StudyResult) -> None:
    """Write down which trial is judged, once and for all."""
    mark = tuned.folder.final / "trial.json"
    if mark.exists():
        judged = read_json(mark)["trial"]
        if judged != tuned.best.number:
            raise ConfigError(
                f"Trial {judged} of this study has been judged on the test set, and trial {tuned.best.number} is the "
                "best now. Choosing again would be choosing by the test set; give another --out."
            )
        return
    write_json(mark, {"trial": tuned.best.number})


def _train(
    tuned: StudyResult, settings: ExperimentConfig, name: str, seeds: Sequence[int], display: Display
) -> Repeats:
    folder = tuned.folder.final / name
    same_split = {"split.seed": tuned.split.seed}
    repeats = train_seeds(settings, seeds=seeds, out=folder, overrides=same_split, display=display)
    for run in repeats.runs.values():
        _refuse_other_split(tuned, run)
    return repeats


def _refuse_other_split(tuned: StudyResult, run: Run) -> None:
    now = Split.load(run.split)
    if now.manifest_digest != tuned.split.manifest_digest or dict(now.samples) != dict(tuned.split.samples):
        raise ConfigError(
            f"The data have changed since the study began, so people may have moved between its parts: {run.folder} "
            "does not hold an honest score. Begin a new study."
        )
