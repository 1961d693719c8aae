"""Contents of reports to test with."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from gyrus.evaluation.evaluate import evaluate
from gyrus.inference.predictions import Predictions
from gyrus.reporting.report_content import (
    ComparedRun,
    Comparison,
    Picture,
    ReportContent,
    draw_comparison,
    draw_scores,
    draw_training,
)
from tests.support.predictions import study


def history(epochs: int = 6) -> pd.DataFrame:
    steps = np.arange(1, epochs + 1)
    return pd.DataFrame(
        {
            "epoch": steps,
            "train_loss": 1 / steps,
            "val_loss": 1 + 0.1 * steps,
            "val_accuracy": 0.5 + 0.01 * steps,
            "val_auc": np.nan,
            "lr": 0.001 / steps,
        }
    )


def content(predictions: Predictions, **changes: object) -> ReportContent:
    """A report on some predictions, without figures unless ``changes`` has them."""
    without = {"evaluation": evaluate(predictions, resamples=50), "score_pictures": (), "training_pictures": ()}
    return replace(typical(), **(without | changes))


@cache
def typical() -> ReportContent:
    predictions = study()
    evaluation = evaluate(predictions, resamples=50)
    return ReportContent(
        title="A run",
        created="2026-01-02",
        evaluation=evaluation,
        score_pictures=tuple(map(Picture.of, draw_scores(predictions, evaluation))),
        training_pictures=tuple(map(Picture.of, draw_training(history(), best_epoch=2))),
        data=(("Images", "210"),),
        split=(("Unit", "subject"),),
        training=(("Model", "small_cnn"),),
        config_text="seed: 0\n",
        command="gyrus train --data DATA",
        environment=(("Gyrus", "0.1.0"),),
    )


@cache
def comparison() -> Comparison:
    honest = evaluate(study(skill=0.5), resamples=50)
    leaky = evaluate(study(skill=3.0, split_unit="image"), resamples=50)
    runs = (ComparedRun("By person", honest, "gyrus train"), ComparedRun("By image", leaky))
    drawing = draw_comparison({run.name: run.evaluation for run in runs})
    return Comparison("Two splits", "2026-01-02", runs, (Picture.of(drawing),))
