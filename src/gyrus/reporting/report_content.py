"""The content of the report of a run, as plain values: no torch, no files, only what the page shows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gyrus.audit.findings import Findings
from gyrus.evaluation.added_value import AddedValue
from gyrus.evaluation.assessment import Assessment
from gyrus.evaluation.matching import MatchedScores
from gyrus.evaluation.result import Baselines, Evaluation
from gyrus.evaluation.subgroups import SubgroupTable
from gyrus.evaluation.visit_scores import VisitScores
from gyrus.inference.unlike_training import LikenessSummary
from gyrus.redaction import without_secrets
from gyrus.reporting.figures import Picture
from gyrus.text import counted

if TYPE_CHECKING:
    from gyrus.datasets.manifest import Manifest
    from gyrus.reporting.explanation_report import ExplanationContent

Facts = tuple[tuple[str, str], ...]
"""Pairs of name and value, in reading order."""


@dataclass(frozen=True, kw_only=True)
class PageContent:
    """What the reports of classes and of a number share.

    Attributes:
        title: Name of the run.
        created: When, as text.
        baselines: Judged on the same subjects; None where there are none.
        score_pictures: Figures of the scores.
        folds: Rows of the table of a cross-validation: score, mean, SD and range over folds, pooled score.
        fold_pictures: Figures of the folds.
        assessment_pictures: Figures of the assessment.
        subgroup_pictures: Figures of the subgroups.
        likeness: How many test subjects are unlike the training data; None in runs that did not compare them.
        image_pictures: Figures of the images themselves.
        explanation: Heat maps and their checks; None where the run was not explained.
        training_pictures: Figures of the training.
        data: Facts about the data.
        split: Facts about the split.
        findings: Of an audit of both; None where there was none.
        can_be_audited: Whether ``gyrus audit --run`` can add findings.
        training: Facts about model and training.
        config_text: The resolved config.
        command: The exact command that repeats the run.
        environment: Versions and machine.
    """

    title: str
    created: str
    baselines: Baselines | None = None
    score_pictures: tuple[Picture, ...] = ()
    folds: tuple[tuple[str, ...], ...] = ()
    fold_pictures: tuple[Picture, ...] = ()
    assessment_pictures: tuple[Picture, ...] = ()
    subgroup_pictures: tuple[Picture, ...] = ()
    likeness: LikenessSummary | None = None
    image_pictures: tuple[Picture, ...] = ()
    explanation: ExplanationContent | None = None
    training_pictures: tuple[Picture, ...] = ()
    data: Facts = ()
    split: Facts = ()
    findings: Findings | None = None
    can_be_audited: bool = False
    training: Facts = ()
    config_text: str = ""
    command: str = ""
    environment: Facts = ()


@dataclass(frozen=True, kw_only=True)
class ReportContent(PageContent):
    """The report of one run or cross-validation of classes.

    Attributes:
        evaluation: The scores.
        assessment: Choices made on the validation set and judged on the test set.
        subgroups: Scores of subgroups of subjects and images.
        added_value: What the image adds to the table; None where there is no table or no image.
        visit_scores: Scores by visit and by person; None where no subject has several visits.
        matched_scores: Scores on subjects alike in some columns; None where they were not asked for.
    """

    evaluation: Evaluation
    assessment: Assessment | None = None
    subgroups: tuple[SubgroupTable, ...] = ()
    added_value: AddedValue | None = None
    visit_scores: VisitScores | None = None
    matched_scores: MatchedScores | None = None


def data_facts(manifest: Manifest) -> Facts:
    """Subjects and images of each class, the source of the subject ids, problems, and the digest of the data."""
    rule = "unknown" if manifest.subject_kind == "unknown" else f"rule '{manifest.subject_rule}'"
    counts = []
    for name in manifest.classes:
        inside = manifest.table[manifest.table["label"] == name]
        noun = "scans" if manifest.subject_kind == "scan" else "subjects"
        subjects = "" if manifest.subject_kind == "unknown" else f"{inside['subject'].nunique():,} {noun}, "
        counts.append((name, f"{subjects}{counted(len(inside), 'image')}"))
    if manifest.target.is_number:
        numbers = manifest.targets
        subjects = "" if manifest.subject_kind == "unknown" else f"{manifest.table['subject'].nunique():,} subjects, "
        spread = f"{numbers.min():g} to {numbers.max():g}, mean {numbers.mean():.1f}, SD {numbers.std():.1f}"
        counts = [(f"Number: {manifest.target.name}", f"{subjects}{counted(len(manifest), 'image')}, {spread}")]
    return (
        *counts,
        ("Subject ids", rule if manifest.subject_kind != "scan" else f"{rule} (scan ids, not subjects)"),
        ("Excluded", counted(len(manifest.problems), "sample")),
        *((("Files", manifest.files.summary),) if manifest.files else ()),
        ("Digest", manifest.digest[:16]),
    )


def environment_facts(environment: Mapping[str, Any]) -> Facts:
    """Python, operating system and libraries, from ``environment.json``."""
    return (("Python", environment["python"]), ("System", environment["system"]), *environment["libraries"].items())


def command_text(command: Sequence[str]) -> str:
    """A command line as text, without passwords, and with the name of the program in place of its path."""
    program, *arguments = command
    return shlex.join([Path(program).name, *map(without_secrets, arguments)])
