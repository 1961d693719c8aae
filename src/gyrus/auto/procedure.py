"""The steps of ``gyrus auto`` after the plan: trainings, choice, scores and classifier."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from gyrus.auto.budget import Budget
from gyrus.auto.candidates import CANDIDATES
from gyrus.auto.fingerprint import Fingerprint
from gyrus.auto.page import make_page
from gyrus.auto.plan import Plan, planned_pieces
from gyrus.auto.result import AutoResult, Choices, against_best_baseline
from gyrus.auto.selection import Race, Selection
from gyrus.auto.trainings import GIVEN, Folds, TimeOverError, Trainings, members_first, title_of
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import split_off
from gyrus.datasets.store import open_store
from gyrus.errors import ConfigError
from gyrus.evaluation.comparison import labelled_rows
from gyrus.evaluation.out_of_fold import join_folds
from gyrus.evaluation.result import Baselines, Evaluation
from gyrus.executor import current_executor
from gyrus.files import write_text
from gyrus.inference.head_volumes import measure_heads
from gyrus.inference.pooling import average_predictions
from gyrus.inference.predictions import Predictions
from gyrus.reporting.auto_report import write_auto_report
from gyrus.runs.run_folder import Run
from gyrus.training.progress import duration_text
from gyrus.workflows.baselines import evaluate_fold_baselines, predict_baselines, save_baseline_predictions
from gyrus.workflows.display import Display
from gyrus.workflows.ensemble import EnsembleMembers
from gyrus.workflows.evaluate import evaluate_predictions
from gyrus.workflows.experiment_config import ExperimentConfig
from gyrus.workflows.training_plan import forecast_seconds

LONGEST_FORECAST = 0.8
"""Fraction of the time left that the networks may share by forecast."""

LONGEST_MEASUREMENT = 0.4
"""Fraction of the time left that the volumes of the heads may take by forecast from those measured so far."""

FEWEST_EPOCHS = 1 / 3
"""A network is trained for this fraction of its epochs at least; if there is no time for that, it is left out."""

CLOSING = 5.0
"""Choice, scores and report take about so many times as long as the scores of the first classifier: 4.5 with 546
images, 2 candidates and 5 folds."""

FINAL = "final"
"""The choice of the classifier, in which all subjects take part; the others are named by their outer fold."""


@dataclass
class Procedure:
    """The trainings, the choice and the scores, from a plan to a classifier."""

    folder: Path
    fingerprint: Fingerprint
    plan: Plan
    settings: ExperimentConfig
    manifest: Manifest
    trainings: Trainings
    budget: Budget
    display: Display

    def run(self) -> AutoResult:
        """Carry out the plan.

        Raises:
            GyrusError: No candidate can be trained.
            KeyboardInterrupt: It was interrupted.
        """
        names = members_first([each.name for each in self.plan.used])
        measuring = [name for name in names if self.trainings.measures_heads(name)]
        first = self._first_classifier([name for name in names if name not in measuring] + measuring)
        self._baselines(first)
        self._first_score(first)
        self._measure_heads(measuring)
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
        """Train the simplest candidate on all folds, so that there is a classifier early.

        If the time is over before, the folds that have finished are the classifier.
        """
        for name in names:
            try:
                done = all(self.trainings.train(name, (fold,)) for fold in range(self.plan.folds))
            except TimeOverError:
                done = any(self.trainings.is_done(name, (fold,)) for fold in range(self.plan.folds))
                if not done:
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

    def _measure_heads(self, names: list[str]) -> None:
        """Measure the heads whose volumes are features, if that fits the time; what is measured stays in the cache.

        Args:
            names: The candidates on these volumes, which are left out together.
        """
        waiting = [name for name in names if name not in self.budget.sheet.left_out]
        if not waiting:
            return
        manifest = self.trainings.manifest(waiting[0])
        samples = manifest.table["sample"].tolist()
        share, step = LONGEST_MEASUREMENT * self.budget.left, 2 * current_executor().places
        began = self.budget.spent
        with self.display.progress("Measure heads") as advance:
            for done in range(0, len(samples), step):
                measure_heads(manifest.select(samples[done : done + step]))
                finished = min(done + step, len(samples))
                advance(finished, len(samples))
                needed = (self.budget.spent - began) * len(samples) / finished
                if needed > share:
                    reason = (
                        f"measuring the volumes of {len(samples)} heads would take about {duration_text(needed)}, and "
                        f"its share of the time is {duration_text(share)}"
                    )
                    for name in waiting:
                        self.trainings.leave_out(name, reason)
                    return

    def _fit_epochs(self, networks: list[str]) -> None:
        """Fit the epochs of networks to the time by a forecast from a few steps; leave out those that cannot fit."""
        waiting = [name for name in networks if not self.trainings.is_done(name, (0,))]
        for place, name in enumerate(waiting):
            if name in self.budget.sheet.left_out or name in self.budget.sheet.epochs:
                continue
            settings = self.trainings.settings(name)
            pieces = self._pieces
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
                self.trainings.leave_out(name, reason)
                continue
            self.budget.update(epochs={**self.budget.sheet.epochs, name: epochs})
            self._say(f"{name} is trained for {epochs} of {settings.training.epochs} epochs, to fit the time")

    @property
    def _pieces(self) -> int:
        """Trainings of a candidate that takes part to the end."""
        return len(planned_pieces(self.plan.folds, self.plan.outer, several=True))

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
        found = self.trainings.answers(name, left_out, fold, trainings=self._pieces)
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
            if self._fits(remaining):
                return True
            # Before the first fold the simplest candidate leads, which has been trained already.
            leaders = {race.leader or next(iter(race.running), None) for race in races.values()}
            needed = {name: self.budget.forecast({name: count}) for name, count in remaining.items()}
            slow = [name for name in remaining if needed[name] > 0 and name not in leaders]
            if not slow:
                upcoming = {name: [folds[number]] for name, folds in contexts.items() if number < len(folds)}
                return self._fits(self._remaining(races, upcoming, 0))
            slowest = max(slow, key=lambda name: needed[name])
            reason = (
                f"its remaining trainings would take about {duration_text(needed[slowest])}, and "
                f"{duration_text(max(1.0, self.budget.left))} are left"
            )
            self.trainings.leave_out(slowest, reason)
            for race in races.values():
                race.withdraw(slowest)

    def _fits(self, trainings: Mapping[str, int]) -> bool:
        """Whether so many trainings of each candidate fit the time by forecast; what has been trained needs none."""
        return self.budget.forecast(trainings) <= max(self.budget.left, 0.0)

    def _remaining(
        self, races: Mapping[str, Race], contexts: Mapping[str, list[tuple[Folds, int]]], number: int
    ) -> dict[str, int]:
        """Trainings that each candidate still needs."""
        pieces: dict[str, set[Folds]] = {}
        for context, folds in contexts.items():
            for name in races[context].running:
                pieces.setdefault(name, set()).update(left_out for left_out, _ in folds[number:])
        return {
            name: sum(not self.trainings.is_done(name, left_out) for left_out in each) for name, each in pieces.items()
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

    def _first_score(self, name: str) -> None:
        """Score the first classifier, and forecast from the time of that how long choice, scores and report take."""
        if self.budget.sheet.closing or self.budget.left <= 0:
            return
        began = self.budget.spent
        tables, _ = self._outer_predictions(Selection(name, name, "the first", {}, {}), {})
        _, evaluation, baselines = self._evaluate(tables)
        self.budget.update(closing=CLOSING * (self.budget.spent - began))
        for sentence in against_best_baseline(evaluation, baselines, self.plan.metric):
            self._say(f"{name} by cross-validation: {sentence}")

    def _evaluate(self, tables: Mapping[int, Predictions]) -> tuple[Predictions, Evaluation, Baselines | None]:
        """The predictions for all folds as one table, and its scores, also those of the baselines.

        Args:
            tables: The predictions for the subjects of each fold.
        """
        tested = join_folds(list(tables.values()))
        if self._pools(tested):
            tested = labelled_rows(tested, "subject")
        settings, seed = self.settings.evaluation, self.settings.seed
        evaluation = evaluate_predictions(tested, settings, seed=seed)
        saved = [Run(self.folder / "baselines" / self._fold_name(fold)) for fold in tables]
        return tested, evaluation, evaluate_fold_baselines(saved, Run(self.folder), tested, settings, seed=seed)

    def _tested_folds(self) -> list[int]:
        return [GIVEN] if self.plan.outer == "given" else list(range(self.plan.folds))

    def _fold_name(self, fold: int) -> str:
        return "given" if fold == GIVEN else f"fold-{fold}"

    def _score(self, final: Selection, outer: Mapping[str, Selection]) -> AutoResult:
        """Score the procedure on subjects that took no part in its choices, and write everything."""
        tables, notes = self._outer_predictions(final, outer)
        if len(final.rounds) < self.plan.folds:
            notes = (
                *notes,
                f"The time was over after {len(final.rounds)} of {self.plan.folds} inner folds, so the choice is less "
                "certain. Give more --minutes in a new folder.",
            )
        tested, evaluation, baselines = self._evaluate(tables)
        plain = "cross-validation" if len(final.rounds[-1].scores) == len(final.rounds[0].scores) == 1 else "chosen"
        scored = "given test set" if self.plan.outer == "given" else "nested" if outer else plain
        choices = Choices(final, dict(outer), scored, notes)
        evaluation = replace(evaluation, notes=(*evaluation.notes, *_notes(scored), *notes))
        folder = Run(self.folder)
        tested.save(folder.predictions("test"))
        evaluation.save(folder.metrics)
        choices.save(self.folder / "selection.json")
        self._finish_classifier(tested, evaluation)
        self.budget.update()
        result = AutoResult(self.folder, self.fingerprint, self.plan, choices, evaluation, baselines, self.budget.spent)
        write_text(self.folder / "classification_report.txt", evaluation.text(baselines))
        write_auto_report(self.folder, make_page(result, tested, self.trainings.fold_of, self.budget))
        return result

    def _outer_predictions(
        self, final: Selection, outer: Mapping[str, Selection]
    ) -> tuple[dict[int, Predictions], tuple[str, ...]]:
        """The predictions of the chosen classifiers for subjects that they have never seen, by fold."""
        if self.plan.outer == "given":
            singles = [(fold,) for fold in range(self.plan.folds)]
            return {GIVEN: self._mean(final, singles, GIVEN)}, ()
        if not outer:
            done = [fold for fold in range(self.plan.folds) if self._is_done(final, fold)]
            return {fold: self._mean(final, [(fold,)], fold) for fold in done}, ()
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
                tables.append(labelled_rows(found, "subject") if self._pools(found) else found)
                weights.append(weight / len(done))
        return average_predictions(tables, weights)

    def _is_done(self, selection: Selection, fold: int) -> bool:
        """Whether all members have been trained without a fold."""
        return all(self.trainings.is_done(name, (fold,)) for name in selection.members)

    def _pools(self, predictions: Predictions) -> bool:
        """Whether images of a subject are one row of the scores: not after a split by image."""
        return predictions.subjects_known and self.settings.split.unit == "subject"

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

    def _say(self, text: str) -> None:
        self.display.say(f"{self.trainings.clock()} {text}")


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
