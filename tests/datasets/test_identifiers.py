from __future__ import annotations

import pytest

from gyrus.datasets.identifiers import (
    comparable,
    comparable_label,
    examples,
    match_identifiers,
    spelling_note,
    unify_spellings,
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0007", "7"),
        ("12", "12.0"),
        ("12.00", "012"),
        ("sub-001", "SUB-1"),
        (" a  b ", "A b"),
        ("ses-M000", "ses-m0"),
        ("006_S_6677", "6_s_6677"),
        ("ｐ１", "p1"),
    ],
)
def test_the_same_id_in_another_spelling_compares_equal(one: str, other: str) -> None:
    assert comparable(one) == comparable(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("70", "7"),
        ("1.05", "1.5"),
        ("1.2.840", "1.2.840.0"),
        ("12.5", "12"),
        ("a-1", "a1"),
        ("p1_01", "p10_1"),
        ("0", ""),
    ],
)
def test_different_ids_stay_different(one: str, other: str) -> None:
    assert comparable(one) != comparable(other)


def test_class_names_compare_with_underscores_as_spaces() -> None:
    assert comparable_label("Mild_Demented ") == comparable_label("mild  demented")
    assert comparable_label("amyloid-") != comparable_label("amyloid+")
    assert comparable_label("grade 1") != comparable_label("grade -1")


def test_the_spelling_kept_is_the_preferred_the_most_frequent_or_the_longest() -> None:
    assert unify_spellings(["7", "7", "007"]) == {"007": "7"}
    assert unify_spellings(["7", "007"]) == {"7": "007"}
    assert unify_spellings(["ad", "ad", "AD"], preferred=["AD"]) == {"ad": "AD"}
    assert unify_spellings(["ad", "AD"], preferred=["AD", "ad"]) == {}
    assert unify_spellings(["a", "b"]) == {}
    assert spelling_note({"7": "007"}, "names of subjects").endswith("are the same: '7' as '007'")


def test_ids_are_found_by_their_spelling_first() -> None:
    match = match_identifiers(["7", "08", "x"], ["007", "7", "8", "y"])

    assert match.found == {"7": "7", "08": "8"}
    assert match.spelled_otherwise == {"08": "8"}
    assert (match.missing, match.unused) == (("x",), ("007", "y"))
    assert examples(["a", "b", "c", "d"]) == "'a', 'b', 'c' and 1 more"
