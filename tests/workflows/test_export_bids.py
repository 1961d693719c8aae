"""Predictions as BIDS derivatives."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from gyrus.errors import DataError
from gyrus.workflows.export_bids import export_bids
from tests.support.command_line import succeeded


def write(folder: Path, samples: list[str], **columns: list[object]) -> Path:
    count = len(samples)
    table = {"sample": samples, "predicted": ["AD"] * count, "probability:AD": [0.75] * count}
    file = folder / "predictions.csv"
    pd.DataFrame({**table, **columns}).to_csv(file, index=False)
    return file


def test_each_session_gets_a_table_with_descriptions(tmp_path):
    bids = tmp_path / "bids"
    names = [
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_T1w.nii.gz",
        "sub-2/anat/sub-2_T1w.nii",
    ]
    table = write(tmp_path, [str(bids / name) for name in names], target=["CN", None, "AD"])
    out = bids / "derivatives" / "gyrus"
    text = succeeded("export", "bids", table, "--out", out, "--sources", bids)
    assert "3 tables of predictions" in text
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.tsv"))
    assert files == [
        "sub-01/ses-a/sub-01_ses-a_predictions.tsv",
        "sub-01/ses-b/sub-01_ses-b_predictions.tsv",
        "sub-2/sub-2_predictions.tsv",
    ]
    second = pd.read_csv(out / files[1], sep="\t", keep_default_na=False)
    assert second.to_dict("records") == [
        {"source": names[1], "predicted": "AD", "probability:AD": 0.75, "target": "n/a"}
    ]
    about = json.loads((out / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative"
    assert about["GeneratedBy"][0]["Name"] == "gyrus"
    columns = json.loads((out / "predictions.json").read_text())
    assert columns["probability:AD"] == {"Description": "Probability of the class AD"}
    assert set(columns) == set(second.columns)


def test_slices_and_other_names_go_to_their_subject(tmp_path):
    table = write(tmp_path, ["a/sub-01_T1w.nii.gz#axial-10", "x.png", "y.png"], subject=["sub-01", "OAS_1", "OAS_1"])
    written = export_bids(table, tmp_path / "out")
    assert [path.name for path in written] == ["sub-01_predictions.tsv", "sub-OAS1_predictions.tsv"]
    assert list(pd.read_csv(written[1], sep="\t")["source"]) == ["x.png", "y.png"]


def test_subjects_whose_names_become_one_label_are_refused(tmp_path):
    table = write(tmp_path, ["x.png", "y.png"], subject=["OAS_1", "OAS1"])
    with pytest.raises(DataError, match="'OAS1' and 'OAS_1'"):
        export_bids(table, tmp_path / "out")


def test_an_unknown_subject_stops_it_before_anything_is_written(tmp_path):
    with pytest.raises(DataError, match=r"subject of 'x\.png' is unknown"):
        export_bids(write(tmp_path, ["x.png"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()
