from __future__ import annotations

import pytest

from gyrus.datasets.scan import scan
from gyrus.errors import DataError


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def test_each_row_is_a_sample_without_an_image(tmp_path):
    text = "participant_id,diagnosis,age,sex\nsub-1,AD,70,F\nsub-2,CN,,M\nsub-3,CN,65,\nsub-4,,66,M\n"
    manifest = scan(write(tmp_path / "people.csv", text), source="people")
    assert not manifest.has_images
    assert manifest.table["sample"].tolist() == manifest.table["subject"].tolist() == ["sub-1", "sub-2", "sub-3"]
    assert manifest.table["age"].isna().tolist() == [False, True, False]
    assert manifest.classes == ("AD", "CN")
    assert [problem.sample for problem in manifest.problems] == ["sub-4"]  # no label
    assert manifest.digest != scan(write(tmp_path / "people.csv", text.replace("70", "71")), source="people").digest


def test_ids_of_scans_are_read_by_the_rules_for_names(tmp_path):
    text = "ID,CDR,Age\nOAS1_0061_MR1,0,20\nOAS1_0061_MR2,0,20\nOAS1_0062_MR1,1,80\n"
    manifest = scan(write(tmp_path / "oasis.csv", text), source="people", columns={"label": "CDR"})
    assert manifest.table["subject"].tolist() == ["OAS1_0061", "OAS1_0061", "OAS1_0062"]
    assert manifest.table["session"].tolist() == ["MR1", "MR2", "MR1"]


def test_visits_and_rows_without_ids_have_names_of_their_own(tmp_path):
    visits = "subject,visit,label\na,1,x\na,2,x\nb,1,y\n"
    manifest = scan(write(tmp_path / "visits.csv", visits), source="people")
    assert manifest.table["sample"].tolist() == ["a/1", "a/2", "b"]
    nameless = scan(write(tmp_path / "rows.csv", "label,age\nx,1\ny,2\n"), source="people")
    assert nameless.table["subject"].tolist() == ["row-1", "row-2"]
    twice = scan(write(tmp_path / "twice.csv", "subject,label\na,x\na,x\nb,y\n"), source="people")
    assert twice.table["sample"].tolist() == ["a#1", "a#2", "b"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("subject,age\na,1\n", "no column of labels; it has subject, age"),
        ("subject,label\n", "has no rows"),
        ("subject,label\na,x\n,y\n", "1 row without an id in column 'subject', first: row 2"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        scan(write(tmp_path / "people.csv", text), source="people")
