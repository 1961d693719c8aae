from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gyrus.datasets.scan import scan
from gyrus.datasets.sources.bids import entities_of
from gyrus.errors import ConfigError, DataError
from gyrus.imaging.orientation import affine_from_slices, array_from_slices
from tests.support.heads import nifti


def _slices(subject: str) -> np.ndarray:
    return np.random.default_rng(int(subject[-1])).integers(0, 2000, (5, 6, 7)).astype(np.uint16)


def _nifti(subject: str, path: Path) -> None:
    nifti(array_from_slices(_slices(subject)), path, affine_from_slices((3.0, 2.0, 1.5), (5, 6, 7)))


@pytest.fixture
def visits(tmp_path):
    """Two subjects with two sessions of T1w and FLAIR each, a derivative of the first, and a diagnosis per session."""
    for subject in ("sub-1", "sub-2"):
        for session in ("ses-01", "ses-02"):
            for suffix in ("T1w", "FLAIR"):
                _nifti(subject, tmp_path / subject / session / "anat" / f"{subject}_{session}_run-1_{suffix}.nii.gz")
        folder = tmp_path / "derivatives" / "stripped" / subject / "ses-01" / "anat"
        _nifti(subject, folder / f"{subject}_ses-01_desc-brain_T1w.nii.gz")
        label = "NC" if subject == "sub-1" else "AD"
        table = pd.DataFrame({"session_id": ["ses-01", "ses-02"], "diagnosis": label})
        table.to_csv(tmp_path / subject / f"{subject}_sessions.tsv", sep="\t", index=False)
    participants = pd.DataFrame({"participant_id": ["1", "2"], "sex": ["F", "M"], "site": ["a", "n/a"]})
    participants.to_csv(tmp_path / "participants.tsv", sep="\t", index=False)
    return tmp_path


def test_several_suffixes_need_a_choice(visits):
    with pytest.raises(DataError, match=r"2 suffixes: FLAIR, T1w\. Select with --bids suffix=T1w"):
        scan(visits)
    manifest = scan(visits, bids={"suffix": "T1w"})
    assert manifest.table["session"].tolist() == ["ses-01", "ses-02"] * 2
    assert manifest.table["label"].tolist() == ["NC", "NC", "AD", "AD"]
    assert manifest.table["sex"].tolist() == ["F", "F", "M", "M"]


@pytest.mark.parametrize(
    ("asked", "count"),
    [
        ({"suffix": "T1w", "ses": "1"}, 2),
        ({"suffix": "T1w", "ses": "ses-02"}, 2),
        ({"suffix": "T1w,FLAIR"}, 8),
        ({"suffix": "T1w", "sub": "2"}, 2),
        ({"derivatives": "stripped", "desc": "brain"}, 2),
    ],
)
def test_entities_select_volumes(visits, asked, count):
    assert len(scan(visits, bids=asked)) == count


def test_labels_of_subjects_or_of_sessions(visits):
    assert set(scan(visits, bids={"suffix": "T1w"}, columns={"label": "sex"}).classes) == {"F", "M"}
    with pytest.raises(ConfigError, match="There is no column 'grade'"):
        scan(visits, bids={"suffix": "T1w"}, columns={"label": "grade"})


def test_unknown_entities_and_empty_results_are_refused(visits):
    with pytest.raises(ConfigError, match=r"no entity 'sufix'\. Did you mean 'suffix'"):
        scan(visits, bids={"sufix": "T1w"})
    with pytest.raises(DataError, match="matches suffix=bold"):
        scan(visits, bids={"suffix": "bold"})
    with pytest.raises(DataError, match="nothing does not exist"):
        scan(visits, bids={"derivatives": "nothing"})


def test_names_are_parsed_as_bids_defines_them():
    assert entities_of("sub-01_ses-a_acq-highres_run-2_desc-brain_T1w.nii.gz") == {
        **{"sub": "01", "ses": "a", "acq": "highres", "run": "2", "desc": "brain"},
        **{"suffix": "T1w", "extension": ".nii.gz"},
    }
    assert entities_of("T1w.nii.gz") == entities_of("sub-01.nii.gz") == entities_of("sub-01_T1w.png") == {}


def _bids(root, folders, participants):
    """A volume for each folder ``sub[/ses]``, and participants.tsv."""
    for folder in folders:
        name = folder.replace("/", "_")
        _nifti(f"sub-{len(name)}", root / folder / "anat" / f"{name}_T1w.nii.gz")
    participants.to_csv(root / "participants.tsv", sep="\t", index=False)
    return root


def test_ids_that_differ_in_padding_are_joined_with_a_note(tmp_path):
    participants = pd.DataFrame({"participant_id": ["sub-01", "2", "SUB-3"], "group": ["HC", "AD", "AD"]})
    manifest = scan(_bids(tmp_path, ["sub-001", "sub-002", "sub-003", "sub-004"], participants))

    assert manifest.table["label"].tolist() == ["HC", "AD", "AD"]
    assert manifest.table["subject"].tolist() == ["sub-001", "sub-002", "sub-003"]
    assert [problem.kind for problem in manifest.problems] == ["label missing"]
    assert "'sub-001' is 'sub-01' there" in manifest.notes[0]
    assert "subjects that are not in participants.tsv (1): 'sub-004'" in manifest.notes[1]


def test_a_join_that_fails_shows_ids_of_both_sides(tmp_path):
    participants = pd.DataFrame({"participant_id": ["sub-A", "sub-B"], "group": ["HC", "AD"]})
    with pytest.raises(DataError, match=r"Ids there: 'sub-A', 'sub-B'; folders: 'sub-1', 'sub-2'"):
        scan(_bids(tmp_path, ["sub-1", "sub-2"], participants))


def test_labels_of_visits_in_participants(tmp_path):
    rows = {"participant_id": ["1", "1", "2", "2"], "session_id": ["M0", "M12"] * 2, "age": [70, 71, 60, 61]}
    participants = pd.DataFrame({**rows, "group": ["MCI", "AD", "HC", "HC"]})
    root = _bids(tmp_path, ["sub-1/ses-M00", "sub-1/ses-M12", "sub-2/ses-M00", "sub-2/ses-M12"], participants)

    manifest = scan(root, label_changes="each")

    assert manifest.table["label"].tolist() == ["MCI", "AD", "HC", "HC"]
    assert manifest.table["age"].tolist() == [70, 71, 60, 61]
    assert scan(root, label_changes="last").table["label"].tolist() == ["AD", "AD", "HC", "HC"]
    assert scan(root, label_changes="last").classes == ("AD", "HC")


def test_visits_of_a_table_without_visits_in_the_files(tmp_path):
    rows = {"participant_id": ["1", "1", "2", "2"], "session_id": ["M0", "M12"] * 2, "age": [70, 71, 60, 60]}
    root = _bids(tmp_path, ["sub-1", "sub-2"], pd.DataFrame({**rows, "group": ["AD", "AD", "HC", "HC"]}))
    manifest = scan(root)
    assert manifest.table["label"].tolist() == ["AD", "HC"]
    assert manifest.table["age"].isna().tolist() == [True, False]  # the age at an unknown visit is unknown

    pd.DataFrame({**rows, "group": ["MCI", "AD", "HC", "HC"]}).to_csv(root / "participants.tsv", sep="\t", index=False)
    with pytest.raises(DataError, match="2 rows of 'sub-1' with different labels"):
        scan(root)
    assert scan(root, label_changes="baseline").table["label"].tolist() == ["MCI", "HC"]


def test_sessions_that_differ_in_padding_are_joined(visits):
    for subject in ("sub-1", "sub-2"):
        table = pd.DataFrame({"session_id": ["ses-1", "ses-002"], "diagnosis": "NC" if subject == "sub-1" else "AD"})
        table.to_csv(visits / subject / f"{subject}_sessions.tsv", sep="\t", index=False)
    assert scan(visits, bids={"suffix": "T1w"}).table["label"].tolist() == ["NC", "NC", "AD", "AD"]

    for subject in ("sub-1", "sub-2"):
        table = pd.DataFrame({"session_id": ["ses-x", "ses-y"], "diagnosis": ["NC", "NC"]})
        table.to_csv(visits / subject / f"{subject}_sessions.tsv", sep="\t", index=False)
    with pytest.raises(DataError, match=r"Visits there: 'x', 'y'; folders: 'ses-01', 'ses-02'"):
        scan(visits, bids={"suffix": "T1w"})
