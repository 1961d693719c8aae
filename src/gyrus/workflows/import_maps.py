"""Import a MAPS, the results folder of ClinicaDL 1.6 or 2.0: its splits, and its predictions evaluated by subject.

MAPS of version 1.6::

    maps.json                                                       settings, with label and label_code
    groups/train/split-0/data.tsv, groups/validation/split-0/data.tsv, groups/<group>/data.tsv
    split-0/best-loss/<group>/<group>_image_level_prediction.tsv    true_label, predicted_label, proba0, proba1 ...

MAPS of version 2.0::

    model.json
    training/data/train/split-0/data.tsv, training/data/validation/split-0/data.tsv
    test/group-<group>/data.tsv

Version 2.0 saves scores per image, but no predictions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gyrus.datasets.sources.caps import PARTICIPANT, SESSION
from gyrus.datasets.sources.table import read_table
from gyrus.datasets.text_tables import write_csv
from gyrus.errors import ConfigError, DataError, LeakageError
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.metrics import headline_metrics
from gyrus.evaluation.result import Evaluation
from gyrus.files import new_folder, read_json, reading
from gyrus.inference.predictions import Predictions
from gyrus.text import counted, listed
from gyrus.types import SUBSET_TITLES, Subset

KEYS = [PARTICIPANT, SESSION]

_SELECTED = "its epoch was selected on these subjects ({}), so these scores are optimistic"


@dataclass(frozen=True)
class ImportedMaps:
    """What was imported from a MAPS.

    Attributes:
        folder: Where it was written: ``split-<n>.tsv``, ``predictions/*.csv`` and ``metrics/*.json``.
        version: "1" or "2": the form of the MAPS.
        splits: The number of subjects of each subset, by the name of the split.
        evaluations: The scores of each table of predictions, by its name.
        notes: What differs from Gyrus, and what is missing.
    """

    folder: Path
    version: str
    splits: Mapping[str, Mapping[Subset, int]]
    evaluations: Mapping[str, Evaluation]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """A summary for the terminal."""
        lines = [f"MAPS of ClinicaDL {self.version}: {counted(len(self.splits), 'split')}"]
        for name, sizes in self.splits.items():
            sets = ", ".join(f"{counted(sizes[each], 'subject')} ({title})" for each, title in SUBSET_TITLES.items())
            lines.append(f"  {name}: {sets}")
        for name, evaluation in self.evaluations.items():
            scores = evaluation.scores["subject"].metrics
            titles = headline_metrics(ordered=evaluation.target.is_ordered)
            shown = [f"{title} {scores[metric].text()}" for metric, title in titles.items()]
            lines.append(f"  {name}: {', '.join(shown)}")
        return "\n".join([*lines, *(f"Note: {note}." for note in self.notes)])


@dataclass(frozen=True)
class _Maps:
    """The tables of a MAPS, read; the same for both forms."""

    version: str
    splits: Mapping[str, Mapping[str, pd.DataFrame]]  # by split, then train and validation
    groups: Mapping[str, pd.DataFrame]  # test groups
    predictions: tuple[_Table, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Table:
    """A table of predictions."""

    split: str
    selection: str
    group: str
    predictions: Predictions


def import_maps(maps: str | Path, *, out: str | Path, labels: str | Path | None = None) -> ImportedMaps:
    """Import a MAPS of ClinicaDL: write its splits and predictions as tables, and evaluate the predictions by subject.

    Args:
        maps: The folder, with ``maps.json`` (ClinicaDL 1) or ``training/`` (ClinicaDL 2).
        out: A new folder.
        labels: A TSV with participant_id, session_id and further columns, which are added to the tables of the splits;
            needed to train on splits of version 2, which hold no labels.

    Raises:
        DataError: The folder is no MAPS, a table is damaged, or no session of ``labels`` is in it.
        ConfigError: The MAPS is not of a classification, or ``out`` is not empty.
        LeakageError: A participant is in two sets of a split.
    """
    folder = Path(maps)
    found = _read_version_1(folder) if (folder / "maps.json").is_file() else _read_version_2(folder)
    tables = {name: _split_table(name, found, labels) for name in found.splits}
    evaluated = {f"{one.split}-{one.selection}-{one.group}": one.predictions for one in found.predictions}
    evaluated |= _out_of_fold(found.predictions)
    evaluations = {name: evaluate(each) for name, each in evaluated.items() if each.table["target"].notna().any()}
    selections = sorted({one.selection for one in found.predictions if one.group == "validation"})
    notes = [*found.notes, *([f"validation: {_SELECTED.format(', '.join(selections))}"] if selections else [])]
    with new_folder(Path(out)) as place:
        for name, table in tables.items():
            write_csv(table, place / f"{name}.tsv", separator="\t")
        for name, predictions in evaluated.items():
            (place / "predictions").mkdir(exist_ok=True)
            (place / "metrics").mkdir(exist_ok=True)
            predictions.export(place / "predictions" / f"{name}.csv")
            if name in evaluations:
                evaluations[name].save(place / "metrics" / f"{name}.json")
    sizes = {
        name: {subset: table.loc[table["subset"] == subset, PARTICIPANT].nunique() for subset in SUBSET_TITLES}
        for name, table in tables.items()
    }
    return ImportedMaps(Path(out), found.version, sizes, evaluations, tuple(notes))


def _read_version_1(folder: Path) -> _Maps:
    """The tables of a MAPS with a ``maps.json``; before version 1.3 splits were called folds.

    Raises:
        DataError: A file is missing or damaged.
        ConfigError: The task is no classification.
    """
    with reading(folder / "maps.json", "the settings of ClinicaDL"):
        settings: dict[str, Any] = read_json(folder / "maps.json")
        task = settings.get("network_task", "classification")
        classes = _classes(settings) if task == "classification" else []
    if task != "classification":
        raise ConfigError(f"{folder} is the MAPS of a {task}; Gyrus imports those of a classification.")
    splits = {
        place.name.replace("fold-", "split-"): {
            group: _sessions(folder / "groups" / group / place.name / "data.tsv") for group in ("train", "validation")
        }
        for place in _numbered(folder / "groups" / "train")
    }
    groups = {
        place.name: _sessions(place / "data.tsv")
        for place in sorted((folder / "groups").iterdir())
        if place.is_dir() and place.name not in ("train", "validation")
    }
    tables = []
    for split in _numbered(folder):
        for best in sorted(split.glob("best-*")):
            for group in ("validation", *groups):
                if file := _predictions_file(best / group, group, settings.get("mode", "image")):
                    name = split.name.replace("fold-", "split-")
                    tables.append(_Table(name, best.name, group, _predictions(file, classes, group)))
    notes = [] if tables else [f"there are no predictions of images in {folder}"]
    if settings.get("mode", "image") != "image":
        mode = settings["mode"]
        notes.append(f"probabilities of images are those that ClinicaDL made of its {mode} level, weighted by accuracy")
    return _Maps("1", splits, groups, tuple(tables), tuple(notes))


def _classes(settings: Mapping[str, Any]) -> list[str]:
    """The class of each output."""
    code = {int(number): str(name) for name, number in settings["label_code"].items()}
    return [code[number] for number in range(len(code))]


def _numbered(folder: Path) -> list[Path]:
    """The folders split-0, split-1 ..., in order."""
    found = [place for place in folder.glob("*-*") if re.fullmatch(r"(split|fold)-\d+", place.name)]
    return sorted(found, key=lambda place: int(place.name.rpartition("-")[2]))


def _predictions_file(folder: Path, group: str, mode: str) -> Path | None:
    files = [folder / f"{group}_{level}_level_prediction.tsv" for level in ("image", mode)]
    return next((file for file in files if file.is_file()), None)


def _predictions(file: Path, classes: Sequence[str], group: str) -> Predictions:
    """The predictions of a table of ClinicaDL, one row per image, or per slice, patch or region.

    Raises:
        DataError: It is damaged.
    """
    with reading(file, "a table of predictions of ClinicaDL"):
        table = pd.read_csv(file, sep="\t", dtype={PARTICIPANT: "str", SESSION: "str"})
        probabilities = table[[f"proba{number}" for number in range(len(classes))]].to_numpy(np.float64)
        targets = [classes[int(number)] if number >= 0 else None for number in table["true_label"]]
        samples = (table[PARTICIPANT] + "/" + table[SESSION]).to_list()
        parts = next((name for name in ("image_id", "slice_id", "patch_id", "roi_id") if name in table), None)
    if parts and len(set(samples)) < len(samples):
        samples = [f"{sample}/{part}" for sample, part in zip(samples, table[parts], strict=True)]
    subjects = table[PARTICIPANT].to_list()
    of_visits = None
    if (pd.Series(targets).groupby(table[PARTICIPANT]).nunique() > 1).any():
        subjects, of_visits = [f"{name}, visit {visit}" for name, visit in table[KEYS].to_numpy()], subjects
    return Predictions.from_logits(
        samples,
        np.log(np.clip(probabilities, np.finfo(np.float64).tiny, 1)),
        classes=classes,
        split_unit="subject",
        subset="val" if group == "validation" else group,
        subjects=subjects,
        targets=targets,
        subjects_of_visits=of_visits,
    )


def _out_of_fold(tables: Sequence[_Table]) -> dict[str, Predictions]:
    """The validation sets of all splits together, where each participant is in one of them."""
    together: dict[str, Predictions] = {}
    for selection in sorted({one.selection for one in tables}):
        parts = [one.predictions for one in tables if (one.selection, one.group) == (selection, "validation")]
        table = pd.concat([part.table for part in parts], ignore_index=True) if len(parts) > 1 else None
        if table is not None and not any(
            set(one.independent_units) & set(other.independent_units) for one, other in combinations(parts, 2)
        ):
            together[f"all-splits-{selection}-validation"] = Predictions.from_table(
                table, classes=parts[0].classes, split_unit="subject", subset="val"
            )
    return together


def _read_version_2(folder: Path) -> _Maps:
    """The tables of a MAPS of version 2.

    Raises:
        DataError: It is no MAPS, or a table is missing or damaged.
    """
    data = folder / "training" / "data"
    splits = {
        place.name: {group: _with_columns_of_dataset(data / group / place.name) for group in ("train", "validation")}
        for place in _numbered(data / "train")
    }
    if not splits:
        raise DataError(f"{folder} is no MAPS of ClinicaDL: it has neither maps.json nor training/data/train/split-*.")
    groups = {
        place.name.removeprefix("group-"): _with_columns_of_dataset(place)
        for kind in ("test", "prediction")
        for place in sorted((folder / kind).glob("group-*"))
    }
    note = (
        "ClinicaDL 2 saves no predictions of images; its splits can be used to train, and its scores are in its folder"
    )
    return _Maps("2", splits, groups, notes=(note,))


def _with_columns_of_dataset(folder: Path) -> pd.DataFrame:
    """The sessions of a set, with the columns that ``dataset.json`` holds of them."""
    sessions = _sessions(folder / "data.tsv")
    try:
        columns = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["data"]
        further = pd.DataFrame(columns).astype(dict.fromkeys(KEYS, "str")).drop(columns="n_samples", errors="ignore")
        return sessions[KEYS].merge(further.drop_duplicates(KEYS), on=KEYS, how="left")
    except (OSError, KeyError, TypeError, ValueError):  # a path, or another kind of data set
        return sessions


def _sessions(file: Path) -> pd.DataFrame:
    """The participants and sessions of a set, and further columns.

    Raises:
        DataError: The table is missing, damaged, or lacks the columns.
    """
    if not file.is_file():
        raise DataError(f"{file} is missing, so the split of the MAPS is unknown.")
    table, _ = read_table(file)
    for name in KEYS:
        if name not in table:
            raise DataError(f"{file} has no column {name}; it has {', '.join(map(str, table.columns))}.")
    unnamed = [name for name in table if str(name).startswith("Unnamed") or not str(name).strip()]
    return table.drop(columns=[*unnamed, *({"cohort"} & set(table))]).astype(dict.fromkeys(KEYS, "str"))


def _split_table(name: str, maps: _Maps, labels: str | Path | None) -> pd.DataFrame:
    """The sessions of a split with their subset: those of all test groups are the test set.

    Raises:
        DataError: No session is in the table of labels.
        LeakageError: A participant is in two sets.
    """
    sets = {"train": [maps.splits[name]["train"]], "val": [maps.splits[name]["validation"]]}
    sets["test"] = list(maps.groups.values())
    parts = [part.assign(subset=subset) for subset, found in sets.items() for part in found]
    table = pd.concat(parts, ignore_index=True).drop_duplicates([*KEYS, "subset"])
    several = table.groupby(PARTICIPANT)["subset"].nunique()
    shared = sorted(map(str, several[several > 1].index))
    if shared:
        raise LeakageError(
            f"{counted(len(shared), 'participant is', 'participants are')} in two sets of {name}: {listed(shared)}. "
            "Scores on such sets are inflated.",
            shared,
        )
    if labels is None:
        return table
    further, _ = read_table(Path(labels))
    missing = [key for key in KEYS if key not in further]
    if missing:
        raise DataError(f"{labels} has no column {missing[0]}; it has {', '.join(map(str, further.columns))}.")
    further = further.astype(dict.fromkeys(KEYS, "str")).drop(columns=[each for each in ["subset"] if each in further])
    joined = table[[*KEYS, "subset"]].merge(further, on=KEYS, how="inner")
    if joined.empty:
        raise DataError(f"No session of {name} is in {labels}.")
    return joined
