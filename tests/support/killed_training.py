"""Trainings that are hit by a signal, each in its own process: ``python -m tests.support.killed_training FOLDER``.

All of them train on the CPU. One import serves all: each is forked off before PyTorch has started a thread.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from gyrus.training.fit import fit
from tests.support.toy import CLASSES, ActingDataset, tiny_net
from tests.support.toy_training import CONFIG, SEED, subsets


def train_until_signal(folder: Path, number: int) -> None:
    """Train; in the third epoch, before its fourth batch, the process sends itself a signal."""
    train, val = subsets()
    acting = ActingDataset(train, epoch=2, batch=3, action=lambda: os.kill(os.getpid(), number))
    fitted = fit(tiny_net(), acting, val, CONFIG, folder, classes=CLASSES, seed=SEED, progress=False)
    (folder / "stopped").write_text(fitted.stopped)


def train_until_half_written(folder: Path) -> None:
    """Train; the process is killed while it writes the third checkpoint."""
    save, written = torch.save, []

    def save_half(content: object, path: Path) -> None:
        save(content, path)
        written.append(path.name.endswith("-last.ckpt"))
        if sum(written) == 3:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save_half
    fit(tiny_net(), *subsets(), CONFIG, folder, classes=CLASSES, seed=SEED, progress=False)


def run_in_child(function: object, *arguments: object) -> int:
    """Run ``function`` in a forked process; its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        function(*arguments)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    root = Path(sys.argv[1])
    signals = {
        "kill": signal.SIGKILL,
        "interrupt": signal.SIGINT,
        "terminate": signal.SIGTERM,
        "hang-up": signal.SIGHUP,
    }
    for name, number in signals.items():
        print(name, run_in_child(train_until_signal, root / name, number), flush=True)
    print("half", run_in_child(train_until_half_written, root / "half"), flush=True)
