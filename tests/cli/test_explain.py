"""``gyrus explain`` as a user meets it."""

from __future__ import annotations

import pytest

from gyrus.explanation.methods import METHODS
from tests.support.command_line import gyrus, refused

FAST = ("--no-checks", "--shown", 2, "--images", 2)


def test_it_ends_with_what_was_found_and_where_it_is(finished_run, tmp_path):
    result = gyrus("explain", finished_run, "--method", "grad-cam,input-x-gradient", *FAST[1:], "--out", tmp_path / "e")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[-1].startswith("Report: ")
    assert any("Grad-CAM" in line for line in lines)
    names = {path.name for path in (tmp_path / "e" / "maps" / "grad-cam").iterdir()}
    assert names == {"01.npz", "01.png", "02.npz", "02.png"}


def test_every_method_at_once(finished_run, phantom_folder, tmp_path):
    image = next(phantom_folder.rglob("*.png"))
    result = gyrus(
        "explain", finished_run, image, "--method", "all", "--grid", "methods", *FAST, "--out", tmp_path / "e"
    )
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "e" / "maps").iterdir())) == len(METHODS)
    assert "were not checked" in (tmp_path / "e" / "explanation.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("--method", "grad-cm"), "Did you mean 'grad-cam'?"),
        (("--layer", "nowhere"), "There is no layer with a map 'nowhere'. Known:"),
        (("--target", "Dementa"), "Did you mean 'Dementia'?"),
        (("--grid", "bets"), "Did you mean 'best'?"),
        (("--emphasis", "Dementia"), "must have the form CLASS=POWER"),
        (("--emphasis", "Nobody=2"), "There is no class 'Nobody'"),
        (("--emphasis", "Dementia=-1"), "must be a power above 0"),
        (("--eraser", "white"), "`eraser` must be one of"),
        (("--colours", "rainbow"), "There is no colour map 'rainbow'"),
        (("--atlas", "none.nii.gz"), "does not exist"),
        (("--truth", "masks/{sample}.png"), "images for the checks has a mask with something in it"),
        (("--shown", 0), "`shown` must be at least 1"),
    ],
)
def test_mistakes_end_with_2_and_leave_nothing(finished_run, tmp_path, wrong, words):
    assert words in refused("explain", finished_run, "--no-checks", *wrong, "--out", tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_no_run_is_refused(tmp_path):
    assert "There is no run in" in refused("explain", tmp_path, "--out", tmp_path / "e")
