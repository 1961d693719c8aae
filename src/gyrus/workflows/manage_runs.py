"""List, show, compare and delete run folders. Imports neither PyTorch nor pandas where JSON files are enough."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gyrus.configuration import Difference, differences, read_document
from gyrus.errors import GyrusError, RunError
from gyrus.evaluation.metrics import HEADLINE_METRICS
from gyrus.evaluation.number_metrics import NUMBER_METRICS
from gyrus.evaluation.number_result import load_evaluation
from gyrus.evaluation.result import Estimate, Evaluation, headlines_of
from gyrus.files import read_json, reading
from gyrus.redaction import without_secrets
from gyrus.runs.run_folder import Run
from gyrus.text import counted
from gyrus.types import SUBSETS

if TYPE_CHECKING:
    from gyrus.datasets.manifest import Manifest
    from gyrus.datasets.splits import Split


FOREIGN_SHOWN = 10
"""How many files that Gyrus did not write a message names."""


@dataclass(frozen=True)
class RunSummary:
    """A run in one line.

    Attributes:
        folder: The run folder.
        status: The stage that the run has reached.
        created: When it started, ISO 8601.
        model: The name of the network.
        data: The first 8 digits of the digest of the data; empty before they were read.
        split: The unit of the split; empty before the split was made.
        scores: Accuracy, balanced accuracy and macro ROC AUC on the test set, or the mean absolute error ("mae") of a
            number; None if undefined or not known yet.
        problem: Why the folder cannot be read; its status is then "damaged", and the other fields are empty.
    """

    folder: Path
    status: str
    created: str
    model: str
    data: str
    split: str
    scores: Mapping[str, float | None]
    problem: str = ""


@dataclass(frozen=True)
class RunDifference:
    """The differences between two runs.

    Attributes:
        settings: Fields of the config.
        data: Differences in the data and the split, in words.
        environment: Versions of Python, the system and libraries.
        scores: Scores on the test set.
    """

    settings: tuple[Difference, ...]
    data: tuple[str, ...]
    environment: tuple[Difference, ...]
    scores: tuple[Difference, ...]


def list_runs(folder: str | Path = ".") -> list[RunSummary]:
    """All runs below a folder, at any depth, in the order in which they started.

    Raises:
        RunError: There is no such folder.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise RunError(f"There is no folder {folder}.")
    found = [_summary_or_problem(Run(path.parent)) for path in folder.rglob("run.json")]
    return sorted(found, key=lambda each: (each.created, str(each.folder)))


def show_run(run: Run | str | Path) -> list[tuple[str, str]]:
    """The facts and scores of a run, finished or not, as titles and texts.

    Raises:
        RunError: There is no run in the folder.
    """
    run = _opened(run)
    summary, facts = _summary(run), run.facts
    lines = [
        ("Status", summary.status),
        ("Started", summary.created),
        ("Command", without_secrets(" ".join(map(str, facts.get("command", []))))),
        ("Model", summary.model),
    ]
    if summary.data:
        from gyrus.datasets.manifest import Manifest

        lines.append(("Data", f"{Manifest.load(run.manifest).root}, digest {summary.data}"))
    if summary.split:
        from gyrus.datasets.splits import Split

        split = Split.load(run.split)
        lines.append(("Split", f"by {split.unit}, {split.method}, seed {split.seed}"))
        lines.append(
            (
                "Copies",
                counted(
                    split.copies, "image has a copy in an earlier subset", "images have copies in an earlier subset"
                )
                if split.copies
                else "",
            )
        )
        lines += [
            (
                subset.capitalize(),
                f"{counted(len(split.subjects[subset]), 'subject')}, {counted(len(split.samples[subset]), 'image')}",
            )
            for subset in SUBSETS
        ]
    if facts.get("best_epoch"):
        lines.append(("Best epoch", str(facts["best_epoch"])))
    if run.metrics.exists():
        evaluation = load_evaluation(run.metrics)
        names = headlines_of(evaluation.headline) if isinstance(evaluation, Evaluation) else NUMBER_METRICS
        metrics = evaluation.headline.metrics
        lines += [(f"Test {name.replace('_', ' ')}", metrics[name].text()) for name in names]
    if run.report.exists():
        lines.append(("Report", str(run.report)))
    return [(title, text) for title, text in lines if text]


def diff_runs(one: Run | str | Path, other: Run | str | Path) -> RunDifference:
    """The differences between two runs, finished or not, in settings, data, environment and scores.

    Raises:
        RunError: There is no run in a folder.
    """
    first, second = _opened(one), _opened(other)
    configs = [read_document(run.config) if run.config.exists() else {} for run in (first, second)]
    return RunDifference(
        settings=tuple(differences(configs[0], configs[1])),
        data=_data_differences(first, second),
        environment=tuple(differences(first.environment, second.environment)),
        scores=tuple(differences(_summary(first).scores, _summary(second).scores)),
    )


def remove_run(*runs: Run | str | Path, force: bool = False) -> None:
    """Delete run folders with all their files. Nothing is deleted if one of them must not be.

    Args:
        runs: The folders.
        force: Also delete files in them that Gyrus did not write.

    Raises:
        RunError: A folder is no run of Gyrus, holds other files, or another process is writing into it.
    """
    opened = [require_removable(each, force=force) for each in runs]
    for run in opened:
        with run.locked():
            shutil.rmtree(run.folder)


def require_removable(run: Run | str | Path, *, force: bool = False) -> Run:
    """The run in a folder that may be deleted.

    Args:
        run: The folder.
        force: Accept files that Gyrus did not write.

    Raises:
        RunError: The folder is a link, is no run of Gyrus, or holds other files.
    """
    run = _opened(run)
    if run.folder.is_symlink():
        raise RunError(f"{run.folder} is a link. Name the folder to which it leads.")
    if not run.is_marked:
        raise RunError(
            f"Gyrus did not write {run.folder}: its run.json or environment.json is missing or of another program. "
            "Nothing is deleted."
        )
    foreign = run.foreign_files
    if foreign and not force:
        names = "".join(f"\n  {path}" for path in foreign[:FOREIGN_SHOWN])
        more = f"\n  and {len(foreign) - FOREIGN_SHOWN} more" if len(foreign) > FOREIGN_SHOWN else ""
        raise RunError(
            f"{run.folder} holds {counted(len(foreign), 'file')} that Gyrus did not write:{names}{more}\n"
            "Nothing is deleted. Move them away, or delete them too with --force."
        )
    return run


def _opened(run: Run | str | Path) -> Run:
    return run if isinstance(run, Run) else Run.open(Path(run), finished=False)


def _summary_or_problem(run: Run) -> RunSummary:
    try:
        return _summary(run)
    except GyrusError as error:
        return RunSummary(run.folder, "damaged", "", "", "", "", dict.fromkeys(HEADLINE_METRICS), str(error))


def _summary(run: Run) -> RunSummary:
    facts = run.facts
    config = read_document(run.config) if run.config.exists() else {}
    scores: Mapping[str, Estimate] = load_evaluation(run.metrics).headline.metrics if run.metrics.exists() else {}
    names = ("mae",) if "mae" in scores else HEADLINE_METRICS
    return RunSummary(
        folder=run.folder,
        status=facts["status"],
        created=facts["created"],
        model=_name_of_model(run, config),
        data=(facts.get("manifest") or "")[:8],
        split=_unit_of_split(run) if run.split.exists() else "",
        scores={name: scores[name].value if name in scores else None for name in names},
    )


def _name_of_model(run: Run, config: Mapping[str, Any]) -> str:
    with reading(run.config, "the config of a run"):
        return str(config.get("model", {}).get("name", ""))


def _unit_of_split(run: Run) -> str:
    with reading(run.split, "a split written by Gyrus"):
        return str(read_json(run.split)["unit"])


def _data_differences(one: Run, other: Run) -> tuple[str, ...]:
    missing = [str(run.folder) for run in (one, other) if not run.split.exists()]
    if missing:
        return tuple(f"{folder} has no data yet" for folder in missing)
    from gyrus.datasets.manifest import Manifest
    from gyrus.datasets.splits import Split

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
            lines.append(f"{counted(count, 'image is', 'images are')} only in the {name} run")
    for column, words in (("digest", "other pixels"), ("label", "another label"), ("subject", "another subject")):
        pair = [side.loc[shared, column].astype("string").fillna("") for side in sides]
        if changed := int((pair[0] != pair[1]).sum()):
            lines.append(f"{counted(changed, 'image has', 'images have')} the same name, but {words}")
    return lines or ["the images are the same, but their sessions, slices or given subsets differ"]


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
