"""``gyrus auto``: from a data set to one classifier, with the honest score of how it was found. See :func:`auto`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from gyrus.auto.budget import Budget
from gyrus.auto.candidates import CANDIDATES
from gyrus.auto.fingerprint import Fingerprint, take_fingerprint
from gyrus.auto.plan import AutoOptions, Plan, make_plan, planned_pieces, split_overrides
from gyrus.auto.selection import STACK, Race, Selection
from gyrus.auto.trainings import GIVEN, Folds, TimeOverError, Trainings, members_first, title_of
from gyrus.configuration import write_document
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import split, split_off
from gyrus.datasets.store import open_store
from gyrus.errors import ConfigError, RunError
from gyrus.evaluation.comparison import labelled_rows
from gyrus.evaluation.metrics import METRICS
from gyrus.evaluation.out_of_fold import join_folds
from gyrus.evaluation.result import BASELINE_TITLES, Baselines, Evaluation, limitations, verdict
from gyrus.files import make_folder, refuse_links, require_empty, write_text
from gyrus.inference.pooling import average_predictions
from gyrus.inference.predictions import Predictions
from gyrus.redaction import command_line
from gyrus.reporting.auto_report import AutoPage, CandidateRow, draw_auto, save_auto_pictures, write_auto_report
from gyrus.reporting.report_content import command_text
from gyrus.runs.run_folder import Run
from gyrus.serialisation import Saved
from gyrus.text import counted, one_per_line
from gyrus.training.progress import duration_text
from gyrus.training.worker import by_process_0
from gyrus.workflows.baselines import evaluate_fold_baselines, predict_baselines, save_baseline_predictions
from gyrus.workflows.display import SILENT, Display, show_notes
from gyrus.workflows.ensemble import EnsembleMembers
from gyrus.workflows.evaluate import evaluate_predictions, require_evaluable
from gyrus.workflows.experiment_config import ExperimentConfig, load_config
from gyrus.workflows.load_data import is_people_table, scan_to_train
from gyrus.workflows.training_plan import forecast_seconds, require_classes, require_order

LONGEST_FORECAST = 0.8
"""Fraction of the time left that the networks may share by forecast."""

FEWEST_EPOCHS = 1 / 3
"""A network is trained for this fraction of its epochs at least; if there is no time for that, it is left out."""

FINAL = "final"
"""The choice of the classifier, in which all subjects take part; the others are named by their outer fold."""


@dataclass(frozen=True)
class Choices(Saved):
    """The content of ``selection.json``.

    Attributes:
        final: How the classifier was chosen.
        outer: How a candidate was chosen without each outer fold; empty where there was nothing to choose.
        scored: What the score is of: "nested", "given test set", "cross-validation" of the only candidate, or "chosen":
            of the best of several, because the time was over.
        notes: What a reader must know.
    """

    SCHEMA: ClassVar[str] = "gyrus.auto_choices/1"

    final: Selection
    outer: Mapping[str, Selection]
    scored: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class AutoResult:
    """A finished call of :func:`auto`.

    Attributes:
        folder: The folder.
        fingerprint: The measured facts.
        plan: The plan.
        choices: How the classifier was chosen.
        evaluation: The honest score.
        baselines: Baselines on the same subjects; None where there are none.
        spent: Seconds used.
    """

    folder: Path
    fingerprint: Fingerprint
    plan: Plan
    choices: Choices
    evaluation: Evaluation
    baselines: Baselines | None
    spent: float

    @property
    def classifier(self) -> Path:
        """The classifier: a folder of an ensemble, for ``gyrus predict``, ``explain`` and ``export``."""
        return self.folder / "classifier"

    @property
    def report(self) -> Path:
        """The report, HTML."""
        return self.folder / "report.html"

    def sentences(self) -> tuple[str, ...]:
        """What was found, in sentences, the honest verdict first."""
        final, metric = self.choices.final, self.plan.metric
        score = self.evaluation.headline.metrics[metric]
        parts = ", ".join(f"{name} ({weight:.2f})" for name, weight in final.members.items())
        what = title_of(final.chosen) + (f": {parts}" if final.chosen == STACK else f" ({final.chosen})")
        curse = final.scores[final.chosen]
        return (
            *against_best_baseline(self.evaluation, self.baselines, metric),
            *verdict(self.evaluation, self.baselines),
            f"Classifier: {what}; {final.reason}.",
            f"{METRICS[metric].title} in the choice: {curse:.2f}. Quote the honest score, {score.text(2)}: a score "
            "that chose is too high.",
        )

    def text(self) -> str:
        """The sentences and the notes."""
        return one_per_line([*self.sentences(), *(f"Note: {note}" for note in self.choices.notes)])


def against_best_baseline(evaluation: Evaluation, baselines: Baselines | None, metric: str) -> tuple[str, ...]:
    """Whether the classifier beats the best baseline in a score, as a sentence; nothing without baselines.

    Args:
        evaluation: The scores of the classifier.
        baselines: Baselines on the same subjects.
        metric: The score.
    """
    score = evaluation.headline.metrics[metric]
    compared = {
        name: (each.scores[metric], each.gains[metric])
        for name, each in (baselines.results if baselines else {}).items()
        if metric in each.scores and each.scores[metric].value is not None
    }
    if not compared:
        return ()
    name = max(compared, key=lambda name: compared[name][0].value or 0.0)
    theirs, gain = compared[name]
    better = gain.low is not None and gain.low > 0
    worse = gain.high is not None and gain.high < 0
    judged = "Better than" if better else "Worse than" if worse else "Not better than"
    return (
        f"{judged} the best baseline, {BASELINE_TITLES[name]}: {METRICS[metric].title} {score.text(2)} against "
        f"{theirs.text(2)}, difference {gain.text(2)}.",
    )


def plan_auto(
    data: str | Path,
    *,
    minutes: float = 30.0,
    candidates: Sequence[str] = (),
    folds: int | None = None,
    metric: str = "macro_roc_auc",
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    display: Display = SILENT,
) -> tuple[Fingerprint, Plan]:
    """What :func:`auto` would do with the same arguments; nothing is written.

    Raises:
        GyrusError: As :func:`auto`.
    """
    options = AutoOptions(minutes, tuple(candidates), folds, metric, seed)
    settings = _settings(data, options, overrides)
    return _look(_scan(settings, display), settings, options, overrides, display)


@by_process_0
def auto(
    data: str | Path,
    *,
    out: str | Path,
    minutes: float = 30.0,
    candidates: Sequence[str] = (),
    folds: int | None = None,
    metric: str = "macro_roc_auc",
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
    display: Display = SILENT,
) -> AutoResult:
    """Find the best classifier for a data set within a time, and score it on subjects that it was not chosen on.

    The same call continues what was interrupted; the time of all calls counts.

    Args:
        data: Folder, table, Parquet file, or hf:owner/name.
        out: The folder: new, empty, or of the same call.
        minutes: The time for everything.
        candidates: Names of :data:`gyrus.auto.candidates.CANDIDATES`; empty: those that suit the data.
        folds: Number of folds; None: by the number of subjects.
        metric: The score by which candidates are compared, a name of :data:`gyrus.evaluation.metrics.METRICS`.
        seed: Seed of everything random.
        overrides: Fields of all configs by dotted name; or of one candidate, as ``{"slice-cnn.training.epochs": 5}``.
        display: Where progress is shown.

    Returns:
        The result, which is saved in the folder as well.

    Raises:
        GyrusError: The options, the data or the folder cannot be used.
        KeyboardInterrupt: It was interrupted; the same call continues it.
    """
    options = AutoOptions(minutes, tuple(candidates), folds, metric, seed)
    settings, folder = _settings(data, options, overrides), Path(out)
    refuse_links(folder, error=RunError)
    if not (folder / "plan.json").is_file():
        advice = "It holds nothing that `gyrus auto` can continue. Give a new folder with --out."
        require_empty(folder, advice, error=RunError, ignored=[".lock", "time.json"])
    budget = Budget(minutes, folder / "time.json")
    manifest = _scan(settings, display)
    fingerprint, plan = _open(folder, manifest, settings, options, overrides, display)
    make_folder(folder)
    with Run(folder).locked():
        fingerprint.save(folder / "fingerprint.json")
        plan.save(folder / "plan.json")
        trainings = Trainings(folder / "candidates", plan, settings, manifest, budget, display)
        manifest.save(folder / "manifest.parquet")
        for each in plan.used:
            write_document(folder / "configs" / f"{each.name}.yaml", each.settings)
        budget.update()
        return _Procedure(folder, fingerprint, plan, settings, manifest, trainings, budget, display).run()


@dataclass
class _Procedure:
    """The steps after the plan."""

    folder: Path
    fingerprint: Fingerprint
    plan: Plan
    settings: ExperimentConfig
    manifest: Manifest
    trainings: Trainings
    budget: Budget
    display: Display

    def run(self) -> AutoResult:
        names = members_first([each.name for each in self.plan.used])
        first = self._first_classifier(names)
        self._baselines(first)
        self._fit_epochs([name for name in names if name != first and CANDIDATES[name].network])
        names = [name for name in names if name not in self.budget.sheet.left_out]
        nested = self.plan.outer == "folds" and len(names) > 1
        races = self._race(names, nested=nested)
        if not races[FINAL].folds:  # there was only time for the first candidate
            races = self._race([first], nested=False)
        final = races[FINAL].choose()
        outer = {name: race.choose() for name, race in races.items() if name != FINAL and race.folds}
        self._save_classifier(final)
        return self._score(final, outer)

    # The trainings

    def _first_classifier(self, names: list[str]) -> str:
        """Train the simplest candidate on all folds, so that there is a classifier early."""
        for name in names:
            try:
                done = all(self.trainings.train(name, (fold,)) for fold in range(self.plan.folds))
            except TimeOverError:
                self.budget.leave_out(name, "the time was over")
                break
            if done:
                if self.budget.sheet.first is None:
                    self.budget.update(first=self.budget.spent)
                    self._save_members({name: 1.0})
                    self._say(f"a first classifier can be used: {name}, {self.folder / 'classifier'}")
                return name
        reasons = "\n".join(f"  - {name}: {reason}" for name, reason in self.budget.sheet.left_out.items())
        raise ConfigError(
            f"No candidate could be trained within {self.plan.minutes:g} minutes:\n{reasons}\nGive more --minutes in a "
            "new folder, or name faster candidates with --candidate."
        )

    def _fit_epochs(self, networks: list[str]) -> None:
        """Fit the epochs of networks to the time by a forecast from a few steps; leave out those that cannot fit."""
        waiting = [name for name in networks if not self.trainings.is_done(name, (0,))]
        for place, name in enumerate(waiting):
            if name in self.budget.sheet.left_out or name in self.budget.sheet.epochs:
                continue
            settings = self.trainings.settings(name)
            pieces = len(planned_pieces(self.plan.folds, self.plan.outer, several=True))
            share = LONGEST_FORECAST * self.budget.left / (len(waiting) - place)
            needed = pieces * forecast_seconds(
                settings, self.trainings.manifest(name), self.trainings.split(name, (0,))
            )
            if needed <= share:
                continue
            epochs = int(settings.training.epochs * share / needed)
            if epochs < max(1, FEWEST_EPOCHS * settings.training.epochs):
                reason = (
                    f"{pieces} trainings would take about {duration_text(needed)}, and its share of the time is "
                    f"{duration_text(share)}"
                )
                self.budget.leave_out(name, reason)
                self._say(f"{name} is left out: {reason}")
                continue
            self.budget.update(epochs={**self.budget.sheet.epochs, name: epochs})
            self._say(f"{name} is trained for {epochs} of {settings.training.epochs} epochs, to fit the time")

    def _race(self, names: list[str], *, nested: bool) -> dict[str, Race]:
        """Compare the candidates fold by fold, for the classifier and without each outer fold."""
        count = self.plan.folds
        simplicity = {name: CANDIDATES[name].simplicity for name in names}
        stack = self.trainings.averaged(names)
        contexts: dict[str, list[tuple[Folds, int]]] = {FINAL: [((fold,), fold) for fold in range(count)]}
        if nested:
            for outer in range(count):
                inner = [(outer + step) % count for step in range(1, count)]
                contexts[str(outer)] = [((min(outer, fold), max(outer, fold)), fold) for fold in inner]
        races = {name: Race(simplicity, metric=self.plan.metric, stack=stack, seed=self.plan.seed) for name in contexts}
        for number in range(count):
            todo = {name: folds[number] for name, folds in contexts.items() if number < len(folds)}
            if not self._make_time(races, contexts, number):
                break
            for context, (left_out, fold) in todo.items():
                try:
                    last = races[context].run_fold(partial(self._answer, left_out=left_out, fold=fold))
                except TimeOverError:
                    self._say("the time for trainings is over")
                    return races
                for name, reason in last.given_up.items():
                    where = "" if context == FINAL else f" (without outer fold {int(context) + 1})"
                    self._say(f"{name} is given up{where}: {reason}")
        return races

    def _answer(self, name: str, left_out: Folds, fold: int) -> Predictions | None:
        known = self.trainings.is_done(name, left_out)
        pieces = len(planned_pieces(self.plan.folds, self.plan.outer, several=True))
        found = self.trainings.answers(name, left_out, fold, trainings=pieces)
        if found is not None and not known:
            expected = self.budget.expected(name)
            took = f", about {duration_text(expected)} each" if expected else ""
            folds = " and ".join(str(each + 1) for each in left_out)
            self._say(f"trained {name} without fold {folds} of {self.plan.folds}{took}")
        return found

    def _make_time(
        self, races: Mapping[str, Race], contexts: Mapping[str, list[tuple[Folds, int]]], number: int
    ) -> bool:
        """Leave out slow candidates until the trainings that remain fit the time; whether the next fold fits."""
        while True:
            remaining = self._remaining(races, contexts, number)
            needed = sum(seconds for seconds in remaining.values())
            if needed <= self.budget.left:
                return True
            leaders = {race.leader for race in races.values()}
            slow = [name for name in remaining if remaining[name] > 0 and name not in leaders]
            if not slow:
                upcoming = {name: [folds[number]] for name, folds in contexts.items() if number < len(folds)}
                return sum(self._remaining(races, upcoming, 0).values()) <= self.budget.left
            slowest = max(slow, key=lambda name: remaining[name])
            reason = (
                f"its remaining trainings would take about {duration_text(remaining[slowest])}, and "
                f"{duration_text(max(1.0, self.budget.left))} are left"
            )
            self.budget.leave_out(slowest, reason)
            self._say(f"{slowest} is left out: {reason}")
            for race in races.values():
                race.withdraw(slowest)

    def _remaining(
        self, races: Mapping[str, Race], contexts: Mapping[str, list[tuple[Folds, int]]], number: int
    ) -> dict[str, float]:
        """Seconds that each candidate still needs, where that is known."""
        pieces: dict[str, set[Folds]] = {}
        for context, folds in contexts.items():
            for name in races[context].running:
                pieces.setdefault(name, set()).update(left_out for left_out, _ in folds[number:])
        return {
            name: (self.budget.expected(name) or 0.0)
            * sum(not self.trainings.is_done(name, left_out) for left_out in each)
            for name, each in pieces.items()
        }

    # The scores

    def _baselines(self, name: str) -> None:
        """Predict the baselines on the folds, with the pixels of the first candidate."""
        settings = self.trainings.settings(name)
        if not settings.model.needs_images or not settings.evaluation.baselines:
            return
        manifest = self.trainings.manifest(name)
        store = open_store(manifest, settings.preprocessing)
        for fold in self._tested_folds():
            place = Run(self.folder / "baselines" / self._fold_name(fold))
            if place.predictions("baselines").with_suffix(".json").is_file():
                continue
            if fold == GIVEN:
                test = {unit for unit, each in self.trainings.fold_of.items() if each == GIVEN}
                tested = split_off(manifest, settings.split, test, seed=settings.seed)
            else:
                tested = self.trainings.split(name, (fold,))
            save_baseline_predictions(place, *predict_baselines(manifest, tested, store, seed=settings.seed))
            self.budget.update()

    def _tested_folds(self) -> list[int]:
        return [GIVEN] if self.plan.outer == "given" else list(range(self.plan.folds))

    def _fold_name(self, fold: int) -> str:
        return "given" if fold == GIVEN else f"fold-{fold}"

    def _score(self, final: Selection, outer: Mapping[str, Selection]) -> AutoResult:
        """Score the procedure on subjects that took no part in its choices, and write everything."""
        tables, notes = self._outer_predictions(final, outer)
        tested = join_folds(list(tables.values()))
        if tested.subjects_known:
            tested = labelled_rows(tested, "subject")
        settings = self.settings.evaluation
        evaluation = evaluate_predictions(tested, settings, seed=self.settings.seed)
        plain = "cross-validation" if len(final.rounds[-1].scores) == len(final.rounds[0].scores) == 1 else "chosen"
        scored = "given test set" if self.plan.outer == "given" else "nested" if outer else plain
        choices = Choices(final, dict(outer), scored, notes)
        evaluation = replace(evaluation, notes=(*evaluation.notes, *_notes(scored), *notes))
        folder = Run(self.folder)
        tested.save(folder.predictions("test"))
        evaluation.save(folder.metrics)
        saved = [Run(self.folder / "baselines" / self._fold_name(fold)) for fold in tables]
        baselines = evaluate_fold_baselines(saved, folder, tested, settings, seed=self.settings.seed)
        choices.save(self.folder / "selection.json")
        self._finish_classifier(tested, evaluation)
        self.budget.update()
        result = AutoResult(self.folder, self.fingerprint, self.plan, choices, evaluation, baselines, self.budget.spent)
        write_text(self.folder / "classification_report.txt", evaluation.text(baselines))
        write_auto_report(self.folder, self._page(result, tested))
        return result

    def _outer_predictions(
        self, final: Selection, outer: Mapping[str, Selection]
    ) -> tuple[dict[int, Predictions], tuple[str, ...]]:
        """The predictions of the chosen classifiers for subjects that they have never seen, by fold."""
        if self.plan.outer == "given":
            singles = [(fold,) for fold in range(self.plan.folds)]
            return {GIVEN: self._mean(final, singles, GIVEN)}, ()
        if not outer:
            found = {fold: self._mean(final, [(fold,)], fold) for fold in range(self.plan.folds)}
            return {fold: each for fold, each in found.items() if each is not None}, ()
        found, notes = {}, []
        for context, selection in outer.items():
            fold = int(context)
            pairs = [(min(fold, other), max(fold, other)) for other in range(self.plan.folds) if other != fold]
            found[fold] = self._mean(selection, pairs, fold)
        if len(found) < self.plan.folds:
            notes.append(f"The time was over after {len(found)} of {self.plan.folds} outer folds, which are scored.")
        return found, tuple(notes)

    def _mean(self, selection: Selection, trained: Sequence[Folds], fold: int) -> Predictions:
        """The mean of the chosen candidates over the trainings that have finished, for the subjects of a fold."""
        tables, weights = [], []
        for name, weight in selection.members.items():
            done = [left_out for left_out in trained if self.trainings.is_done(name, left_out)]
            for left_out in done:
                found = self.trainings.answers(name, left_out, fold)
                assert found is not None
                tables.append(labelled_rows(found, "subject") if found.subjects_known else found)
                weights.append(weight / len(done))
        return average_predictions(tables, weights)

    # The classifier

    def _save_classifier(self, final: Selection) -> None:
        self._say(f"chosen: {title_of(final.chosen)} ({final.chosen}), {final.reason}")
        self._save_members(final.members)

    def _save_members(self, members: Mapping[str, float]) -> None:
        """Write ``classifier/ensemble.json``: the mean of the trainings that left out one fold each."""
        names, weights = [], []
        place = self.folder / "classifier"
        for name, weight in members.items():
            runs = [self.trainings.place(name, (fold,)) for fold in range(self.plan.folds)]
            runs = [run for run in runs if run.exists and run.status == "finished"]
            names += [Path(os.path.relpath(run.folder, place)).as_posix() for run in runs]
            weights += [weight / len(runs)] * len(runs)
        EnsembleMembers(tuple(names), tuple(weights), "equal" if len(members) == 1 else "out-of-fold").save(
            place / "ensemble.json"
        )

    def _finish_classifier(self, tested: Predictions, evaluation: Evaluation) -> None:
        """Write what an ensemble has beside its members: the honest scores, and those of each member."""
        place = self.folder / "classifier"
        tested.save(place / "predictions.parquet")
        evaluation.save(place / "metrics.json")
        members = EnsembleMembers.load(place / "ensemble.json").members
        for number, name in enumerate(members):
            Evaluation.load(Run(place / name).metrics).save(place / "members" / f"{number}.json")

    def _page(self, result: AutoResult, tested: Predictions) -> AutoPage:
        final, sheet = result.choices.final, self.budget.sheet
        metric = METRICS[self.plan.metric].title
        honest = result.evaluation.headline.metrics[self.plan.metric]
        rows = _candidate_rows(self.plan, final, self.budget)
        drawings = draw_auto(rows, honest, metric, tested, result.evaluation)
        audit = [text for _, severity, text in self.fingerprint.findings if severity == "error"]
        shortened = [
            f"{name} was trained for {epochs} epochs, to fit the time." for name, epochs in sheet.epochs.items()
        ]
        outer = []
        for name, each in result.choices.outer.items():
            subjects = sum(fold == int(name) for fold in self.trainings.fold_of.values())
            chosen = ", ".join(each.members) if each.chosen == STACK else each.chosen
            outer.append((str(int(name) + 1), f"{subjects:,}", f"{each.scores[each.chosen]:.2f}", chosen, each.reason))
        time = [
            ("Time", f"{duration_text(self.budget.spent)} of {duration_text(self.budget.total)}"),
            *([("First classifier", f"after {duration_text(sheet.first)}")] if sheet.first else []),
            ("Trainings", str(sum(map(len, sheet.seconds.values())))),
        ]
        return AutoPage(
            title=self.folder.resolve().name,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            sentences=result.sentences(),
            distrust=(*limitations(result.evaluation), *shortened, *audit),
            evaluation=result.evaluation,
            baselines=result.baselines,
            metric=metric,
            honest=honest,
            candidates=rows,
            plan=self.plan.rows(),
            data=self.fingerprint.rows(),
            outer=tuple(outer),
            uses=_uses(self.folder),
            repeats=_repeats(self.folder, final),
            time=tuple(time),
            pictures=save_auto_pictures(self.folder, drawings),
        )

    def _say(self, text: str) -> None:
        self.display.say(f"{self.trainings.clock()} {text}")


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


def _notes(scored: str) -> tuple[str, ...]:
    """What the score is of."""
    return {
        "nested": (
            "Nested cross-validation: each subject is scored by classifiers that were trained and chosen without it. "
            "The score is that of the whole procedure, choice included, and not of one candidate; the classifier "
            "itself was trained on more subjects.",
        ),
        "given test set": ("The test set of the data took no part in any training or choice.",),
        "chosen": (
            "The time was over before the choice could be scored on subjects that took no part in it: the score is "
            "that of the best of several candidates, which is too high. Give more --minutes.",
        ),
        "cross-validation": ("There was one candidate and nothing to choose, so this is plain cross-validation.",),
    }[scored]


def _settings(data: str | Path, options: AutoOptions, overrides: Mapping[str, Any] | None) -> ExperimentConfig:
    """How the data are read, split and scored: the config that all candidates share."""
    common, _ = split_overrides(overrides or {})
    reading = {name: value for name, value in common.items() if name.split(".")[0] in ("data", "split", "evaluation")}
    changes: dict[str, Any] = {"seed": options.seed, **reading}
    if is_people_table(data, reading.get("data.columns") or {}):
        changes["model.name"] = "logistic-regression"
    settings = load_config(None, changes, data=data)
    if settings.data.target is not None:
        raise ConfigError(
            f"gyrus auto chooses between classifiers of classes, and data.target asks for the number "
            f"'{settings.data.target}'. Use gyrus crossval --target {settings.data.target} with a recipe."
        )
    if settings.split.method in ("given", "leave-one-group-out"):
        raise ConfigError(
            f"split.method={settings.split.method} is not possible with gyrus auto: it assigns subjects to folds, and "
            "scores on the test set of the data where they define one."
        )
    return settings


def _scan(settings: ExperimentConfig, display: Display) -> Manifest:
    manifest = scan_to_train(settings, display)
    require_classes(manifest, display)
    require_order(manifest, settings)
    require_evaluable(manifest, settings.evaluation)
    if settings.split.unit == "subject":  # subjects that are unknown are refused, with advice, before anything else
        found = split(manifest, settings.split.model_copy(update={"method": "holdout"}), seed=settings.seed)
        show_notes(display, [found.warning, *found.notes])
    return manifest


def _look(
    manifest: Manifest,
    settings: ExperimentConfig,
    options: AutoOptions,
    overrides: Mapping[str, Any] | None,
    display: Display,
) -> tuple[Fingerprint, Plan]:
    """Measure the data, and make the plan."""
    with display.progress("Measuring images") as progress:
        fingerprint = take_fingerprint(
            manifest,
            name=Path(str(settings.data.path)).name,
            table_columns=tuple(settings.data.table_columns),
            seed=options.seed,
            progress=progress,
        )
    return fingerprint, make_plan(fingerprint, options, overrides, data=settings.data.path)


def _open(
    folder: Path,
    manifest: Manifest,
    settings: ExperimentConfig,
    options: AutoOptions,
    overrides: Mapping[str, Any] | None,
    display: Display,
) -> tuple[Fingerprint, Plan]:
    """The fingerprint and the plan of a folder, made now or by an earlier call of the same command.

    Raises:
        RunError: The folder holds a call with other data or options.
    """
    if not (folder / "plan.json").is_file():
        fingerprint, plan = _look(manifest, settings, options, overrides, display)
        display.say(fingerprint.text())
        display.say(plan.text())
        return fingerprint, plan
    fingerprint, plan = Fingerprint.load(folder / "fingerprint.json"), Plan.load(folder / "plan.json")
    now = make_plan(replace(fingerprint, digest=manifest.digest), options, overrides, data=settings.data.path)
    changed = [
        name
        for name in ("digest", "folds", "outer", "metric", "seed", "candidates")
        if getattr(plan, name) != getattr(now, name)
    ]
    if changed:
        raise RunError(
            f"{folder} holds a call of gyrus auto with other data or options ({', '.join(changed)}). Give a new folder "
            "with --out, or the same data and options to continue."
        )
    display.say(f"Continuing in {folder}: {counted(len(plan.used), 'candidate')}, {plan.folds} folds")
    return fingerprint, now
