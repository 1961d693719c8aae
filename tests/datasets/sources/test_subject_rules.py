from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyrus.datasets.sources.subject_rules import SUBJECT_RULES, subjects_from_names
from gyrus.errors import ConfigError, DataError, UnknownNameError

READINGS = [
    ("bids", "sub-017_ses-1_T1w_slice-042.png", ("sub-017", "ses-1", 42)),
    ("bids", "AD/sub-A01/sub-A01_T1w.png", ("sub-A01", None, None)),
    ("bids", "sub-01_slice-000.jpg", ("sub-01", None, 0)),
    ("bids", "sub-01_ses-m12_acq-x_slice-7_T1w.png", ("sub-01", "ses-m12", 7)),
    ("adni", "006_S_6677_MR_Axial_2D_PASL_Br_20201223_S974352_I1379911_34.jpg", ("006_S_6677", "S974352_I1379911", 34)),
    ("adni", "CN/ADNI_941_S_10001_MR_MPRAGE_br_raw_20180101_12_S1_I22.png", ("941_S_10001", "S1_I22", None)),
    ("adni", "006_S_6677_MR_T1_S123456_I654321.png", ("006_S_6677", "S123456_I654321", None)),
    ("adni", "006_S_6677_MR_T1_I654321.png", ("006_S_6677", "I654321", None)),
    ("adni", "006_S_6677.png", ("006_S_6677", None, None)),
    ("oasis", "OAS1_0028_MR1_mpr-1_100.jpg", ("OAS1_0028", "MR1_mpr-1", 100)),
    ("oasis", "OAS2_0001_MR2_45.png", ("OAS2_0001", "MR2", 45)),
    ("oasis", "OAS1_0001_MR1_mpr_n4_anon_111_t88_gfc_95.png", ("OAS1_0001", "MR1", 95)),
    ("oasis", "OAS30001_MR_d0129_12.png", ("OAS30001", "MR_d0129", 12)),
    ("id-slice", "388206_78.jpeg", ("388206", "388206", 78)),
    ("id-slice", "images/S002_00.jpg", ("S002", "S002", 0)),
    ("id-slice", "TCGA_CS_5397_007.png", ("TCGA_CS_5397", "TCGA_CS_5397", 7)),
]


@pytest.mark.parametrize(("rule", "name", "expected"), READINGS)
def test_a_rule_reads_names_as_documented(rule: str, name: str, expected: tuple[str, str | None, int | None]) -> None:
    names = subjects_from_names([name], ["AD"], rule=rule)

    assert (names.subjects[0], names.sessions[0], names.slices[0]) == expected
    assert names.kind == SUBJECT_RULES[rule].kind
    assert names.rule == rule


@pytest.mark.parametrize("rule", SUBJECT_RULES)
def test_the_example_of_a_rule_is_read_by_it(rule: str) -> None:
    assert subjects_from_names([SUBJECT_RULES[rule].example], [None], rule=rule).subjects[0]


@pytest.mark.parametrize(("rule", "name"), [(rule, name) for rule, name, _ in READINGS if rule != "id-slice"])
def test_subject_rules_are_recognised_automatically(rule: str, name: str) -> None:
    assert subjects_from_names([name, name], ["AD", "NC"]).rule == rule


def test_the_scan_rule_is_recognised_where_scans_have_several_slices() -> None:
    names = [
        f"{label}/{scan}_{slice_}.jpeg" for label in "ab" for scan in (f"{label}1", f"{label}2") for slice_ in (1, 2)
    ]

    found = subjects_from_names(names, [name[0] for name in names])

    assert (found.rule, found.kind) == ("id-slice", "scan")
    assert found.sessions == found.subjects


IMPLAUSIBLE = {
    "the class and a number": [f"{label}/{label}Dem_{number}.jpg" for label in ("mild", "non") for number in range(9)],
    "one class has one name": ["a/x_1.png", "a/x_2.png", "a/y_1.png", "a/y_2.png", "b/b_1.png", "b/b_2.png"],
    "every picture has its own": [f"{label}/{number}{label}_1.png" for label in "ab" for number in range(9)],
    "one name does not fit": ["a/1_1.png", "a/1_2.png", "a/2_1.png", "a/2_2.png", "a/other.png"],
    "mixed conventions": ["a/sub-1_slice-1.png", "a/OAS1_0001_MR1_1.png"],
}


@pytest.mark.parametrize("case", IMPLAUSIBLE)
def test_implausible_subjects_are_not_recognised(case: str) -> None:
    names = IMPLAUSIBLE[case]

    found = subjects_from_names(names, [name.split("/")[0] for name in names])

    assert (found.rule, found.kind) == ("none", "unknown")
    assert set(found.subjects) == {None}


def test_the_rule_none_gives_no_subjects() -> None:
    assert subjects_from_names(["sub-01.png"], [None], rule="none").kind == "unknown"


def test_a_pattern_is_searched_in_the_path_below_the_root() -> None:
    found = subjects_from_names(
        ["AD/patient 7/baseline/12.png"],
        ["AD"],
        pattern=r"patient (?P<subject>\d+)/(?P<session>\w+)/(?P<slice>\d+)",
    )

    assert (found.subjects, found.sessions, found.slices) == (["7"], ["baseline"], [12])
    assert found.kind == "subject"
    assert found.rule.startswith("pattern patient")


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(?P<subject>", "not a regular expression"),
        (r"(\d+)", "it has none"),
        (r"(?P<person>\d+)", r"it has \['person'\]"),
        (r"(?P<subject>\d)(?P<visit>\d)", "may have"),
    ],
)
def test_an_invalid_pattern_is_refused(pattern: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        subjects_from_names(["1.png"], ["AD"], pattern=pattern)


def test_names_that_do_not_fit_are_counted_and_the_first_shown() -> None:
    with pytest.raises(DataError, match=r"does not fit 4 of 5 names.*x0\.png, x1\.png, x2\.png\."):
        subjects_from_names([*(f"x{i}.png" for i in range(4)), "7.png"], [None] * 5, pattern=r"^(?P<subject>\d+)")


def test_an_empty_subject_does_not_fit() -> None:
    with pytest.raises(DataError, match="does not fit 1 of 1"):
        subjects_from_names(["x.png"], [None], pattern=r"(?P<subject>\d*)")


def test_a_slice_that_is_not_a_number_is_named() -> None:
    with pytest.raises(DataError, match=r"reads 'b' as the slice of a_b\.png"):
        subjects_from_names(["a_b.png"], [None], pattern=r"(?P<subject>a)_(?P<slice>\w)")


def test_a_misspelt_rule_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'adni'"):
        subjects_from_names(["x"], [None], rule="adny")


def test_rule_and_pattern_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="not both"):
        subjects_from_names(["x"], [None], rule="bids", pattern="(?P<subject>x)")


@given(st.text(st.sampled_from("sub-OAS1_0ADNIMRxé .1"), max_size=60))
def test_rules_are_fast_on_any_name(name: str) -> None:
    for rule in SUBJECT_RULES.values():
        re.compile(rule.pattern).fullmatch(name * 4)


@pytest.mark.parametrize("rule", SUBJECT_RULES)
@pytest.mark.parametrize("part", ["sub-1_", "_slice-1", "a_", "1_", "006_S_6677_S1_", "OAS1_0001_MR1_", "-", "S1_I1"])
def test_a_long_name_is_read_or_refused(rule: str, part: str) -> None:
    """A pattern that backtracks without bounds would not end on these names."""
    name = SUBJECT_RULES[rule].example.split(".")[0] + part * 2000 + "!"
    try:
        (subject,) = subjects_from_names([f"{name}.png"], ["AD"], rule=rule).subjects
    except DataError:
        return
    assert subject is not None
    assert subject in name
