"""Cleaning of a data set: which images are removed, by which rule and why, and the copy without them.

A plan holds a decision for every image. It is written as a folder of the kept images with a table, or as a table only.
Balancing is not part of it: copies made before a split end up on both sides of it. Rare classes are balanced during
training.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import Field, field_validator

from gyrus.audit.duplicates import DUPLICATE_CORRELATION, DuplicatePair, align_candidates, find_duplicates
from gyrus.audit.image_quality import (
    CHUNK,
    EMPTY_FOREGROUND,
    ROBUST_Z_THRESHOLD,
    Progress,
    describe_fault,
    fault_scores,
    largest_plain_z,
    measure_images,
)
from gyrus.audit.nearest_neighbours import find_neighbours
from gyrus.audit.single_linkage import connected_groups
from gyrus.configuration import Section, parse, read_assignments
from gyrus.datasets.class_order import recognise_order
from gyrus.datasets.manifest import COLUMNS, MEMBERS, Manifest, order_classes
from gyrus.datasets.reader import Reader
from gyrus.datasets.sample_files import IMAGE_COLUMN, EncodedImages
from gyrus.datasets.sources.listing import SUBSET_NAMES
from gyrus.datasets.text_tables import write_csv
from gyrus.errors import DataError
from gyrus.files import new_folder, write_json
from gyrus.imaging.decoding import encode_png
from gyrus.registry import look_up
from gyrus.text import counted
from gyrus.transforms.preprocessing import IMAGE_STEPS, AnyImageStep, PreprocessingConfig

_OTHER_SUBJECT = ", under the name of subject"
_QUALITY_RULES = ("outliers", "plain_z", "empty", "cropped")

Threshold = Annotated[float, Field(gt=0, strict=True)]

FORMER_RULES = {"classic": "plain_z", "copies": "duplicates", "contrary": "conflicting_labels"}
"""Names of rules in version 0.1, which are still accepted, and their names today."""

MANIFEST, DECISIONS, ABOUT = "manifest.csv", "decisions.csv", "preparation.json"
"""The files beside the images."""


class Rules(Section):
    """Rules by which an image is removed; None, or False, disables a rule."""

    outliers: Threshold | None = Field(
        None, description="robust z-score of a quality measure, in the direction of a fault; the audit uses 5"
    )
    plain_z: Threshold | None = Field(
        None, description="plain z-score of mean, contrast, SNR or entropy; 2 is in common use"
    )
    empty: Threshold | None = Field(
        EMPTY_FOREGROUND, lt=1, description="fraction of the image that is head, below which it is empty"
    )
    cropped: Threshold | None = Field(
        None, lt=1, description="fraction of the border that is head, above which the head is cut off"
    )
    duplicates: Annotated[float, Field(ge=0.9, le=1, strict=True)] | None = Field(
        DUPLICATE_CORRELATION, description="correlation from which two images are duplicates; one of them is kept"
    )
    conflicting_labels: bool = Field(True, description="remove all duplicates of an image if their labels differ")

    @field_validator("outliers", "plain_z", "empty", "cropped", "duplicates", mode="before")
    @classmethod
    def _disabled(cls, value: object) -> object:
        return None if value is False else value


def parse_rules(texts: Sequence[str], say: Callable[[str], None] = lambda _: None) -> Rules:
    """Rules from assignments such as ``outliers=7`` and ``duplicates=off``.

    Args:
        texts: The assignments.
        say: Called with a note where a rule is given under its former name.

    Raises:
        ConfigError: There is no such rule, or its value is not allowed.
    """
    given = read_assignments(texts)
    for name in given.keys() & FORMER_RULES.keys():
        say(f"Note: the rule {name} is now called {FORMER_RULES[name]}.")
    return parse(Rules, {FORMER_RULES.get(name, name): value for name, value in given.items()}, where="--rule")


@dataclass(frozen=True)
class Decision:
    """Whether an image is kept, and why.

    Attributes:
        sample: Its name in the manifest.
        decision: Whether it is kept.
        rule: A field of :class:`Rules`, or "unusable"; "" where no rule applied.
        value: The measured value; None without one.
        threshold: The threshold of the rule.
        reason: The reason in words.
    """

    sample: str
    decision: Literal["keep", "remove"]
    rule: str = ""
    value: float | None = None
    threshold: float | None = None
    reason: str = ""


@dataclass(frozen=True, eq=False)
class CleaningPlan:
    """The decisions for all images of a data set.

    Attributes:
        manifest: The original data set.
        rules: The rules applied.
        decisions: One per image and one per unusable file, by name.
        kept_outliers: Number of kept images that the audit would list as outliers.
    """

    manifest: Manifest
    rules: Rules
    decisions: tuple[Decision, ...]
    kept_outliers: int = 0

    @property
    def cleaned(self) -> Manifest:
        """The images that are kept."""
        return self.manifest.select([each.sample for each in self.decisions if each.decision == "keep"])

    @property
    def removed(self) -> dict[str, int]:
        """Number of images removed by each rule."""
        return dict(Counter(each.rule for each in self.decisions if each.decision == "remove"))

    @property
    def notes(self) -> tuple[str, ...]:
        """Consequences that the user of the result should know."""
        notes = []
        removed = [each for each in self.decisions if each.decision == "remove"]
        if conflicting := self.removed.get("conflicting_labels", 0):
            notes.append(
                f"{counted(conflicting, 'image was', 'images were')} removed because duplicates have other labels."
            )
        if others := sum(each.rule == "duplicates" and _OTHER_SUBJECT in each.reason for each in removed):
            notes.append(
                f"{counted(others, 'duplicate has', 'duplicates have')} the name of another subject. The two may be "
                "one person, whose other images a split could put into both the training and the test set."
            )
        if self.kept_outliers:
            notes.append(
                f"{counted(self.kept_outliers, 'kept image has', 'kept images have')} unusual quality (robust z-score "
                f"of {ROBUST_Z_THRESHOLD:g} or more). Inspect with gyrus audit; --rule outliers="
                f"{ROBUST_Z_THRESHOLD:g} would remove them."
            )
        subsets = self.manifest.table.set_index("sample")["subset"].fillna("")
        tested = sum(subsets.get(each.sample) == "test" and each.rule in _QUALITY_RULES for each in removed)
        if tested:
            notes.append(
                f"{counted(tested, 'test image was', 'test images were')} removed for low quality: scores on the given "
                "test set are valid for good images only."
            )
        return tuple(notes)

    @property
    def table(self) -> pd.DataFrame:
        """The decisions, one per row."""
        return pd.DataFrame([vars(each) for each in self.decisions], columns=list(Decision.__annotations__))


def plan_cleaning(
    manifest: Manifest, rules: Rules | None = None, *, seed: int = 0, progress: Progress | None = None
) -> CleaningPlan:
    """Measure all images and decide which are kept.

    Args:
        manifest: The data set.
        rules: The rules; by default those of :class:`Rules`.
        seed: Seed of the search for duplicates, which is random in very large sets only.
        progress: Called with the number of images done and the total.

    Raises:
        DataError: An image cannot be read, or no image of a class would remain.
    """
    rules = rules or Rules()
    if MEMBERS in manifest.table or any(len(shape) != 2 for shape in manifest.table["shape"]):
        raise DataError("Only slices can be prepared; these data contain volumes.")
    images = measure_images(manifest, progress=progress)
    pairs: tuple[DuplicatePair, ...] = ()
    if rules.duplicates is not None and len(manifest) > 1:
        pairs = find_duplicates(
            manifest,
            find_neighbours(images.thumbnails, seed=seed),
            align_candidates(images.thumbnails, seed=seed),
            correlation=rules.duplicates,
            other_subject_correlation=rules.duplicates,
        )
    return decide(manifest, images.quality, pairs, rules)


def decide(manifest: Manifest, quality: pd.DataFrame, pairs: Sequence[DuplicatePair], rules: Rules) -> CleaningPlan:
    """Decide which images are kept: first conflicting labels, then quality, then duplicates.

    Args:
        manifest: The data set.
        quality: The quality measures of each image, in the order of the manifest.
        pairs: The duplicates.
        rules: The rules.

    Raises:
        DataError: No image of a class would remain.
    """
    groups = _duplicate_groups(len(manifest), pairs)
    found = _with_conflicting_labels(manifest, groups, rules) if rules.conflicting_labels else {}
    for row, decision in _of_low_quality(manifest, quality, rules):
        found.setdefault(row, decision)
    found |= _superfluous(manifest, [[row for row in group if row not in found] for group in groups], pairs, rules)
    _require_every_class(manifest, found)
    samples = manifest.table["sample"].to_list()
    unusable = [Decision(each.sample, "remove", "unusable", reason=str(each)) for each in manifest.problems]
    usable = [found.get(row, Decision(sample, "keep")) for row, sample in enumerate(samples)]
    kept = [row for row in range(len(samples)) if row not in found]
    unusual = 0
    if rules.outliers is None and len(quality):
        unusual = int((fault_scores(quality).max(axis=1) >= ROBUST_Z_THRESHOLD).iloc[kept].sum())
    decisions = tuple(sorted([*usable, *unusable], key=lambda each: each.sample))
    return CleaningPlan(manifest, rules, decisions, unusual)


def _duplicate_groups(count: int, pairs: Sequence[DuplicatePair]) -> list[list[int]]:
    """Rows of the images that are duplicates of each other, in groups of at least two."""
    ends = np.array([(pair.first, pair.second) for pair in pairs], np.int64).reshape(-1, 2)
    numbers = connected_groups(ends[:, 0], ends[:, 1], count)
    order = np.argsort(numbers, kind="stable")
    groups = np.split(order, np.cumsum(np.bincount(numbers))[:-1])
    return [group.tolist() for group in groups if len(group) > 1]


def _with_conflicting_labels(manifest: Manifest, groups: Sequence[Sequence[int]], rules: Rules) -> dict[int, Decision]:
    samples, labels = manifest.table["sample"].to_list(), manifest.table["label"].fillna("").to_list()
    found: dict[int, Decision] = {}
    for group in groups:
        names = sorted({labels[row] for row in group})
        if len(names) > 1:
            reason = f"{len(group)} duplicates of one image have the labels {' and '.join(names)}"
            found |= {
                row: Decision(samples[row], "remove", "conflicting_labels", None, rules.duplicates, reason)
                for row in group
            }
    return found


def _of_low_quality(manifest: Manifest, quality: pd.DataFrame, rules: Rules) -> list[tuple[int, Decision]]:
    samples, found = manifest.table["sample"].to_list(), []

    def remove(rule: str, values: pd.Series, bad: pd.Series, reason: Callable[[int], str]) -> None:
        for row in np.flatnonzero(bad).tolist():
            value, threshold = float(values.iloc[row]), getattr(rules, rule)
            found.append((row, Decision(samples[row], "remove", rule, value, threshold, reason(row))))

    foreground, border = quality["foreground"], quality["cropped"]
    if rules.empty is not None:
        remove("empty", foreground, foreground < rules.empty, lambda _: "almost no head")
    if rules.cropped is not None:
        remove("cropped", border, border > rules.cropped, lambda _: "head cut off at the border")
    if rules.outliers is not None:
        scores = fault_scores(quality)
        height, name = scores.max(axis=1), scores.idxmax(axis=1).astype(str)
        remove(
            "outliers",
            height,
            height >= rules.outliers,
            lambda row: describe_fault(quality, row, name.iloc[row], height.iloc[row]),
        )
    if rules.plain_z is not None:
        plain = largest_plain_z(quality)
        reason = "mean, contrast, SNR or entropy far from the mean of all images"
        remove("plain_z", plain, plain > rules.plain_z, lambda _: reason)
    return found


def _superfluous(
    manifest: Manifest, groups: Sequence[Sequence[int]], pairs: Sequence[DuplicatePair], rules: Rules
) -> dict[int, Decision]:
    """All but one of each group of duplicates: the test image is kept, else the largest, else the first by name."""
    table = manifest.table
    samples, subjects = table["sample"].to_list(), table["subject"].fillna("").to_list()
    priority = {"test": 0, "val": 1}
    rank = [
        (priority.get(subset, 2), -int(np.prod(shape)))
        for subset, shape in zip(table["subset"], table["shape"], strict=True)
    ]
    correlation: dict[int, float] = {}
    for pair in pairs:
        for row in (pair.first, pair.second):
            correlation[row] = max(correlation.get(row, 0.0), pair.correlation)
    found = {}
    for group in groups:
        ordered = sorted(group, key=lambda row: (rank[row], samples[row]))
        for row in ordered[1:]:
            kept = ordered[0]
            reason = f"duplicate of {samples[kept]}"
            if subjects[row] != subjects[kept]:
                reason += f"{_OTHER_SUBJECT} {subjects[kept]}, not {subjects[row]}"
            found[row] = Decision(samples[row], "remove", "duplicates", correlation[row], rules.duplicates, reason)
    return found


def _require_every_class(manifest: Manifest, found: dict[int, Decision]) -> None:
    kept = manifest.table["label"].drop(index=list(found))
    gone = sorted(set(manifest.table["label"].dropna()) - set(kept.dropna()))
    if gone or kept.empty:
        raise DataError(
            f"No image would remain{' of ' + ', '.join(gone) if gone else ''}. Relax the rules (--rule NAME=NUMBER or "
            "NAME=off), or check the data with gyrus audit."
        )


def parse_steps(texts: Sequence[str]) -> tuple[AnyImageStep, ...]:
    """Steps from their names, or from YAML such as ``{step: clahe, clip_limit: 3}``.

    Raises:
        ConfigError: There is no such step or field.
    """
    steps = [read_assignments([f"step={text}"])["step"] for text in texts]
    named = [{"step": step} if isinstance(step, str) else step for step in steps]
    for step in named:
        look_up(str(step.get("step") if isinstance(step, dict) else step), IMAGE_STEPS, "step")
    return parse(PreprocessingConfig, {"steps": named}, where="--step").steps


def write_copy(
    plan: CleaningPlan, folder: Path, *, steps: Sequence[AnyImageStep] = (), progress: Progress | None = None
) -> Path:
    """Write the kept images as ``[subset/]class/...``, with a table of labels, subjects and other columns.

    Without steps the files are copied unchanged; with steps the pixels are written as PNG. The folder appears only when
    it is complete.

    Args:
        plan: The plan.
        folder: A new or empty folder.
        steps: Preprocessing steps, applied in order.
        progress: Called with the number of images done and the total.

    Raises:
        GyrusError: The folder is not empty, or cannot be written to.
        DataError: An image has changed since the plan was made.
    """
    cleaned = plan.cleaned
    write = _Copier(cleaned, steps)
    with new_folder(folder.resolve()) as temporary:
        paths: list[str] = []
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(cleaned), CHUNK):
                rows = range(start, min(start + CHUNK, len(cleaned)))
                paths += pool.map(lambda row: write(row, temporary), rows)
                if progress:
                    progress(rows.stop, len(cleaned))
        _write_tables(temporary, plan, cleaned, paths, steps)
    return folder


def write_manifest(plan: CleaningPlan, folder: Path) -> Path:
    """Write a table of the kept images, which stay where they are.

    Raises:
        GyrusError: The folder is not empty, or cannot be written to.
        DataError: The images are rows of Parquet files, which a table of paths cannot name.
    """
    cleaned = plan.cleaned
    if cleaned.table["row"].notna().any():
        raise DataError(
            "These images are rows of Parquet files, which a table of paths cannot name. Write a copy instead."
        )
    folder = folder.resolve()
    with new_folder(folder) as temporary:
        root = cleaned.root.resolve()
        paths = [Path(os.path.relpath(root / path, folder)).as_posix() for path in cleaned.table["path"]]
        _write_tables(temporary, plan, cleaned, paths, ())
    return folder


def reading_options(cleaned: Manifest) -> str:
    """The options with which commands read the prepared data in the same way; "" where none are needed."""
    options = []
    known = recognise_order(cleaned.classes)
    if cleaned.target.is_ordered and (known is None or known[0] != cleaned.classes):
        options.append(f'--ordered "{"<".join(cleaned.classes)}"')
    elif not cleaned.target.is_ordered and cleaned.classes != order_classes(cleaned.classes):
        options.append(f'--classes "{",".join(cleaned.classes)}"')
    elif not cleaned.target.is_ordered and known:
        options.append("--no-ordered")
    if cleaned.subject_kind == "scan":
        options.append(f"--subject-rule {cleaned.subject_rule}")
    return " ".join(options)


class _Copier:
    """Writes images to their new paths."""

    def __init__(self, manifest: Manifest, steps: Sequence[AnyImageStep]) -> None:
        self._encoded = EncodedImages(manifest.root, manifest.table)
        self._reader = Reader(manifest)
        self._table = manifest.table
        self._preprocessing = PreprocessingConfig(steps=tuple(steps)) if steps else None

    def __call__(self, row: int, folder: Path) -> str:
        """Write one image into ``folder`` and return its relative path."""
        content = self._content(row)
        with Image.open(io.BytesIO(content)) as image:
            ending = f".{str(image.format).lower()}"
        path = self._path(row, ending)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        return path

    def _content(self, row: int) -> bytes:
        # Reading the pixels also checks that the image has not changed.
        pixels = self._reader.read(row)
        if self._preprocessing is None:
            return self._encoded.read(row)
        return encode_png(self._preprocessing.apply(pixels))

    def _path(self, row: int, ending: str) -> str:
        """Folders for subset and class, then the rest of the original path."""
        record = self._table.iloc[row]
        subset, label = (None if pd.isna(record[column]) else str(record[column]) for column in ("subset", "label"))
        names = list(PurePosixPath(record["path"]).parts)
        if subset and len(names) > 1 and SUBSET_NAMES.get(names[0].lower()) == subset:
            names.pop(0)
        if len(names) > 1 and names[0] == label:
            names.pop(0)
        last = PurePosixPath(names.pop())
        if not pd.isna(record["row"]):
            last = last.with_name(f"{last.stem}_{record['row']:06d}{ending}")
        elif self._preprocessing is not None:
            last = last.with_name(f"{last.stem}{ending}")
        folders = ["_" if name in (".", "..") else name.replace("/", "_") for name in (subset, label) if name]
        return "/".join([*folders, *names, last.name])


def _write_tables(
    folder: Path, plan: CleaningPlan, cleaned: Manifest, paths: Sequence[str], steps: Sequence[AnyImageStep]
) -> None:
    if len(set(paths)) < len(paths):
        duplicate = next(path for path, count in Counter(paths).items() if count > 1)
        raise DataError(
            f"Two images would be written to {duplicate}. Rename one; names must differ by more than the suffix."
        )
    write_csv(_as_source(cleaned, paths), folder / MANIFEST)
    write_csv(plan.table, folder / DECISIONS)
    about = {
        "manifest digest": plan.manifest.digest,
        "subjects": {"kind": cleaned.subject_kind, "rule": cleaned.subject_rule},
        "classes": list(cleaned.classes),
        "rules": plan.rules.model_dump(),
        "steps": [step.model_dump(mode="json") for step in steps],
        "images": len(plan.manifest),
        "kept": len(cleaned),
        "removed": plan.removed,
    }
    write_json(folder / ABOUT, about)


def _as_source(cleaned: Manifest, paths: Sequence[str]) -> pd.DataFrame:
    """A table of paths that is read like the original data.

    Subjects are written only if they are known: on reading they are taken to be people. Scan ids remain in the file
    names. If subjects are unknown, an empty column says so, and no rule reads them from the new names.
    """
    known = ["subject", "session", "slice"] if cleaned.subject_kind == "subject" else []
    unknown = ["subject"] if cleaned.subject_kind == "unknown" else []
    kept = ["label", *known, "subset"]
    further = [name for name in cleaned.table.columns if name not in (*COLUMNS, IMAGE_COLUMN)]
    filled = [name for name in [*kept, *further] if cleaned.table[name].notna().any()]
    return pd.concat([pd.Series(paths, name="path", dtype=str), cleaned.table[[*filled, *unknown]]], axis=1)
