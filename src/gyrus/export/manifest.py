"""The file ``bundle.json``: all that prediction with a bundle needs, and what is known about the classifier.

Its values are plain, so that the file stays the same where classes of the evaluation change, and reading it imports
neither pandas nor SciPy. The JSON schema is beside this module, and in every bundle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import TypeAdapter

from gyrus.datasets.patches import PatchConfig
from gyrus.datasets.slice_stacks import StackConfig
from gyrus.datasets.slices import SliceConfig
from gyrus.datasets.table_features import TableEncoder
from gyrus.datasets.targets import CLASSES, Target, TargetScaling
from gyrus.errors import DataError
from gyrus.evaluation.result import Estimate, Unit
from gyrus.files import file_digest, read_lines, reading, write_text
from gyrus.inference.decision_rule import SHIPPED_SETS, ConformalLimit, DecisionRule, Threshold
from gyrus.inference.late_fusion import LateFusion
from gyrus.inference.number_rule import NumberRule
from gyrus.models.options import Measure
from gyrus.serialisation import Saved
from gyrus.transforms.normalisation import Normalisation
from gyrus.transforms.preprocessing import PreprocessingConfig
from gyrus.types import MissingChannel, SplitUnit

if TYPE_CHECKING:
    from gyrus.evaluation.assessment import Assessment
    from gyrus.evaluation.number_assessment import NumberAssessment

BUNDLE, CHECKSUMS, SCHEMA_FILE = "bundle.json", "SHA256SUMS", "bundle.schema.json"
TRAINING_SUBJECTS, MODEL_CARD, REFERENCE = "training_subjects.json", "model_card.md", "reference"
UNLIKE_TRAINING, INTERNAL_SCORES = "unlike_training", "internal_scores.json"
REFERENCE_TABLE = "reference_table.csv"
HUB_PREFIX = "hf:"
"""Prefix of bundles on the Hugging Face Hub (:mod:`gyrus.export.hub`), as opposed to folders."""

Format = Literal["onnx", "openvino"]
FORMATS: tuple[Format, ...] = ("onnx", "openvino")

RESEARCH_ONLY = (
    "Research. Not a medical device: not for diagnosis, treatment, screening or any decision about a person."
)
"""Intended use, unless the author states another."""

TOLERANCE = 1e-4
"""Largest difference between a bundle and what it was made of: of probabilities, or of numbers in standard deviations
of the training set."""

DISTANCE_TOLERANCE = 1e-3
"""Largest difference of distances to the training data, which are logarithms."""

INPUT_TOLERANCE = 2e-3
"""Largest difference of the numbers that describe a prepared image, in units of its standard deviation."""


@dataclass(frozen=True)
class SubjectModel:
    """What answers for all images of a subject together, where a classifier does so.

    Attributes:
        networks: The file of the model by format. Input: the pooled embeddings float32 (subjects, features, 1, 1);
            outputs as those of the network.
        maxima: The features that are the maximum over the images of a subject, as first and last + 1; all others are
            their mean.
    """

    networks: Mapping[Format, str]
    maxima: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Member:
    """One network of a bundle.

    Attributes:
        networks: The file of the network by format. Input: float32 (images, channels, *spatial); outputs: logits
            (images, classes), or numbers in their unit (images, numbers), and the embedding (images, features) before
            the last layer. With ``patches`` the images are patches.
        weight: Its weight in the mean of the probabilities; the weights of all members sum to 1.
        classes: The class names in the order of its outputs; none for a number.
        in_channels: Channels of an image; 0 where it takes no image.
        image_size: Pixels along each axis after the preprocessing: (rows, columns), or (slices, rows, columns).
        patches: Size and overlap of the patches whose mean logit is that of the image; None for whole images.
        preprocessing: The steps on volumes and on images, in order.
        normalisation: The fitted numbers of the intensity scaling, which follows the steps.
        model: Name and options of the network.
        parameters: Number of parameters.
        run: The name of the run that trained it.
        unlike_training: The file with the distances of its training data, by which scans unlike them are recognised;
            None where the run has none.
        scaling: Mean and standard deviation of the number over the training set, which the network has applied to its
            outputs; None for classes.
        table: From the columns of a clinical table to features, which the network takes as further channels of the
            image that are constant over space; None where it takes none.
        fusion: What combines the answer of the network with that of a classifier on the columns of a table; None where
            there is none.
        measures: What is measured in the prepared image, where the network takes measures float32 (images, measures,
            1, ...) instead of the image; None for the image.
        head_volumes: The volumes of the whole head that the network takes after those of the table, in the same way;
            they are measured in the files.
        subject_model: What answers for all images of a subject together; None where each image is answered alone.
    """

    networks: Mapping[Format, str]
    weight: float
    classes: tuple[str, ...]
    in_channels: int
    image_size: tuple[int, ...]
    patches: PatchConfig | None
    preprocessing: PreprocessingConfig
    normalisation: Normalisation
    model: Mapping[str, Any]
    parameters: int
    run: str
    unlike_training: str | None
    scaling: TargetScaling | None = None
    table: TableEncoder | None = None
    fusion: LateFusion | None = None
    measures: Measure | None = None
    head_volumes: tuple[str, ...] = ()
    subject_model: SubjectModel | None = None

    @property
    def encoder(self) -> TableEncoder | None:
        """From the columns of a table to features; None for images alone."""
        return self.fusion.encoder if self.fusion else self.table


@dataclass(frozen=True)
class Calibration:
    """A map from logits to calibrated logits, fitted on the validation set.

    Attributes:
        kind: "temperature", "platt", "isotonic" or "vector".
        unit: Apply it to the pooled probabilities of a subject, or to those of an image.
        count: How many of them it was fitted on.
        parameters: By name, a row of numbers per class, or one row for all.
        notes: Limitations of the fit.
    """

    kind: str
    unit: Unit
    count: int
    parameters: Mapping[str, tuple[tuple[float, ...], ...]]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold of the calibrated probabilities, chosen on the validation set and measured on the test set.

    Attributes:
        goal: What it was chosen for: "youden", "sensitivity" and so on.
        title: The same as text.
        positive: The classes that count as positive.
        threshold: Positive is who has at least this sum of the probabilities of ``positive``.
        unit: Apply it to subjects, or to images.
        count: How many of them it was chosen on.
        reached: Whether the goal was reached on them.
        rates: Sensitivity, specificity, PPV, NPV and others on the test set, with confidence intervals.
    """

    goal: str
    title: str
    positive: tuple[str, ...]
    threshold: float
    unit: Unit
    count: int
    reached: bool
    rates: Mapping[str, Estimate]


@dataclass(frozen=True)
class ConformalThreshold:
    """A limit of nonconformity: classes up to it cannot be excluded. For the probabilities before calibration.

    Attributes:
        method: "lac" or "aps".
        level: Target coverage.
        limit: The limit; None where every set holds every class.
        unit: Apply it to subjects, or to images.
        count: How many of them it was fitted on.
        coverage: Fraction of the test set whose set contains the true class.
        size: Mean number of classes in a set.
    """

    method: str
    level: float
    limit: float | None
    unit: Unit
    count: int
    coverage: Estimate
    size: Estimate


@dataclass(frozen=True)
class Choices:
    """What was chosen on the validation set and measured on the test set.

    Attributes:
        calibration: None where none could be fitted.
        operating_point: The goal of the shipped operating point; None where there is none.
        operating_points: All of them.
        conformal: The conformal thresholds.
        validation_count: Subjects or images of the validation set.
        test_count: Subjects or images of the test set.
        level: Confidence level of the intervals.
        notes: What could not be chosen and why, and limitations.
    """

    calibration: Calibration | None
    operating_point: str | None
    operating_points: tuple[OperatingPoint, ...]
    conformal: tuple[ConformalThreshold, ...]
    validation_count: int
    test_count: int
    level: float
    notes: tuple[str, ...]

    @classmethod
    def from_assessment(cls, assessment: Assessment, operating_point: str, notes: tuple[str, ...] = ()) -> Choices:
        """The choices of a run.

        Args:
            assessment: What was chosen, and how it performs.
            operating_point: The goal of the operating point to ship.
            notes: Further notes, which come first.
        """
        points = tuple(
            OperatingPoint(
                goal=each.point.goal,
                title=each.point.title,
                positive=each.point.positive,
                threshold=each.point.threshold,
                unit=each.point.unit,
                count=each.point.count,
                reached=each.point.reached,
                rates=each.rates,
            )
            for each in assessment.points
        )
        one = assessment.calibrator
        return cls(
            calibration=Calibration(one.kind, one.unit, one.count, one.parameters, one.notes) if one else None,
            operating_point=operating_point if any(point.goal == operating_point for point in points) else None,
            operating_points=points,
            conformal=tuple(
                ConformalThreshold(
                    each.sets.method,
                    each.sets.level,
                    each.sets.limit,
                    each.sets.unit,
                    each.sets.count,
                    each.coverage,
                    each.size,
                )
                for each in assessment.sets
            ),
            validation_count=assessment.validation_count,
            test_count=assessment.test_count,
            level=assessment.level,
            notes=(*notes, *assessment.notes),
        )

    @property
    def shipped_point(self) -> OperatingPoint | None:
        """The operating point that is applied to new predictions."""
        return next((each for each in self.operating_points if each.goal == self.operating_point), None)

    @property
    def shipped_sets(self) -> ConformalThreshold | None:
        """The prediction sets that are applied to new predictions."""
        return next((each for each in self.conformal if each.method == SHIPPED_SETS), None)

    def decision_rule(self, classes: tuple[str, ...]) -> DecisionRule | None:
        """What is applied to new predictions; None where nothing was chosen."""
        point, sets = self.shipped_point, self.shipped_sets
        units = [each.unit for each in (self.calibration, point, sets) if each]
        if not units:
            return None
        one = self.calibration
        return DecisionRule(
            classes,
            units[0],
            (one.kind, one.parameters) if one else None,
            Threshold(point.title, point.positive, point.threshold) if point else None,
            ConformalLimit(sets.method, sets.level, sets.limit) if sets else None,
        )


@dataclass(frozen=True)
class NumberChoices:
    """What was chosen on the validation set and measured on the test set, for a predicted number.

    Attributes:
        rule: Prediction interval and correction of the bias, as they are applied to new predictions.
        coverage: Fraction of the intervals of the test set that contain the true number; None without intervals.
        width: Their mean width; None without intervals.
        validation_count: Subjects or images of the validation set.
        test_count: Subjects or images of the test set.
        level: Confidence level of the estimates.
        notes: What could not be chosen and why, and limitations.
    """

    rule: NumberRule
    coverage: Estimate | None
    width: Estimate | None
    validation_count: int
    test_count: int
    level: float
    notes: tuple[str, ...]

    @classmethod
    def from_assessment(cls, assessment: NumberAssessment) -> NumberChoices:
        """The choices of a run."""
        shipped = assessment.intervals[-1] if assessment.rule.text else None
        return cls(
            assessment.rule,
            shipped.coverage if shipped else None,
            shipped.width if shipped else None,
            assessment.validation_count,
            assessment.test_count,
            assessment.level,
            assessment.notes,
        )


@dataclass(frozen=True)
class Proof:
    """The comparison of the bundle with the runs, at export.

    Attributes:
        compared: Whether the raw files of the test set were at hand.
        samples: How many samples were predicted from the raw files, by the bundle and by the runs.
        missing: How many samples of the test set were not found.
        largest_difference: Of the probabilities, over all samples, classes, networks and formats; of numbers in
            standard deviations of the training set. None if not compared.
        saved_difference: The same between the bundle and the predictions that the runs saved; None if not compared.
        changed_classes: Samples with another predicted class.
        tolerance: What was allowed.
        note: Why there is no comparison, or what it rests on.
    """

    compared: bool
    samples: int
    missing: int
    largest_difference: float | None
    saved_difference: float | None
    changed_classes: int
    tolerance: float
    note: str


@dataclass(frozen=True)
class Reference:
    """An input that comes with the bundle, a phantom, and what the runs answer for it.

    Attributes:
        sample: Its name: the path below ``reference/``.
        probabilities: By class; empty for a number.
        logits: The logits of each member, in the order of the member's classes; they show differences that
            probabilities near 0 and 1 hide. Of a number what each member predicts, in the unit of the number.
        distances: The distances to the training data of each member, by the features of the network, the coarse picture
            and the acquisition; empty for a member without any.
        inputs: The prepared image of each member in numbers, as :func:`gyrus.export.references.describe_inputs` returns
            them: some networks hardly react to another intensity scaling. Empty in bundles of earlier versions.
    """

    sample: str
    probabilities: Mapping[str, float]
    logits: tuple[tuple[float, ...], ...]
    distances: tuple[tuple[float, ...], ...]
    inputs: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class BundleManifest(Saved):
    """The content of ``bundle.json``.

    Attributes:
        title: Name of what was exported.
        kind: What was exported.
        created: When, ISO 8601.
        licence: Licence of the networks, as stated by their author.
        intended_use: As stated by their author.
        classes: The class names; the columns of predictions. None for a number.
        split_unit: What was kept whole when the data were split; other than "subject", scores are too good.
        inputs: Whether it was trained on image files, on volumes or on the rows of a table without images.
        spatial_dims: 2 for networks of images, 3 for networks of volumes or stacks.
        stack: How slices become a stack; None for no stacks.
        slices: Which slices of a volume are samples; None for whole volumes.
        window: Gray values that become 0 and 255 in images with more than 8 bits; None if not stated.
        members: The networks.
        choices: Calibration, operating points and conformal thresholds; None where nothing was measured.
        proof: The comparison with the runs.
        references: Phantoms and their expected answers.
        insensitive: Changes that the references cannot detect, in words.
        programs: Installed programs and Python packages that the preprocessing needs beside the small environment.
        versions: Versions of libraries, by "training" and "export".
        internal_scores: The file with the scores that other cohorts are compared with; None where there are none, and
            in bundles of earlier versions.
        merged: By class, the names in the training data that were merged into it.
        target: What is predicted; plain classes in bundles of earlier versions.
        levels: Levels of the quantiles that the networks predict of a number; none for one output.
        number: Interval and correction of a number; None for classes, and where nothing was measured.
        channels: The pattern of the files of each channel, where several files of a session are one sample, in the
            order of the channels; empty where each file is a sample.
        missing_channel: What the networks do without a file of a channel, as in training.
    """

    SCHEMA: ClassVar[str] = "gyrus.bundle/1"

    title: str
    kind: Literal["run", "cross-validation", "ensemble"]
    created: str
    licence: str
    intended_use: str
    classes: tuple[str, ...]
    split_unit: SplitUnit
    inputs: Literal["images", "volumes", "table"]
    spatial_dims: Literal[2, 3]
    stack: StackConfig | None
    slices: SliceConfig | None
    window: tuple[float, float] | None
    members: tuple[Member, ...]
    choices: Choices | None
    proof: Proof
    references: tuple[Reference, ...]
    insensitive: tuple[str, ...]
    programs: tuple[str, ...]
    versions: Mapping[str, Any]
    internal_scores: str | None = None
    merged: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    target: Target = CLASSES
    levels: tuple[float, ...] = ()
    number: NumberChoices | None = None
    channels: Mapping[str, str] = field(default_factory=dict)
    missing_channel: MissingChannel = "refuse"

    @property
    def number_sd(self) -> float:
        """The standard deviation of the number over the training set, the mean of that of all members; 1 for classes.

        Differences of answers are relative to it.
        """
        return sum(member.weight * member.scaling.scale if member.scaling else member.weight for member in self.members)

    @property
    def table_columns(self) -> tuple[str, ...]:
        """The columns of a clinical table that predictions need; none for images alone."""
        encoders = [member.encoder for member in self.members if member.encoder]
        return tuple(dict.fromkeys(name for encoder in encoders for name in encoder.needed_columns))

    def difference_text(self, difference: float) -> str:
        """A largest difference of answers, after what it is of: "probabilities 1.2e-07"."""
        if self.target.is_number:
            return f"{self.target.name} {difference:.1e} standard deviations of the training set"
        return f"probabilities {difference:.1e}"

    @property
    def view(self) -> dict[str, Any]:
        """The fields of the data config that determine what makes up a sample."""
        return {"stack": self.stack, "slices": self.slices}


def schema() -> dict[str, Any]:
    """The JSON schema of ``bundle.json``, as :mod:`gyrus.export` writes it."""
    document = TypeAdapter(BundleManifest).json_schema(mode="serialization")
    document["properties"] = {"schema": {"const": BundleManifest.SCHEMA}, **document["properties"]}
    document["required"] = ["schema", *document["required"]]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}


def shipped_schema() -> str:
    """The JSON schema that comes with this version of Gyrus, as text."""
    return (resources.files("gyrus.export") / SCHEMA_FILE).read_text(encoding="utf-8")


def is_on_hub(path: object) -> bool:
    """Whether a path is the address of a bundle on the Hub, such as ``hf:owner/name``."""
    return isinstance(path, str | Path) and str(path).startswith(HUB_PREFIX)


def is_bundle(path: object) -> bool:
    """Whether a path is the folder of a bundle, or the address of one on the Hub."""
    try:
        return isinstance(path, str | Path) and (is_on_hub(path) or (Path(path) / BUNDLE).is_file())
    except (OSError, ValueError):  # an impossible name
        return False


def write_checksums(folder: Path) -> None:
    """Write the SHA-256 of every file of a folder, in the form that ``sha256sum --check`` reads."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / CHECKSUMS)
    lines = [f"{file_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    write_text(folder / CHECKSUMS, "".join(lines))


def read_checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file.

    Raises:
        DataError: The list is missing or damaged.
    """
    path = folder / CHECKSUMS
    with reading(path, "a list of SHA-256 checksums"):
        pairs = [line.rstrip("\n").split("  ", 1) for line in read_lines(path) if line.strip()]
        return {name: value for value, name in pairs}


def require_unchanged(folder: Path, names: list[str] | None = None) -> None:
    """Refuse a bundle with files that differ from their checksums.

    Args:
        folder: The bundle.
        names: The files to check; by default all, and there may be no others.

    Raises:
        DataError: A file is missing, changed or unknown; the message names the first ones.
    """
    expected = read_checksums(folder)
    problems = [f"{name} is not in {CHECKSUMS}" for name in names or () if name not in expected]
    for name in names if names is not None else expected:
        path = folder / name
        if not path.is_file():
            problems.append(f"{name} is missing")
        elif name in expected and file_digest(path) != expected[name]:
            problems.append(f"{name} has changed")
    if names is None:
        present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
        problems += [f"{name} is not in {CHECKSUMS}" for name in sorted(present - {*expected, CHECKSUMS})]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise DataError(
            f"The bundle in {folder} is not what was exported: {'; '.join(problems[:3])}{more}. Obtain it again, or "
            "export it again."
        )


def schema_text() -> str:
    """The JSON schema as it is written to files."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
