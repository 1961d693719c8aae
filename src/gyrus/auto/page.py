"""What the page of ``gyrus auto`` shows."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from gyrus.auto.budget import Budget
from gyrus.auto.plan import Plan
from gyrus.auto.result import AutoResult
from gyrus.auto.selection import STACK, Selection
from gyrus.auto.trainings import title_of
from gyrus.evaluation.metrics import METRICS
from gyrus.evaluation.result import limitations
from gyrus.inference.predictions import Predictions
from gyrus.redaction import command_line
from gyrus.reporting.auto_report import AutoPage, CandidateRow, draw_auto, save_auto_pictures
from gyrus.reporting.report_content import command_text
from gyrus.training.progress import duration_text


def make_page(result: AutoResult, tested: Predictions, fold_of: Mapping[str, int], budget: Budget) -> AutoPage:
    """The content of the page.

    Args:
        result: The result.
        tested: The predictions that the honest score is of.
        fold_of: The fold of each subject.
        budget: The time.
    """
    final, sheet = result.choices.final, budget.sheet
    metric = METRICS[result.plan.metric].title
    headline = result.evaluation.headline
    honest = headline.metrics[result.plan.metric]
    rows = _candidate_rows(result.plan, final, budget)
    # The predictions are pooled by subject already, so that scores by image would be the same once more.
    evaluation = replace(result.evaluation, scores={headline.unit: headline})
    drawings = draw_auto(rows, honest, metric, tested, evaluation)
    audit = [text for _, severity, text in result.fingerprint.findings if severity == "error"]
    shortened = [f"{name} was trained for {epochs} epochs, to fit the time." for name, epochs in sheet.epochs.items()]
    outer = []
    for name, each in result.choices.outer.items():
        subjects = sum(fold == int(name) for fold in fold_of.values())
        chosen = ", ".join(each.members) if each.chosen == STACK else each.chosen
        outer.append((str(int(name) + 1), f"{subjects:,}", f"{each.scores[each.chosen]:.2f}", chosen, each.reason))
    time = [
        ("Time", f"{duration_text(budget.spent)} of {duration_text(budget.total)}"),
        *([("First classifier", f"after {duration_text(sheet.first)}")] if sheet.first else []),
        ("Trainings", str(sum(map(len, sheet.seconds.values())))),
    ]
    return AutoPage(
        title=result.folder.resolve().name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        sentences=result.sentences(),
        distrust=(*limitations(result.evaluation), *shortened, *audit),
        evaluation=evaluation,
        baselines=result.baselines,
        metric=metric,
        honest=honest,
        candidates=rows,
        plan=tuple((each.what, each.value, each.reason) for each in result.plan.decisions),
        data=result.fingerprint.rows(),
        outer=tuple(outer),
        uses=_uses(result.folder),
        repeats=_repeats(result.folder, final),
        time=tuple(time),
        pictures=save_auto_pictures(result.folder, drawings),
    )


def _candidate_rows(plan: Plan, final: Selection, budget: Budget) -> tuple[CandidateRow, ...]:
    """The table of the candidates: chosen, given up, left out or not used, with the reason."""
    rows = []
    equal = {name for name, (gap, error) in final.behind.items() if gap <= error}
    planned = {each.name: each for each in plan.candidates}
    for name in [*planned, *([STACK] if STACK in final.scores else [])]:
        score = final.scores.get(name)
        gap, error = final.behind.get(name, (0.0, 0.0))
        seconds = budget.expected(name)
        state, reason = "finished", "behind the best by more than one standard error"
        if name == final.chosen:
            state, reason = "chosen", final.reason
        elif final.chosen == STACK and final.weights.get(name):
            state, reason = "member", f"of the weighted mean, weight {final.weights[name]:.2f}"
        elif name in final.given_up:
            state, reason = "given up", final.given_up[name]
            score = next(each.scores[name] for each in final.rounds if name in each.given_up)
        elif name in budget.sheet.left_out:
            state, reason = "left out", budget.sheet.left_out[name]
        elif name in planned and not planned[name].used:
            state, reason = "not used", planned[name].reason
        elif name in equal:
            state, reason = "equal", "within one standard error of the best, but less simple than the chosen one"
        behind = f"{gap:.3f} ± {error:.3f}" if name in final.behind and name != final.best else "–"
        title = title_of(name)
        if name == STACK:
            title += ": " + ", ".join(f"{each} {weight:.2f}" for each, weight in final.weights.items())
        rows.append(CandidateRow(name, title, score, behind, state, reason, duration_text(seconds) if seconds else "–"))
    return tuple(rows)


def _uses(folder: Path) -> tuple[tuple[str, str], ...]:
    """Commands that use the classifier."""
    place = shlex.quote(str(folder / "classifier"))
    return (
        ("Predict new images:", f"gyrus predict {place} NEW_IMAGES --out predictions.csv"),
        ("Test it on data of another site:", f"gyrus predict {place} OTHER_DATA --out other.csv"),
    )


def _repeats(folder: Path, final: Selection) -> tuple[tuple[str, str], ...]:
    """Commands that repeat the call, and the members of the classifier by themselves."""
    configs = [shlex.quote(str(folder / "configs" / f"{name}.yaml")) for name in final.members]
    return (
        ("The same call, which also continues an interrupted one:", command_text(command_line())),
        *(
            ("One candidate by itself, in plain cross-validation:", f"gyrus crossval --config {config} --out crossval")
            for config in configs
        ),
    )
