"""Commands that train with several processes, and the life of those that only train with process 0.

``python -m gyrus.training.worker`` is the process that Gyrus starts itself: the facts of its meeting with process 0 are
on its standard input. See :mod:`gyrus.training.distributed`.
"""

from __future__ import annotations

import functools
import json
import pickle
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from gyrus.errors import GyrusError, RunError
from gyrus.processes import Process, launched

P = ParamSpec("P")
T = TypeVar("T")

LAST_SECONDS = 2.0
"""How much longer than process 0 the others live after an error: torchrun ends all when the first has failed."""


def run_command(command: Callable[[], None]) -> None:
    """Run a command of the command line: by process 0 of torchrun or SLURM, with which the others only train.

    Args:
        command: The command; ends with SystemExit or an error.

    Raises:
        SystemExit: In the other processes, with the exit code of the command.
    """
    process = launched()
    if process.world == 1:
        command()
        return
    if process.rank:
        sys.exit(_follow(process)["code"])

    from gyrus.training.distributed import leading

    with leading(process) as team:
        try:
            command()
        except SystemExit as end:
            team.outcome = {"code": end.code if isinstance(end.code, int) else int(end.code is not None)}
            raise
        except KeyboardInterrupt:
            team.outcome = {"code": 130}
            raise
        except GyrusError:
            team.outcome = {"code": 2}
            raise
        team.outcome = {"code": 0}


def by_process_0(function: Callable[P, T]) -> Callable[P, T]:
    """Let process 0 of torchrun or SLURM run a function that trains; all processes return what it returns.

    A script that calls the function in every process then works as with one process.
    """

    @functools.wraps(function)
    def call(*args: P.args, **options: P.kwargs) -> T:
        process = launched()
        if process.world == 1:
            return function(*args, **options)

        if process.rank:
            outcome = _follow(process)
            if outcome["code"]:
                raise outcome.get("error") or RunError("The training ended in process 0 with an error.")
            return outcome["value"]

        from gyrus.training.distributed import leading

        with leading(process) as team:
            try:
                value = function(*args, **options)
            except (GyrusError, KeyboardInterrupt) as error:
                team.outcome = {"code": 2, "error": _sendable(error)}
                raise
            team.outcome = {"code": 0, "value": _sendable(value)}
            return value

    return call


def main() -> None:
    """Train with the process that has started this one."""
    import torch

    from gyrus.training.distributed import serve
    from gyrus.training.fit import follow_training

    about = json.load(sys.stdin)
    torch.set_num_threads(about["threads"])
    process = Process(**about["process"])
    try:
        serve(tuple(about["address"]), about["token"], process, follow_training)
    except RunError as error:
        if process.rank == 1:
            sys.stderr.write(f"Error: {error}\n")
        sys.exit(2)


def _follow(process: Process) -> Mapping[str, Any]:
    """Train with process 0 until its command is over; the outcome."""
    from gyrus.training.distributed import follow
    from gyrus.training.fit import follow_training

    try:
        outcome = follow(process, follow_training)
    except RunError:
        if process.rank == 1:  # one message is enough
            raise
        sys.exit(2)
    if outcome["code"]:
        time.sleep(LAST_SECONDS)
    return outcome


def _sendable(value: Any) -> Any:
    """The value, or None if it cannot be sent to another process."""
    try:
        pickle.dumps(value)
    except Exception:  # pickling raises many kinds
        return None
    return value


if __name__ == "__main__":
    main()
