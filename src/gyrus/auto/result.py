"""The result of ``gyrus auto``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from gyrus.auto.fingerprint import Fingerprint
from gyrus.auto.plan import Plan
from gyrus.auto.selection import STACK, Selection
from gyrus.auto.trainings import title_of
from gyrus.evaluation.metrics import METRICS
from gyrus.evaluation.result import BASELINE_TITLES, Baselines, Evaluation, verdict
from gyrus.serialisation import Saved
from gyrus.text import one_per_line


@dataclass(frozen=True)
class Choices(Saved):
    """The content of ``selection.json``.

    Attributes:
        final: How the classifier was chosen.
        outer: How a candidate was chosen without each outer fold; empty where there was nothing to choose.
        scored: What the score is of: "nested", "given test set", "cross-validation" of the only candidate, or "chosen":
            of the best of several, because the time was over.
        notes: What a reader must know.
    """

    SCHEMA: ClassVar[str] = "gyrus.auto_choices/1"

    final: Selection
    outer: Mapping[str, Selection]
    scored: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class AutoResult:
    """A finished call of :func:`auto`.

    Attributes:
        folder: The folder.
        fingerprint: The measured facts.
        plan: The plan.
        choices: How the classifier was chosen.
        evaluation: The honest score.
        baselines: Baselines on the same subjects; None where there are none.
        spent: Seconds used.
    """

    folder: Path
    fingerprint: Fingerprint
    plan: Plan
    choices: Choices
    evaluation: Evaluation
    baselines: Baselines | None
    spent: float

    @property
    def classifier(self) -> Path:
        """The classifier: a folder of an ensemble, for ``gyrus predict``, ``explain`` and ``export``."""
        return self.folder / "classifier"

    @property
    def report(self) -> Path:
        """The report, HTML."""
        return self.folder / "report.html"

    def sentences(self) -> tuple[str, ...]:
        """What was found, in sentences, the honest verdict first."""
        final, metric = self.choices.final, self.plan.metric
        score = self.evaluation.headline.metrics[metric]
        parts = ", ".join(f"{name} ({weight:.2f})" for name, weight in final.members.items())
        what = title_of(final.chosen) + (f": {parts}" if final.chosen == STACK else f" ({final.chosen})")
        curse = f"{METRICS[metric].title} in the choice: {final.scores[final.chosen]:.2f}."
        quote = (
            f"The score of the whole procedure is {score.text(2)}; neither holds for unseen subjects."
            if self.evaluation.warning
            else f"Quote the honest score, {score.text(2)}: a score that chose is too high."
        )
        return (
            *against_best_baseline(self.evaluation, self.baselines, metric),
            *verdict(self.evaluation, self.baselines),
            f"Classifier: {what}; {final.reason}.",
            f"{curse} {quote}",
        )

    def text(self) -> str:
        """The sentences and the notes."""
        return one_per_line([*self.sentences(), *(f"Note: {note}" for note in self.choices.notes)])


def against_best_baseline(evaluation: Evaluation, baselines: Baselines | None, metric: str) -> tuple[str, ...]:
    """Whether the classifier beats the best baseline in a score, as a sentence; nothing without baselines.

    Args:
        evaluation: The scores of the classifier.
        baselines: Baselines on the same subjects.
        metric: The score.
    """
    score = evaluation.headline.metrics[metric]
    compared = {
        name: (each.scores[metric], each.gains[metric])
        for name, each in (baselines.results if baselines else {}).items()
        if metric in each.scores and each.scores[metric].value is not None
    }
    if not compared:
        return ()
    name = max(compared, key=lambda name: compared[name][0].value or 0.0)
    theirs, gain = compared[name]
    better = gain.low is not None and gain.low > 0
    worse = gain.high is not None and gain.high < 0
    judged = "Better than" if better else "Worse than" if worse else "Not better than"
    return (
        f"{judged} the best baseline, {BASELINE_TITLES[name]}: {METRICS[metric].title} {score.text(2)} against "
        f"{theirs.text(2)}, difference {gain.text(2)}.",
    )
