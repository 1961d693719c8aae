from __future__ import annotations

import math

import pytest

from gyrus.errors import GyrusError, UnknownNameError
from gyrus.files import atomic_path, digest, read_json, write_json, write_text
from gyrus.registry import look_up


def test_a_failed_write_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "notes.txt"
    write_text(path, "old")

    def fail() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        fail()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["notes.txt"]


def test_a_folder_that_is_a_file_is_told_in_words(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(GyrusError, match="Cannot write"):
        write_text(tmp_path / "file" / "notes.txt", "x")


def test_json_has_null_for_nan_and_reads_back(tmp_path):
    write_json(tmp_path / "a.json", {"x": math.nan, "y": [1.5, (2, math.nan)], "ü": "ß"})
    assert read_json(tmp_path / "a.json") == {"x": None, "y": [1.5, [2, None]], "ü": "ß"}


@pytest.mark.parametrize("content", [None, "{"])
def test_a_missing_or_broken_json_is_told_in_words(tmp_path, content):
    if content:
        (tmp_path / "a.json").write_text(content)
    with pytest.raises(GyrusError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_digests_ignore_the_order_of_keys_only():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": [1, 2]}) != digest({"a": [2, 1]})


def test_a_wrong_name_gets_the_nearest_and_the_list():
    with pytest.raises(UnknownNameError, match="Did you mean 'cosine'\\? Known: constant, cosine"):
        look_up("cosin", {"constant": 1, "cosine": 2}, "schedule")
