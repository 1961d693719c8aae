"""Files of a cross-validation."""

from __future__ import annotations

import json

import pytest

from gyrus.errors import DataError, RunError
from gyrus.workflows.crossval_folder import (
    CrossValidation,
    fold_runs,
    open_folder,
    planned_config,
    read_facts,
    write_facts,
)
from gyrus.workflows.experiment_config import ExperimentConfig


def config(epochs: int) -> dict[str, object]:
    return planned_config(ExperimentConfig.model_validate({"training": {"epochs": epochs}}))


PLAN = {"folds": 2, "nested": None, "config": config(3)}


def test_facts_are_saved_and_the_start_is_kept(tmp_path):
    write_facts(tmp_path, PLAN, folds=2, repeats=1, status="started")
    started = read_facts(tmp_path)
    write_facts(tmp_path, PLAN, folds=2, repeats=3, status="finished")
    finished = read_facts(tmp_path)
    assert (finished.status, finished.repeats, finished.created) == ("finished", 3, started.created)
    assert finished.plan == PLAN
    assert finished.environment["libraries"]


def test_only_the_folder_of_the_same_cross_validation_is_opened(tmp_path):
    folder = tmp_path / "folds"
    open_folder(folder, PLAN, 1)
    assert folder.is_dir()
    open_folder(folder, PLAN, 1)
    write_facts(folder, PLAN, folds=2, repeats=2, status="started")
    open_folder(folder, PLAN, 2)
    earlier = {**PLAN, "config": {"training": {"epochs": 3}}}  # as of a version with fewer fields
    write_facts(folder, earlier, folds=2, repeats=2, status="started")
    open_folder(folder, PLAN, 2)
    with pytest.raises(RunError, match=r"which differs in training\.epochs"):
        open_folder(folder, {**PLAN, "config": config(4)}, 2)
    with pytest.raises(RunError, match="holds 2 repeats"):
        open_folder(folder, PLAN, 1)
    with pytest.raises(RunError, match=r"not an empty folder\. It holds no cross-validation"):
        open_folder(tmp_path, PLAN, 1)


def test_missing_unfinished_or_damaged_folders_are_refused(tmp_path):
    with pytest.raises(RunError, match="There is no cross-validation"):
        read_facts(tmp_path)
    write_facts(tmp_path, PLAN, folds=2, repeats=1, status="started")
    with pytest.raises(RunError, match="has not finished"):
        CrossValidation.load(tmp_path)
    with pytest.raises(RunError, match="There is no run"):
        fold_runs(tmp_path)
    (tmp_path / "crossval.json").write_text(json.dumps({"schema": "gyrus.crossval/1"}))
    with pytest.raises(DataError, match="folds"):
        read_facts(tmp_path)
