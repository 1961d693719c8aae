"""The best configuration, scored once on the test set."""

from __future__ import annotations

import pytest

from gyrus.datasets.splits import Split
from gyrus.errors import ConfigError
from gyrus.runs.run_folder import Run
from gyrus.tuning.tune import tune
from gyrus.workflows.experiment_config import load_config
from tests.support.tiny_study import TINY, run_study, tiny_study


def test_the_test_set_is_scored_once_and_closes_the_study(phantom_folder, tmp_path):
    out = tmp_path / "study"
    with pytest.raises(ConfigError, match="needs --final-seeds"):
        tune("dementia-baseline", study=tiny_study(1), data=phantom_folder, out=out, overrides=TINY, with_default=True)
    tuned = tune(
        "dementia-baseline",
        study=tiny_study(1),
        data=phantom_folder,
        out=out,
        overrides=TINY,
        final_seeds=[3],
        with_default=True,
    )
    final = tuned.final
    for repeats in (final.tuned, final.default):
        assert list(repeats.runs) == [3]
        assert dict(Split.load(repeats.runs[3].split).samples) == dict(tuned.split.samples)
        assert Run.open(repeats.runs[3].folder).status == "finished"
    best = load_config(final.tuned.runs[3].config)
    assert best.training.optimiser.lr == tuned.values(tuned.best)["training.optimiser.lr"]
    assert "Tuned: 1 seed" in tuned.text()
    assert "Before tuning: 1 seed" in tuned.text()
    with pytest.raises(ConfigError, match="chosen by it"):
        run_study(phantom_folder, out, 2)
    assert run_study(phantom_folder, out, 1).best.number == tuned.best.number  # finished trials can still be read
