"""The plan of ``gyrus auto``: which candidates, folds and budget, each with its reason.

The plan is a function of the fingerprint and the options alone, so that the same data on the same machine give the same
plan. docs/auto.md lists the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from gyrus.auto.candidates import CANDIDATES
from gyrus.auto.fingerprint import Fingerprint
from gyrus.configuration import stored_document
from gyrus.errors import ConfigError, DataError
from gyrus.evaluation.metrics import METRICS
from gyrus.registry import look_up
from gyrus.serialisation import Saved
from gyrus.text import counted, one_per_line
from gyrus.workflows.experiment_config import ExperimentConfig, load_config

MOST_FOLDS, FEWEST_FOLDS = 5, 3
SUBJECTS_OF_A_FOLD = 5
"""Subjects of the rarest class in each fold, at least; with fewer there are fewer folds."""

MANY_SUBJECTS = 2000
"""From so many subjects on, three folds: the scores are narrow enough, and each training takes long."""

DEFAULT_METRIC = "macro_roc_auc"

Outer = Literal["folds", "given"]


@dataclass(frozen=True)
class AutoOptions:
    """What a user can change of a plan.

    Attributes:
        minutes: The time for everything.
        candidates: Names of candidates; empty: those that suit the data.
        folds: Number of folds; None: by the number of subjects.
        metric: The score by which candidates are compared.
        seed: Seed of everything random.
    """

    minutes: float = 30.0
    candidates: tuple[str, ...] = ()
    folds: int | None = None
    metric: str = DEFAULT_METRIC
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ConfigError: One is out of range, or there is no such candidate or metric.
        """
        if not self.minutes > 0:
            raise ConfigError(f"--minutes must be above 0, got {self.minutes:g}.")
        if self.folds is not None and self.folds < FEWEST_FOLDS:
            raise ConfigError(
                f"--folds must be {FEWEST_FOLDS} or more, got {self.folds}: one to score on, one to choose by, others "
                "to train on."
            )
        for name in self.candidates:
            look_up(name, CANDIDATES, "candidate")
        look_up(self.metric, METRICS, "metric")


@dataclass(frozen=True)
class Decision:
    """One line of a plan: what was decided, and why."""

    what: str
    value: str
    reason: str


@dataclass(frozen=True)
class PlannedCandidate:
    """A candidate of a plan.

    Attributes:
        name: A name of :data:`gyrus.auto.candidates.CANDIDATES`.
        used: Whether it is trained.
        reason: Why it is, or why not.
        config: Its config, which ``gyrus train`` repeats; empty if it is not used.
    """

    name: str
    used: bool
    reason: str
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What it is."""
        return CANDIDATES[self.name].title

    @property
    def settings(self) -> ExperimentConfig:
        """Its config."""
        return ExperimentConfig.model_validate(self.config)


@dataclass(frozen=True)
class Plan(Saved):
    """What ``gyrus auto`` does, and why.

    Attributes:
        digest: Digest of the data.
        minutes: The time for everything.
        folds: Number of folds.
        outer: What the classifier is scored on: "folds", in nested cross-validation; or "given", the test set of the
            data.
        metric: The score by which candidates are compared.
        seed: Seed of everything random.
        candidates: All candidates, used or not, the simplest first.
        decisions: The decisions with their reasons.
    """

    SCHEMA: ClassVar[str] = "gyrus.auto_plan/1"

    digest: str
    minutes: float
    folds: int
    outer: Outer
    metric: str
    seed: int
    candidates: tuple[PlannedCandidate, ...]
    decisions: tuple[Decision, ...]

    @property
    def used(self) -> tuple[PlannedCandidate, ...]:
        """The candidates that are trained, the simplest first."""
        return tuple(each for each in self.candidates if each.used)

    def rows(self) -> tuple[tuple[str, str, str], ...]:
        """What, value and reason of every decision, those about candidates last."""
        found = [(each.what, each.value, each.reason) for each in self.decisions]
        found += [(each.name, "yes" if each.used else "no", each.reason) for each in self.candidates]
        return tuple(found)

    def text(self) -> str:
        """The plan, one decision per line with its reason."""
        lines = [f"{what + ':':22} {value:28} {reason}" for what, value, reason in self.rows()]
        return one_per_line(lines)


def make_plan(
    fingerprint: Fingerprint,
    options: AutoOptions,
    overrides: Mapping[str, Any] | None = None,
    *,
    data: str | None = None,
) -> Plan:
    """Make the plan for a data set.

    Args:
        fingerprint: The measured facts.
        options: What the user changed.
        overrides: Fields of the configs by dotted name, for all candidates; or for one of them, as
            ``slice-cnn.training.epochs``.
        data: The path of the data, for the configs.

    Raises:
        ConfigError: A field cannot be set, or no candidate suits the data.
        DataError: There are too few subjects.
    """
    folds, why_folds = _folds(fingerprint, options)
    outer: Outer = "given" if fingerprint.given_test else "folds"
    common, own = split_overrides(overrides or {})
    candidates = []
    for name, candidate in sorted(CANDIDATES.items(), key=lambda item: item[1].simplicity):
        used, reason = candidate.reason(fingerprint)
        if name in own and name not in options.candidates:
            used, reason = True, "you set fields of it"
        if options.candidates:
            used, reason = name in options.candidates, "named by you" if name in options.candidates else "not named"
        if not used:
            candidates.append(PlannedCandidate(name, False, reason))
            continue
        recipe, fields = candidate.config(fingerprint)
        # Each candidate uses either the images or the columns.
        alone = {} if name == "table" else {"data.table_columns": None}
        changes = {**fields, "seed": options.seed, **common, **alone, **own.get(name, {})}
        settings = load_config(recipe, changes, data=data)
        candidates.append(
            PlannedCandidate(name, True, reason, stored_document(settings.model_copy(update={"about": None})))
        )
    if not any(each.used for each in candidates):
        reasons = "\n".join(f"  - {each.name}: {each.reason}" for each in candidates)
        raise ConfigError(f"No candidate suits these data:\n{reasons}")
    several = sum(each.used for each in candidates) > 1
    return Plan(
        digest=fingerprint.digest,
        minutes=options.minutes,
        folds=folds,
        outer=outer,
        metric=options.metric,
        seed=options.seed,
        candidates=tuple(candidates),
        decisions=(
            Decision(
                "split by",
                "image" if fingerprint.subjects is None else fingerprint.subject_kind,
                "subjects are unknown: scores are inflated"
                if fingerprint.subjects is None
                else "no subject is on two sides",
            ),
            *_copies(fingerprint),
            Decision("folds", str(folds), why_folds),
            Decision(
                "scored on",
                "the given test set" if outer == "given" else f"{folds} outer folds",
                f"the data define {counted(fingerprint.given_test, 'test image')}; they choose nothing"
                if outer == "given"
                else "each subject is scored by classifiers that were trained and chosen without it"
                if several
                else "there is one candidate and nothing to choose, so plain cross-validation is enough",
            ),
            Decision(
                "metric",
                options.metric,
                "ranks subjects, whatever the threshold" if options.metric == DEFAULT_METRIC else "named by you",
            ),
            Decision(
                "give up",
                "paired bootstrap",
                "after each inner fold, candidates that are very probably worse than the best",
            ),
            Decision("ties", "the simpler one", "within one standard error of the paired difference"),
            Decision(
                "minutes",
                f"{options.minutes:g}",
                "candidates whose measured time does not fit are left out, the slowest first",
            ),
            Decision("device", fingerprint.machine.gpu or "cpu", f"{counted(fingerprint.machine.cores, 'core')} found"),
        ),
    )


def _copies(fingerprint: Fingerprint) -> tuple[Decision, ...]:
    images, groups = fingerprint.near_copies
    if not images:
        return ()
    value = f"{images:,} images in {counted(groups, 'group')}"
    return (Decision("copies", value, "found by their pixels; each group is in one fold (split.near_copies)"),)


def split_overrides(overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Overrides of all candidates, and those of single candidates by name."""
    common: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {}
    for name, value in overrides.items():
        first, _, rest = name.partition(".")
        if first in CANDIDATES and rest:
            own.setdefault(first, {})[rest] = value
        else:
            common[name] = value
    return common, own


def _folds(fingerprint: Fingerprint, options: AutoOptions) -> tuple[int, str]:
    """The number of folds, and why.

    Raises:
        DataError: There are too few subjects of a class.
    """
    rarest = min(fingerprint.classes, key=lambda name: fingerprint.classes[name])
    unit = "subject" if fingerprint.subjects is not None else "image"
    if len(fingerprint.classes) < 2:
        raise DataError("The data have only one class; a classifier needs at least two.")
    if fingerprint.units < 3 * FEWEST_FOLDS:
        raise DataError(
            f"The data have {counted(fingerprint.units, unit)}. A choice between classifiers needs at least "
            f"{3 * FEWEST_FOLDS}: some to train on, some to choose by, some to score on."
        )
    if options.folds:
        return options.folds, "named by you"
    if fingerprint.units >= MANY_SUBJECTS:
        return FEWEST_FOLDS, f"{fingerprint.units:,} {unit}s give narrow scores in few folds"
    folds = max(FEWEST_FOLDS, min(MOST_FOLDS, fingerprint.rarest // SUBJECTS_OF_A_FOLD))
    # Rare classes are too rare for any number of folds; they do not decide.
    common = [count for count in fingerprint.classes.values() if count >= SUBJECTS_OF_A_FOLD * FEWEST_FOLDS]
    if fingerprint.rarest < SUBJECTS_OF_A_FOLD * FEWEST_FOLDS and len(common) > 1:
        folds = max(FEWEST_FOLDS, min(MOST_FOLDS, min(common) // SUBJECTS_OF_A_FOLD))
        return folds, (
            f"class '{rarest}' has only {counted(fingerprint.classes[rarest], unit)}; the other classes decide"
        )
    few = fingerprint.classes[rarest]
    return folds, f"class '{rarest}' has {counted(few, unit)}: {few // folds} or more a fold"


def planned_pieces(folds: int, outer: Outer, *, several: bool) -> list[tuple[int, ...]]:
    """The folds that each training of a candidate leaves out: one for the classifier, two for the score of the choice.

    A training without folds i and j serves outer fold i, whose choice it is scored for on j, and outer fold j.

    Args:
        folds: Number of folds.
        outer: What the classifier is scored on.
        several: Whether there is anything to choose.
    """
    single: list[tuple[int, ...]] = [(fold,) for fold in range(folds)]
    if outer == "given" or not several:
        return single
    return single + [(one, other) for one in range(folds) for other in range(one + 1, folds)]
