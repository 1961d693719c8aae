"""The trainings of ``gyrus auto``: each candidate without one fold or two, as ordinary run folders."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from gyrus.auto.budget import Budget, Deadline
from gyrus.auto.candidates import CANDIDATES
from gyrus.auto.plan import Plan
from gyrus.datasets.manifest import VOLUME_FILES, Manifest
from gyrus.datasets.splits import Split, SplitConfig, kfold, split_off
from gyrus.errors import GyrusError
from gyrus.inference.predictions import Predictions
from gyrus.runs.run_folder import Run
from gyrus.text import first_line
from gyrus.training.progress import duration_text
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.experiment_config import ExperimentConfig, load_config
from gyrus.workflows.load_data import scan_to_train
from gyrus.workflows.train import finish_run, train_on_split

Folds = tuple[int, ...]
GIVEN = -1
"""The fold of the test set that the data define."""


SLACK = 1.5
"""The first training of a candidate may take so many times its share of the time: it also decodes the images."""


class TimeOverError(Exception):
    """The time for trainings is over."""


class Trainings:
    """Trains candidates on all but some folds, and keeps what was trained."""

    def __init__(
        self, folder: Path, plan: Plan, settings: ExperimentConfig, manifest: Manifest, budget: Budget, display: Display
    ) -> None:
        """Assign the subjects to folds.

        Args:
            folder: Receives the run folders.
            plan: The plan.
            settings: How the data are read and split.
            manifest: The data, as they are read without stacks.
            budget: The time.
            display: Where progress is shown.

        Raises:
            SplitError: Subjects are unknown, or there are fewer than folds.
        """
        self.folder, self._plan, self._budget, self._display = folder, plan, budget, display
        self._split_config = settings.split.model_copy(update={"method": "kfold", "folds": plan.folds})
        self._seed = settings.seed
        self.fold_of = assign_folds(manifest, self._split_config, seed=settings.seed, given=plan.outer == "given")
        self._manifests: dict[str, Manifest] = {settings.data.model_dump_json(): manifest}

    def settings(self, name: str) -> ExperimentConfig:
        """The config of a candidate, with as many epochs as the time allows."""
        config = next(each for each in self._plan.candidates if each.name == name).settings
        epochs = self._budget.sheet.epochs.get(name)
        return load_config(config, {"training.epochs": epochs}) if epochs else config

    def manifest(self, name: str) -> Manifest:
        """The data as a candidate reads them."""
        settings = self.settings(name)
        key = settings.data.model_dump_json()
        if key not in self._manifests:
            self._manifests[key] = scan_to_train(settings, SILENT)
        return self._manifests[key]

    def measures_heads(self, name: str) -> bool:
        """Whether a candidate uses volumes of whole heads, which are measured once for all trainings."""
        options = self.settings(name).model.classical
        return options is not None and "volumes" in options.features and VOLUME_FILES in self.manifest(name).table

    def split(self, name: str, left_out: Folds) -> Split:
        """The split of a candidate's data whose test set is some folds, and the given test set."""
        test = {unit for unit, fold in self.fold_of.items() if fold in (*left_out, GIVEN)}
        return split_off(self.manifest(name), self._split_config, test, seed=self._seed)

    def place(self, name: str, left_out: Folds) -> Run:
        """The run folder of a training."""
        return Run(self.folder / name / ("without-" + "-".join(map(str, left_out))))

    def is_done(self, name: str, left_out: Folds) -> bool:
        """Whether a training has finished."""
        run = self.place(name, left_out)
        return run.exists and run.status == "finished"

    def averaged(self, names: Sequence[str]) -> list[str]:
        """The candidates that can be averaged in one prediction: most of those that read the same samples."""
        groups: dict[str, list[str]] = {}
        for name in names:
            settings = self.settings(name)
            read = settings.data.model_dump_json(include={"stack", "slices", "table_columns"})
            groups.setdefault(f"{read} {settings.model.classical is None}", []).append(name)
        return max(groups.values(), key=len)

    def train(self, name: str, left_out: Folds, *, trainings: int = 1) -> Run | None:
        """Train a candidate on all but some folds, or take what an earlier call has trained.

        Args:
            name: The candidate.
            left_out: The folds.
            trainings: How many trainings of it the time should suffice for. The first one is ended when it shows that
                they will not fit.

        Returns:
            The run; None if the candidate has to be left out: it fails, or takes too long.

        Raises:
            TimeOverError: The time is over, or would probably be before the training ends.
            KeyboardInterrupt: The user interrupted it.
        """
        place = self.place(name, left_out)
        if self.is_done(name, left_out):
            return place
        if name in self._budget.sheet.left_out:
            return None
        if self._budget.left <= 0 or self._budget.forecast({name: 1}) > self._budget.left:
            raise TimeOverError
        is_first = self._budget.expected(name) is None and trainings > 1
        limit = SLACK * self._budget.left / trainings if is_first else self._budget.left
        began = time.monotonic()
        deadline = Deadline(limit)
        try:
            with deadline:
                run = finish_run(place.folder, lambda: self._start(name, left_out, place.folder), display=SILENT)
        except KeyboardInterrupt:
            if not deadline.is_over:
                self._budget.update()
                raise
            if not is_first:
                raise TimeOverError from None
            took = duration_text(limit)
            self.leave_out(name, f"its first training took longer than {took}, and {trainings} would not fit the time")
            return None
        except GyrusError as error:
            self.leave_out(name, f"it cannot be trained: {first_line(error)}")
            return None
        self._budget.record(name, "-".join(map(str, left_out)), time.monotonic() - began)
        return run

    def answers(self, name: str, left_out: Folds, fold: int, *, trainings: int = 1) -> Predictions | None:
        """The predictions for the subjects of one of the folds that a training left out; None as for :meth:`train`."""
        run = self.train(name, left_out, trainings=trainings)
        if run is None:
            return None
        predictions = Predictions.load(run.predictions("test"))
        by_subject = self._split_config.unit == "subject"
        units = predictions.independent_units if by_subject else predictions.table["sample"]
        return predictions.select(np.flatnonzero([self.fold_of.get(str(unit)) == fold for unit in units]))

    def _start(self, name: str, left_out: Folds, folder: Path) -> Run:
        settings = self.settings(name)
        # The predictions of all folds are scored together. Only runs that may become members of the classifier need a
        # reference of their training data.
        changes = {
            "report": False,
            "resamples": 0,
            "baselines": False,
            "shuffled_labels": False,
            "unlike_training": settings.evaluation.unlike_training and len(left_out) == 1,
        }
        settings = settings.model_copy(update={"evaluation": settings.evaluation.model_copy(update=changes)})
        return train_on_split(self.manifest(name), self.split(name, left_out), settings, out=folder, display=SILENT)

    def leave_out(self, name: str, reason: str) -> None:
        """Leave a candidate out, and show why."""
        self._budget.leave_out(name, reason)
        self._display.say(f"{self.clock()} {name} is left out: {reason}")

    def clock(self) -> str:
        """The time used, for messages."""
        return f"[{duration_text(self._budget.spent)} of {duration_text(self._budget.total)}]"


def assign_folds(manifest: Manifest, config: SplitConfig, *, seed: int, given: bool) -> dict[str, int]:
    """The fold of each subject, or of each sample after a split by image; :data:`GIVEN` in a given test set.

    Args:
        manifest: The data.
        config: The unit, the number of folds and the columns to balance.
        seed: Used if the config has none.
        given: Whether the data define a test set that takes no part in the folds.

    Raises:
        SplitError: Subjects are unknown, or there are fewer than folds.
        LeakageError: Subjects of the given test set are also in another subset.
    """
    column = "subject" if config.unit == "subject" else "sample"
    table = manifest.table
    rest, fold_of = manifest, dict[str, int]()
    if given:
        inside = set(table.loc[table["subset"] == "test", column])
        fold_of = dict.fromkeys(inside, GIVEN)
        rest = manifest.select(table.loc[~table[column].isin(inside), "sample"].tolist())
    for fold, each in enumerate(kfold(rest, config, seed=seed)):
        units = each.subjects["test"] if column == "subject" else each.samples["test"]
        fold_of |= dict.fromkeys(units, fold)
    return fold_of


def title_of(name: str) -> str:
    """A candidate in words."""
    return CANDIDATES[name].title if name in CANDIDATES else "Weighted mean of several candidates"


def members_first(names: Sequence[str]) -> list[str]:
    """Candidates in the order of their simplicity."""
    return sorted(names, key=lambda name: CANDIDATES[name].simplicity)
