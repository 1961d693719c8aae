"""The place of this process among those that torchrun or SLURM has started for one command."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Launcher = Literal["torchrun", "srun"]


@dataclass(frozen=True)
class Process:
    """The place of a process among those that train together.

    Attributes:
        rank: Its number, from 0. Process 0 runs the command; the others only train with it.
        world: The number of processes on all machines.
        local_rank: Its number on its machine, from 0.
        local_world: The number of processes on its machine.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1


ALONE = Process()

LED = "GYRUS_LED"
"""Environment variable of process 0 while it leads the others, for itself and the processes that it starts."""


def launcher(environment: Mapping[str, str] = os.environ) -> Launcher | None:
    """What has started several processes for this command; None if it runs in one process, or if one leads already."""
    if LED in environment:
        return None
    if environment.keys() >= _TORCHRUN and int(environment["WORLD_SIZE"]) > 1:
        return "torchrun"
    return "srun" if "SLURM_PROCID" in environment and _srun_tasks(environment) > 1 else None


def launched(environment: Mapping[str, str] = os.environ) -> Process:
    """The place of this process, from the variables of torchrun or of ``srun``; :data:`ALONE` without them."""
    match launcher(environment):
        case "torchrun":
            world = int(environment["WORLD_SIZE"])
            return Process(
                rank=int(environment["RANK"]),
                world=world,
                local_rank=int(environment.get("LOCAL_RANK", 0)),
                local_world=int(environment.get("LOCAL_WORLD_SIZE", world)),
            )
        case "srun":
            world, rank = _srun_tasks(environment), int(environment["SLURM_PROCID"])
            return Process(rank, world, int(environment.get("SLURM_LOCALID", rank)), _tasks_here(environment, world))
        case _:
            return ALONE


_TORCHRUN = {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
"""Variables of torchrun, which other launchers of PyTorch set too."""


def _srun_tasks(environment: Mapping[str, str]) -> int:
    """The number of tasks that ``srun`` has started.

    A batch script has the SLURM_NTASKS of its job too, but is one process: only ``srun`` sets the variables of a step.
    """
    in_batch_script = environment.get("ENVIRONMENT") == "BATCH" and "SLURM_STEP_ID" not in environment
    tasks = environment.get("SLURM_STEP_NUM_TASKS") or ("1" if in_batch_script else environment.get("SLURM_NTASKS"))
    return int(tasks or 1)


def _tasks_here(environment: Mapping[str, str], world: int) -> int:
    """The number of tasks on this machine, from a list such as "4(x2),3" and the number of the machine in it."""
    counts: list[int] = []
    listed = environment.get("SLURM_STEP_TASKS_PER_NODE") or environment.get("SLURM_TASKS_PER_NODE") or str(world)
    for entry in listed.split(","):
        count, _, times = entry.partition("(x")
        counts += [int(count)] * int(times.rstrip(")") or 1)
    node = int(environment.get("SLURM_NODEID", 0))
    return min(counts[node] if node < len(counts) else counts[-1], world)
