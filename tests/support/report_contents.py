"""Contents of reports to test with."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from gyrus.evaluation.evaluate import evaluate
from gyrus.inference.predictions import Predictions
from gyrus.reporting.evaluation_figures import draw_scores
from gyrus.reporting.figures import Picture, draw_svg
from gyrus.reporting.report_content import ReportContent
from gyrus.reporting.split_unit_report import ComparedRun, Comparison, draw_comparison
from gyrus.reporting.training_figures import draw_training
from tests.support.predictions import study


def words(figure: Figure) -> str:
    """All text of a figure, read from its SVG."""
    return " ".join(re.findall(r"<text[^>]*>([^<]*)</text>", draw_svg(figure)))


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
        score_pictures=tuple(map(Picture.from_drawing, draw_scores(predictions, evaluation))),
        training_pictures=tuple(map(Picture.from_drawing, draw_training(history(), best_epoch=2))),
        data=(("Images", "210"),),
        split=(("Unit", "subject"),),
        training=(("Model", "small_cnn"),),
        config_text="seed: 0\n",
        command="gyrus train --data DATA",
        environment=(("Gyrus", "0.1.0"),),
    )


@cache
def comparison() -> Comparison:
    runs = tuple(
        ComparedRun(name, evaluate(each, resamples=50), each, command=("bin/gyrus", "train"), created="2026-01-02")
        for name, each in {
            "By subject": study(skill=0.5),
            "By image": study(skill=3.0, split_unit="image"),
        }.items()
    )
    drawing = draw_comparison({run.name: run.evaluation for run in runs})
    return Comparison("Two splits", runs, (Picture.from_drawing(drawing),))


VOID = {"meta", "br", "img", "use"}


class Reader(HTMLParser):
    """Reads a page; fails where tags do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self.ids += [value for name, value in attributes if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attributes: list) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self.ids += [value for name, value in attributes if name == "id"]

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open):
            self.words.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert not reader.open
    return reader


def page_text(page: str) -> str:
    return " ".join(" ".join(read(page).words).split())
