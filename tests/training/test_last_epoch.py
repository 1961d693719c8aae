"""Where nothing is to be chosen, the last epoch is kept."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from gyrus.runs.run_folder import Run
from gyrus.training.config import TrainingConfig
from gyrus.training.history import History
from gyrus.workflows.train import train
from tests.conftest import SMALL


def test_the_last_epoch_counts_as_the_best_whatever_it_scores():
    rows = tuple({"epoch": number, "val_loss": loss} for number, loss in ((1, 0.2), (2, 0.1), (3, 0.9)))
    assert History(rows).best_epoch("epoch") == 3
    assert History(rows).best_epoch("val_loss") == 2


def test_a_run_keeps_the_weights_of_its_last_epoch(phantom_folder, tmp_path):
    overrides = {**SMALL, "training.monitor": "epoch", "training.early_stopping": None, "evaluation.baselines": False}
    run = train("dementia-baseline", data=phantom_folder, out=tmp_path / "run", overrides=overrides)
    assert run.status == "finished"
    assert '"best_epoch": 2' in (Run(run.folder).folder / "run.json").read_text()


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"averaging": {"name": "swa"}}, "swa is kept"), ({"early_stopping": {}}, "never stops early")],
)
def test_what_needs_a_score_is_refused_without_one(fields, words):
    with pytest.raises(ValidationError, match=words):
        TrainingConfig.model_validate({"monitor": "epoch", **fields})
