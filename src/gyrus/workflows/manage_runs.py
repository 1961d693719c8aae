"""Run folders as they lie on the disk: what is there, how it differs, and how it goes away."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gyrus.configuration import read_document
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.errors import RunError
from gyrus.evaluation.result import Evaluation
from gyrus.files import read_json
from gyrus.runs.run_folder import Run
from gyrus.types import SUBSETS

Difference = tuple[str, Any, Any]
"""A dotted name, and the value on either side; None where there is none."""


@dataclass(frozen=True)
class Summary:
    """A run in one line.

    Attributes:
        folder: Where it lies.
        status: How far it has come.
        created: When it began, ISO 8601.
        model: The network's name.
        data: The first digits of the digest of the data; empty before they were read.
        split: What was kept whole; empty before the split was made.
        scores: Accuracy, balanced accuracy and macro ROC AUC of the test set; None where undefined or not known yet.
    """

    folder: Path
    status: str
    created: str
    model: str
    data: str
    split: str
    scores: Mapping[str, float | None]


SCORES = ("accuracy", "balanced_accuracy", "macro_roc_auc")


def list_runs(folder: Path) -> list[Summary]:
    """All runs below a folder, at any depth, by the time when they began.

    Raises:
        RunError: There is no such folder.
    """
    if not folder.is_dir():
        raise RunError(f"There is no folder {folder}.")
    found = [summarise(Run(path.parent)) for path in folder.rglob("run.json")]
    return sorted(found, key=lambda each: (each.created, str(each.folder)))


def summarise(run: Run) -> Summary:
    """A run in one line, however far it has come."""
    facts = read_json(run.folder / "run.json")
    config = read_document(run.config) if run.config.exists() else {}
    scores = Evaluation.load(run.metrics).headline.metrics if run.metrics.exists() else {}
    return Summary(
        folder=run.folder,
        status=facts["status"],
        created=facts["created"],
        model=config.get("model", {}).get("name", ""),
        data=(facts.get("manifest") or "")[:8],
        split=Split.load(run.split).unit if run.split.exists() else "",
        scores={name: scores[name].value if name in scores else None for name in SCORES},
    )


def describe(run: Run) -> list[tuple[str, str]]:
    """What a run is and what came of it, as titles and texts."""
    summary = summarise(run)
    facts = read_json(run.folder / "run.json")
    lines = [
        ("Status", summary.status),
        ("Began", summary.created),
        ("Command", " ".join(map(str, facts.get("command", [])))),
        ("Model", summary.model),
        ("Data", summary.data and f"{Manifest.load(run.manifest).root}, digest {summary.data}"),
    ]
    if summary.split:
        split = Split.load(run.split)
        lines.append(("Split", f"by {split.unit}, {split.method}, seed {split.seed}"))
        lines += [
            (subset.capitalize(), f"{len(split.subjects[subset])} subjects, {len(split.samples[subset])} images")
            for subset in SUBSETS
        ]
    if facts.get("best_epoch"):
        lines.append(("Best epoch", str(facts["best_epoch"])))
    if run.metrics.exists():
        headline = Evaluation.load(run.metrics).headline
        lines += [(f"Test {name.replace('_', ' ')}", headline.metrics[name].text()) for name in SCORES]
    if run.report.exists():
        lines.append(("Report", str(run.report)))
    return [(title, text) for title, text in lines if text]


@dataclass(frozen=True)
class RunDifference:
    """How two runs differ.

    Attributes:
        settings: Fields of the config.
        data: What differs in the data and the split, in words.
        environment: Versions of libraries and the machine.
        scores: Scores of the test set.
    """

    settings: tuple[Difference, ...]
    data: tuple[str, ...]
    environment: tuple[Difference, ...]
    scores: tuple[Difference, ...]


def compare_folders(one: Run, other: Run) -> RunDifference:
    """How two runs differ in settings, data, environment and scores."""
    configs = [read_document(run.config) if run.config.exists() else {} for run in (one, other)]
    environments = [read_json(run.folder / "environment.json") for run in (one, other)]
    scores = [summarise(run).scores for run in (one, other)]
    return RunDifference(
        settings=tuple(differences(configs[0], configs[1])),
        data=_data_differences(one, other),
        environment=tuple(differences(environments[0], environments[1])),
        scores=tuple(differences(scores[0], scores[1])),
    )


def differences(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> list[Difference]:
    """The fields in which two nested documents differ, by their dotted names, in order.

    Lists of the same length are compared place by place.

    Example:
        >>> differences({"training": {"epochs": 5}, "seed": 0}, {"training": {"epochs": 9}, "seed": 0})
        [('training.epochs', 5, 9)]
    """
    found: list[Difference] = []
    for name in dict.fromkeys([*one, *other]):
        left, right = one.get(name), other.get(name)
        if left == right and type(left) is type(right):
            continue
        left, right = _numbered(left, right)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            found += differences(left, right, f"{prefix}{name}.")
        elif left != right:
            found.append((f"{prefix}{name}", left, right))
    return found


def remove_run(run: Run) -> None:
    """Delete a run folder with everything in it.

    Raises:
        RunError: Another process is in it.
    """
    with run.locked():
        shutil.rmtree(run.folder)


def _numbered(left: Any, right: Any) -> tuple[Any, Any]:
    """Lists of mappings of the same length as mappings of their places, so that what differs inside is named."""
    both = isinstance(left, Sequence) and isinstance(right, Sequence) and not isinstance(left, str)
    if both and len(left) == len(right) and all(isinstance(item, Mapping) for item in [*left, *right]):
        return ({str(place): item for place, item in enumerate(side)} for side in (left, right))  # type: ignore[return-value]
    return left, right


def _data_differences(one: Run, other: Run) -> tuple[str, ...]:
    missing = [str(run.folder) for run in (one, other) if not run.split.exists()]
    if missing:
        return tuple(f"{folder} has no data yet" for folder in missing)
    left, right = Manifest.load(one.manifest), Manifest.load(other.manifest)
    lines = []
    if left.classes != right.classes:
        lines.append(f"classes: {', '.join(left.classes)} | {', '.join(right.classes)}")
    if left.digest != right.digest:
        lines += _row_differences(left, right)
    return (*lines, *_split_differences(Split.load(one.split), Split.load(other.split)))


def _row_differences(left: Manifest, right: Manifest) -> list[str]:
    sides = [manifest.table.set_index("sample")[["digest", "label", "subject"]] for manifest in (left, right)]
    shared = sides[0].index.intersection(sides[1].index)
    lines = []
    for side, name in zip(sides, ("first", "second"), strict=True):
        if count := len(side.index.difference(shared)):
            lines.append(f"{count} images are in the {name} run only")
    for column, words in (("digest", "other contents"), ("label", "another label"), ("subject", "another subject")):
        pair = [side.loc[shared, column].astype("string").fillna("") for side in sides]
        if changed := int((pair[0] != pair[1]).sum()):
            lines.append(f"{changed} images have the same name, but {words}")
    return lines or ["images are the same, but their sessions, slices or parts are not"]


def _split_differences(left: Split, right: Split) -> list[str]:
    lines = []
    if left.unit != right.unit:
        lines.append(f"split by {left.unit} | by {right.unit}")
    for subset in SUBSETS:
        names = "subjects" if left.subjects[subset] and right.subjects[subset] else "samples"
        one, other = set(getattr(left, names)[subset]), set(getattr(right, names)[subset])
        if one != other:
            noun = names.replace("samples", "images")
            lines.append(
                f"{subset}: {len(one - other)} {noun} only in the first, {len(other - one)} only in the second"
            )
    return lines
