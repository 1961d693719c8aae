"""Write a table of predictions as BIDS derivatives: one table per subject and session, and the descriptions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from gyrus.datasets.sources.bids import entities_of
from gyrus.datasets.text_tables import write_csv
from gyrus.errors import DataError
from gyrus.extras import DISTRIBUTION
from gyrus.files import new_folder, write_json
from gyrus.inference.predictions import LOGIT, PROBABILITY, read_table, require_columns
from gyrus.runs.run_folder import installed_version

BIDS_VERSION = "1.10.1"

SUFFIX = "predictions"

_MEANINGS = {
    "source": "Image that was predicted: its path below the folder of sources, or as it was given",
    "target": "True class or number, where it was known",
    "predicted": "Class with the highest probability",
    "prediction": "Predicted number",
}


def export_bids(table: str | Path, out: str | Path, *, sources: str | Path | None = None) -> list[Path]:
    """Write a table of predictions as a data set of BIDS derivatives.

    Args:
        table: A table of ``gyrus predict``, or of another tool: with ``sample`` and, if the names of the samples are
            not those of BIDS, ``subject``.
        out: A new folder, such as ``bids/derivatives/gyrus``.
        sources: The BIDS data set of the images; paths are written relative to it.

    Returns:
        The tables, ``sub-<label>/[ses-<label>/]sub-<label>[_ses-<label>]_predictions.tsv``.

    Raises:
        DataError: The table cannot be read, the subject of a sample is unknown, or two would have the same label.
    """
    rows = read_table(Path(table))
    require_columns(rows, ["sample"])
    places = [_place(row) for row in rows.to_dict("records")]
    _require_one_name(rows, places)
    root = None if sources is None else Path(sources).absolute()
    columns = {
        name: rows[name] for name in rows if name not in ("sample", "subject") and not str(name).startswith(LOGIT)
    }
    content = pd.DataFrame({"source": [_source(str(name), root) for name in rows["sample"]], **columns})
    written = []
    with new_folder(Path(out)) as folder:
        write_json(folder / "dataset_description.json", _description(root))
        write_json(folder / f"{SUFFIX}.json", {str(name): {"Description": _meaning(str(name))} for name in content})
        for place, part in content.groupby(pd.Series(places)):
            names = str(place).split("/")
            file = folder.joinpath(*names, f"{'_'.join(names)}_{SUFFIX}.tsv")
            file.parent.mkdir(parents=True, exist_ok=True)
            write_csv(part, file, separator="\t", missing="n/a")
            written.append(file.relative_to(folder))
    return [Path(out) / file for file in sorted(written)]


def _place(row: Mapping[Any, Any]) -> str:
    """The folders of a sample, as "sub-01/ses-a": of the entities of its name, else of its subject.

    Raises:
        DataError: Neither names a subject.
    """
    # A slice of a volume is named a/sub-01_T1w.nii.gz#axial-10.
    found = entities_of(str(row["sample"]).partition("#")[0].replace("\\", "/").rpartition("/")[2])
    if "sub" in found:
        return f"sub-{found['sub']}" + (f"/ses-{found['ses']}" if "ses" in found else "")
    subject = row.get("subject")
    label = (
        "" if subject is None or pd.isna(subject) else re.sub(r"[^A-Za-z0-9]", "", str(subject).removeprefix("sub-"))
    )
    if not label:
        raise DataError(
            f"The subject of '{row['sample']}' is unknown: its name has no entity sub-, and the table has no column "
            "'subject' with a name of letters or digits. Add the column."
        )
    return f"sub-{label}"


def _require_one_name(rows: pd.DataFrame, places: list[str]) -> None:
    """Refuse subjects that BIDS, whose labels have only letters and digits, could not tell apart.

    Raises:
        DataError: There are two.
    """
    if "subject" not in rows:
        return
    labels = [place.partition("/")[0] for place in places]
    for _, names in rows["subject"].dropna().astype(str).groupby(pd.Series(labels)):
        different = sorted(set(names))
        if len(different) > 1:
            raise DataError(f"'{different[0]}' and '{different[1]}' would have the same label in BIDS. Rename one.")


def _source(sample: str, root: Path | None) -> str:
    path = Path(sample)
    return path.relative_to(root).as_posix() if root is not None and path.is_relative_to(root) else sample


def _meaning(name: str) -> str:
    if name.startswith(PROBABILITY):
        return f"Probability of the class {name.removeprefix(PROBABILITY)}"
    if name.startswith("quantile:"):
        return f"Predicted quantile {name.removeprefix('quantile:')} of the number"
    return _MEANINGS.get(name, "Further column of the table of predictions of Gyrus, under its name there")


def _description(root: Path | None) -> dict[str, Any]:
    about: dict[str, Any] = {
        "Name": "Predictions of Gyrus",
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "gyrus", "Version": str(installed_version(DISTRIBUTION))}],
    }
    return about if root is None else {**about, "SourceDatasets": [{"URL": root.as_uri()}]}
