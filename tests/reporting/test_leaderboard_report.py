"""The files of a leaderboard: page, tables and figures."""

from __future__ import annotations

import pandas as pd
import pytest

from gyrus.evaluation.leaderboard import rank_entries
from gyrus.reporting.leaderboard_report import frame, text, write_leaderboard
from tests.evaluation.test_leaderboard import entries


@pytest.fixture(scope="module")
def board():
    return rank_entries(entries(0.0, 1.5), resamples=50)


def test_all_files_are_written_and_say_the_same(board, tmp_path):
    page = write_leaderboard(tmp_path, board)
    table = pd.read_csv(tmp_path / "leaderboard.csv")
    assert table["name"].tolist() == [each.entry.name for each in board.tables[0].standings]
    first = board.tables[0].standings[0].evaluation.scores["subject"].metrics["accuracy"]
    assert table["accuracy"][0] == first.value
    assert table["accuracy_low"][0] == first.low
    for name in ("leaderboard.md", "leaderboard.tex"):
        content = (tmp_path / name).read_text()
        assert all(each in content for each in table["name"])
        assert f"{first.value:.2f} [{first.low:.2f}, {first.high:.2f}]" in content
    assert f"{first.value:.2f}" in page.read_text()
    assert {path.suffix for path in (tmp_path / "figures").iterdir()} == {".png", ".svg"}


def test_each_class_has_a_row_for_each_classifier(board, tmp_path):
    write_leaderboard(tmp_path, board)
    classes = pd.read_csv(tmp_path / "classes.csv")
    assert len(classes) == 2 * len(board.tables[0].standings)
    assert {"precision", "recall_low", "f1_high", "count"} <= set(classes.columns)


def test_the_same_board_gives_the_same_tables(board):
    pd.testing.assert_frame_equal(frame(board.tables[0]), frame(board.tables[0]))


def test_a_leaking_split_carries_its_warning_everywhere(tmp_path):
    leaky = rank_entries(entries(1.0, 2.0, split_unit="image"), resamples=0)
    statement = leaky.tables[0].evaluation.warning
    page = write_leaderboard(tmp_path, leaky)
    assert statement in page.read_text()
    assert statement in text(leaky)
    assert statement in (tmp_path / "leaderboard.md").read_text()
    assert statement.capitalize() in (tmp_path / "leaderboard.tex").read_text()


def test_names_with_signs_survive_in_every_format(tmp_path):
    from dataclasses import replace

    one, other = entries(1.0, 2.0)
    named = rank_entries([replace(one, name="a_b & <i>|50%"), replace(other, name="$x$")], resamples=0)
    page = write_leaderboard(tmp_path, named)
    assert "<i>" not in page.read_text()
    assert "a_b &amp; &lt;i&gt;" in page.read_text()
    assert r"a\_b \& $<$i>|50\%" in (tmp_path / "leaderboard.tex").read_text()
    assert r"a_b & \<i\>\|50%" in (tmp_path / "leaderboard.md").read_text()
    assert set(pd.read_csv(tmp_path / "leaderboard.csv")["name"]) == {"a_b & <i>|50%", "$x$"}
