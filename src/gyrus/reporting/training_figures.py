"""Training curves: loss, validation scores, F1 of each class, learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gyrus.reporting.figures import COLOURS, COLUMN, MUTED, Drawing, escape_math, figure_style, line_styles, new_figure


def draw_training(history: pd.DataFrame, *, best_epoch: int | None = None) -> tuple[Drawing, ...]:
    """Training curves, F1 of each class, and learning rate, where the history has them.

    Args:
        history: See :func:`training_figure`.
        best_epoch: The epoch whose weights were selected.
    """
    curves = Drawing(
        "training_curves",
        "Training curves",
        "A training loss that falls while the validation loss rises is a sign of overfitting.",
        training_figure(history, best_epoch=best_epoch),
    )
    drawings = [curves]
    by_class = class_curves_figure(history)
    if by_class:
        caption = "A class at zero is never predicted correctly."
        drawings.append(Drawing("class_curves", "F1 of each class", caption, by_class))
    if "lr" in history:
        rate = learning_rate_figure(history)
        drawings.append(Drawing("learning_rate", "Learning rate", "Learning rate at the end of each epoch.", rate))
    return tuple(drawings)


def training_figure(history: pd.DataFrame, *, best_epoch: int | None = None) -> Figure:
    """Loss and validation scores over the epochs, one above the other.

    Args:
        history: One row per epoch: ``epoch``, ``train_loss``, ``val_loss`` and any ``val_<score>``.
        best_epoch: The epoch whose weights were selected, marked by a line.
    """
    scores = [name for name in _SCORES if name in history and history[name].notna().any()]
    errors = [name for name in _ERRORS if name in history and history[name].notna().any()]
    with figure_style():
        figure = new_figure(COLUMN, 4.6 if scores or errors else 2.4)
        panels = figure.subplots(2 if scores or errors else 1, sharex=True, squeeze=False)[:, 0]
        losses = {"train_loss": "training", "val_loss": "validation"}
        _curves(panels[0], history, {name: title for name, title in losses.items() if name in history})
        panels[0].set_ylim(0, None)
        panels[0].set_title("Loss", pad=_LEGEND_ROW + 5)
        if errors:
            _curves(panels[1], history, {name: _ERRORS[name] for name in errors}, first_colour=2)
            panels[1].set_ylim(0, None)
            panels[1].set_title("Errors", pad=_LEGEND_ROW * -(-len(errors) // 2) + 5)
        elif scores:
            _curves(panels[1], history, {name: _SCORES[name] for name in scores}, first_colour=2)
            panels[1].set_ylim(0, 1.02)
            panels[1].set_title("Validation scores", pad=_LEGEND_ROW * -(-len(scores) // 2) + 5)
        for panel in panels:
            _legend(panel)
            _mark_best(panel, best_epoch)
        panels[-1].set_xlabel("Epoch")
    return figure


def class_curves_figure(history: pd.DataFrame) -> Figure | None:
    """F1 of each class on the validation set, from the columns ``epoch`` and ``val_f1_<class>``; None without any."""
    columns = [name for name in map(str, history) if name.startswith(_CLASS_SCORE)]
    if not columns:
        return None
    with figure_style():
        rows = -(-len(columns) // 2)
        figure = new_figure(COLUMN, 2.3 + _LEGEND_ROW * rows / 72)
        axes = figure.subplots()
        _curves(axes, history, {name: escape_math(name.removeprefix(_CLASS_SCORE)) for name in columns})
        axes.set(ylim=(0, 1.02), xlabel="Epoch")
        axes.set_title("Validation F1 of each class", pad=_LEGEND_ROW * rows + 5)
        _legend(axes)
    return figure


def learning_rate_figure(history: pd.DataFrame) -> Figure:
    """The learning rate over the epochs, from the columns ``epoch`` and ``lr``."""
    with figure_style():
        figure = new_figure(COLUMN, 2.3)
        axes = figure.subplots()
        _curves(axes, history, {"lr": "learning rate"})
        axes.set(title="Learning rate", xlabel="Epoch", ylim=(0, None))
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    return figure


_LEGEND_ROW = 10.5
"""Height of a row of a legend between a panel and its title, in points."""

_SCORES = {
    "val_accuracy": "accuracy",
    "val_balanced_accuracy": "balanced accuracy",
    "val_macro_f1": "macro F1",
    "val_auc": "macro ROC AUC",
    "val_kappa": "quadratic-weighted kappa",
    "val_concordance": "concordance",
}


_ERRORS = {"train_mae": "training MAE", "val_mae": "validation MAE", "val_rmse": "validation RMSE"}
"""Errors of a number, in its unit."""

_CLASS_SCORE = "val_f1_"


def _curves(axes: Axes, history: pd.DataFrame, columns: Mapping[str, str], first_colour: int = 0) -> None:
    marker = "o" if len(history) <= 2 else ""
    colours = COLOURS[first_colour:] + COLOURS[:first_colour]
    for name, colour, dashes in line_styles(tuple(columns), colours):
        style: dict[str, Any] = {"color": colour, "linestyle": dashes, "marker": marker, "markersize": 3}
        axes.plot(history["epoch"], history[name], label=columns[name], **style)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(x=0.02)


def _legend(axes: Axes) -> None:
    """Place the legend between panel and title, where it covers no curve."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncols=2, handlelength=1.4, columnspacing=1.4)


def _mark_best(axes: Axes, epoch: int | None) -> None:
    if epoch is not None:
        axes.axvline(epoch, color=MUTED, linewidth=0.8, linestyle=(0, (3, 3)), zorder=0)
        axes.annotate(
            f"selected: {epoch}",
            (epoch, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, -2),
            textcoords="offset points",
            fontsize=6.5,
            color=MUTED,
            va="top",
        )
