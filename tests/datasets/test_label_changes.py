from __future__ import annotations

import pandas as pd
import pytest

from gyrus.datasets.label_changes import LabelChanges, settle_labels, visit_order
from gyrus.errors import DataError


def _rows(*rows: tuple[str, str | None, str]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["subject", "session", "label"])
    return table.assign(sample=[f"{number}.png" for number in range(len(rows))])


CONVERTER = _rows(("a", "M12", "AD"), ("a", "bl", "MCI"), ("a", "M06", "MCI"), ("b", "bl", "NC"))


@pytest.mark.parametrize(
    ("policy", "labels"),
    [
        ("baseline", ["MCI", "MCI", "MCI", "NC"]),
        ("last", ["AD", "AD", "AD", "NC"]),
        ("each", ["AD", "MCI", "MCI", "NC"]),
        ("exclude", ["NC"]),
        ("refuse", ["NC"]),
    ],
)
def test_the_option_decides_which_label_a_converter_has(policy: LabelChanges, labels: list[str]) -> None:
    rows, problems, notes = settle_labels(CONVERTER, policy, "subject", "column subject")

    assert rows["label"].to_list() == labels
    assert len(problems) == (3 if policy == "refuse" else 0)
    if policy == "refuse":
        assert "1 x 'AD' and 2 x 'MCI'" in problems[0].message
        assert "--label-changes baseline, last, each or exclude" in problems[0].message
    else:
        assert notes[0].startswith("the label of 1 subject changes between visits: 'a'")
        assert ("3 images were left out" in notes[0]) == (policy == "exclude")


@pytest.mark.parametrize("policy", ["baseline", "last", "each", "exclude"])
@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        (_rows(("a", "bl", "AD"), ("a", "bl", "NC"), ("b", "bl", "NC")), "one visit has both"),
        (_rows(("a", None, "AD"), ("a", None, "NC"), ("b", None, "NC")), "visits are unknown"),
    ],
)
def test_two_labels_of_one_visit_are_never_settled(policy: LabelChanges, rows: pd.DataFrame, reason: str) -> None:
    stay, problems, _ = settle_labels(rows, policy, "subject", "column subject")

    assert stay["subject"].to_list() == ["b"]
    assert reason in problems[0].message


def test_visits_are_ordered_by_time() -> None:
    visits = ["M12", "m6", "ses-M000", "bl", "Screening", "M100"]
    assert sorted(visits, key=visit_order) == ["Screening", "bl", "ses-M000", "m6", "M12", "M100"]
    assert sorted(["2020-10-01", "2020-09-30"], key=visit_order)[0] == "2020-09-30"
    with pytest.raises(DataError, match="does not begin with the year"):
        visit_order("03/01/2020")
