"""The output of a study: recipe, table, figures and report."""

from __future__ import annotations

import pandas as pd
import yaml

from gyrus.workflows.experiment_config import load_config


def test_a_study_writes_recipe_table_figures_and_report(tuned):
    folder = tuned.folder
    table = pd.read_csv(folder.trials)
    assert len(table) == 6
    assert set(table["state"]) <= {"complete", "pruned"}
    whole = table[table["state"] == "complete"]
    assert tuned.best.values[0] == whole["val_balanced_accuracy"].max()
    for name in ("history", "slice"):
        assert (folder.path / "figures" / f"{name}.png").stat().st_size > 1000
    page = folder.report.read_text()
    assert page.count("<svg") == len(list((folder.path / "figures").glob("*.svg")))
    assert "Quote the score on the test set" in page
    assert not list(folder.path.rglob("*.ckpt"))


def test_the_best_recipe_is_the_config_of_the_best_trial(tuned):
    recipe = load_config(tuned.folder.best)
    assert recipe.data.path is None
    values = tuned.values(tuned.best)
    assert recipe.training.optimiser.lr == values["training.optimiser.lr"]
    assert recipe.training.batch_size == values["training.batch_size"]
    assert recipe.model.head.options["dropout"] == values["model.head.options.dropout"]
    words = " ".join(recipe.about.changed)
    assert f"trial {tuned.best.number}" in words
    assert "the test set was not used" in words
    trained = yaml.safe_load((tuned.folder.trial(tuned.best.number) / "config.yaml").read_text())
    for section in ("training", "model", "preprocessing", "augmentation", "seed"):
        assert load_config(tuned.folder.best).model_dump(mode="json")[section] == trained[section]
