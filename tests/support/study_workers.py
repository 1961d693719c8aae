"""Two workers share a study, and one dies: ``python -m tests.support.study_workers DATA OUT STORAGE TRIALS``.

Both share one import: they are forked before PyTorch starts any thread.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import optuna

from gyrus.tuning.tune import tune
from tests.support.tiny_study import TINY, tiny_study

DIES_IN = 2
"""The doomed worker dies in its second trial, in the second epoch."""


def work(data: str, out: str, storage: str, trials: int, *, doomed: bool) -> None:
    if doomed:
        _die_in_second_trial()
    study = tiny_study(trials, storage=storage, lost_after=3.0, seed=1)
    tune("dementia-baseline", study=study, data=data, out=out, overrides={**TINY, "training.epochs": 3})


def _die_in_second_trial() -> None:
    started: set[int] = set()
    report = optuna.trial.Trial.report

    def report_or_die(self: optuna.trial.Trial, value: float, step: int) -> None:
        started.add(self.number)
        if len(started) == DIES_IN and step == 1:
            Path(sys.argv[2]).with_suffix(".killed").write_text(str(self.number))
            os.kill(os.getpid(), signal.SIGKILL)
        report(self, value, step)

    optuna.trial.Trial.report = report_or_die


def fork(*arguments: object, doomed: bool) -> int:
    child = os.fork()
    if child == 0:
        try:
            work(*arguments, doomed=doomed)
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    return child


if __name__ == "__main__":
    data, out, storage, trials = sys.argv[1:]
    children = [fork(data, out, storage, int(trials), doomed=doomed) for doomed in (True, False)]
    for child in children:
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
