"""Trainings that are hit by a signal, each in its own process: ``python -m tests.support.killed_training FOLDER``.

One import serves all of them: each is forked off before PyTorch has started any thread.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from gyrus.training.fit import fit
from tests.support.toy import CLASSES, HitPart, tiny_net
from tests.support.toy_training import CONFIG, SEED, subsets


def train_until_hit(folder: Path, number: int) -> None:
    """Train; in the third epoch, before its fourth batch, the process sends itself a signal."""
    train, val = subsets()
    hit = HitPart(train, epoch=2, batch=3, action=lambda: os.kill(os.getpid(), number))
    fitted = fit(tiny_net(), hit, val, CONFIG, folder, classes=CLASSES, seed=SEED, progress=False)
    (folder / "stopped").write_text(fitted.stopped)


def train_until_half_written(folder: Path) -> None:
    """Train; the process dies in the middle of writing the third checkpoint."""
    save, written = torch.save, []

    def save_half(content: object, path: Path) -> None:
        save(content, path)
        written.append(path.name.startswith(".last.ckpt"))
        if sum(written) == 3:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = save_half
    fit(tiny_net(), *subsets(), CONFIG, folder, classes=CLASSES, seed=SEED, progress=False)


def in_a_child(work: object, *arguments: object) -> int:
    """Run ``work`` in a forked process; its exit code, negative for a signal."""
    child = os.fork()
    if child == 0:
        work(*arguments)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    root = Path(sys.argv[1])
    for name, number in (("kill", signal.SIGKILL), ("interrupt", signal.SIGINT), ("terminate", signal.SIGTERM)):
        print(name, in_a_child(train_until_hit, root / name, number), flush=True)
    print("half", in_a_child(train_until_half_written, root / "half"), flush=True)
