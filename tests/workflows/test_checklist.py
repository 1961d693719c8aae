"""Checklists are filled with what a run shows, and claim nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import gyrus
from gyrus.errors import ConfigError, UnknownNameError
from gyrus.evaluation.result import Evaluation
from gyrus.reporting import checklist as module
from gyrus.runs.run_folder import Run


@pytest.mark.parametrize(("standard", "count"), [("tripod-ai", 52), ("claim", 44)])
def test_every_item_is_answered_by_the_run_or_left_to_people(standard, count, finished_run, tmp_path) -> None:
    filled = gyrus.checklist(finished_run, standard, out=tmp_path / "list.md")
    assert len(filled.items) == count
    status = {
        (True, False): "from the run",
        (True, True): "partly from the run",
        (False, True): "only people can answer",
        (False, False): "not shown by this run",
    }
    assert all(item.status == status[bool(item.answer), bool(item.people)] for item in filled.items)
    written = (tmp_path / "list.md").read_text(encoding="utf-8")
    assert written.count("\n| ") == count + 1
    assert written.count("\n- ") == len(filled.risks)


def test_numbers_are_those_of_the_run(finished_run) -> None:
    items = {item.number: item for item in gyrus.checklist(finished_run, "claim").items}
    scores = Evaluation.load(Run(finished_run).metrics).headline
    assert f"Accuracy {scores.metrics['accuracy'].value:.3f}" in items["37"].answer
    assert "train and val: 0" in items["20"].answer
    wrong = scores.count - sum(row[index] for index, row in enumerate(scores.confusion))
    assert items["39"].answer.startswith(f"{wrong} of {scores.count} wrong")


def test_what_the_run_does_not_have_is_not_claimed(finished_run) -> None:
    items = {item.number: item for item in gyrus.checklist(finished_run, "claim").items}
    for number in ("15", "18", "27", "33", "34", "44"):  # only people, or another analysis, can answer these
        assert not items[number].answer
    assert any("no audit" in risk for risk in gyrus.checklist(finished_run).risks)


def test_updating_hyperparameters_and_groups_are_claimed_as_far_as_the_run_shows_them(finished_run) -> None:
    items = {item.number: item for item in gyrus.checklist(finished_run).items}
    for number in ("12f", "24"):
        assert items[number].answer.startswith("The model was not updated after its evaluation.")
        assert "threshold" not in items[number].answer
    assert "learning rate" in items["12c"].answer
    assert items["23a"].status == "partly from the run"


def test_a_page_that_was_not_written_is_not_claimed(finished_run, tmp_path) -> None:
    shutil.copytree(finished_run, tmp_path / "run", ignore=shutil.ignore_patterns("report.html"))
    for run, shown in ((finished_run, True), (tmp_path / "run", False)):
        items = {item.number: item for item in gyrus.checklist(run, "claim").items}
        assert ("report.html" in items["39"].answer) == shown


def test_subjects_inferred_from_pixels_are_named_at_the_partitions(finished_run, tmp_path) -> None:
    run = _with_settings(finished_run, tmp_path / "run", "data", subjects="inferred")
    items = {item.number: item for item in gyrus.checklist(run, "claim").items}
    for number in ("19", "20"):
        assert "inferred from the pixels, so one person may be several" in items[number].answer


def test_a_held_out_group_is_not_called_a_random_part(finished_run, tmp_path) -> None:
    run = _with_settings(finished_run, tmp_path / "run", "split", method="leave-one-group-out", group="scanner")
    split = json.loads(Run(run).split.read_text(encoding="utf-8"))
    Run(run).split.write_text(json.dumps({**split, "method": "leave-one-group-out"}), encoding="utf-8")
    answers = {}
    for folder in (finished_run, run):
        answers[folder] = {item.number: item.answer for item in gyrus.checklist(folder).items}["16"]
    assert "random parts of one data set" in answers[finished_run]
    assert "one group of the column scanner; no image of this group was used in training" in answers[run]
    assert "random" not in answers[run]


@pytest.mark.parametrize(("on_bad_file", "answer"), [("error", "refused"), ("skip", "left out and listed")])
def test_what_happens_to_unreadable_files_is_claimed_as_the_run_does_it(
    on_bad_file, answer, finished_run, tmp_path
) -> None:
    run = _with_settings(finished_run, tmp_path / "run", "data", on_bad_file=on_bad_file)
    items = {item.number: item for item in gyrus.checklist(run).items}
    assert items["27a"].answer.startswith(f"Unreadable files are {answer} with a reason.")


def _with_settings(run: Path, copy: Path, section: str, **settings: Any) -> Path:
    """A copy of a run whose config has other settings."""
    shutil.copytree(run, copy)
    config = yaml.safe_load((copy / "config.yaml").read_text(encoding="utf-8"))
    config.setdefault(section, {}).update(settings)
    (copy / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return copy


def test_a_word_document_holds_the_same_items(finished_run, tmp_path) -> None:
    docx = pytest.importorskip("docx")
    filled = gyrus.checklist(finished_run, out=tmp_path / "list.docx")
    table = docx.Document(str(tmp_path / "list.docx")).tables[0]
    assert [row.cells[3].text for row in table.rows[1:]] == [item.status for item in filled.items]


def test_mistakes_are_named(finished_run, tmp_path) -> None:
    with pytest.raises(UnknownNameError, match="tripod-ai"):
        gyrus.checklist(finished_run, "tripod")
    with pytest.raises(ConfigError, match=r"\.md or \.docx"):
        gyrus.checklist(finished_run, out=tmp_path / "list.pdf")


@pytest.mark.parametrize("standard", module.STANDARDS)
def test_every_answer_of_a_standard_exists(standard) -> None:
    folder = module.resources.files("gyrus.reporting") / "checklists"
    document = yaml.safe_load((folder / f"{standard}.yaml").read_text(encoding="utf-8"))
    assert {item["answer"] for item in document["items"] if "answer" in item} <= set(module.ANSWERS)
    assert all("answer" in item or item.get("people") for item in document["items"])
