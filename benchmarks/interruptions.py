"""Kill commands, fill their disk and damage their files, and count what can be continued, what is lost, and tracebacks.

    python benchmarks/interruptions.py [--minutes 60] [--only kills disk damage] [--commands train ...]

Each trial runs a command in a process of its own on small phantom data, and is drawn at random with a fixed seed:

- kills: SIGKILL before the n-th change to the file system (a file opened for writing, created, renamed or removed), or
  after some time; then the same command, or ``gyrus train --resume``, must finish. No temporary files may be left. The
  moments are spread evenly over the whole course of each command, which an uninterrupted run of it measures first.
- disk: a limit of the size of files, or a small tmpfs where mounting is allowed (root); the command must end with one
  message and exit code 2, and finish when there is space.
- damage: a file of a run folder is missing, truncated, zeroed, of another shape or of another kind; a command that
  needs it must end with exit code 2 and name it.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.support.damage import DAMAGES

SETTINGS = {
    "preprocessing.steps.1.size": "[16,16]",
    "model.options.channels": "[4,8]",
    "model.head": "{name: mlp, options: {hidden: [8]}}",
    "training.epochs": "2",
    "training.device": "cpu",
    "evaluation.resamples": "20",
    "evaluation.baselines": "false",
}
COMMANDS = ("scan", "convert", "train", "predict", "tune", "crossval")
"""What is killed, and what gets too little space."""

SHARES = {"train": 4, "tune": 4, "crossval": 4}
"""Shares of the time; 1 for all others, which end in a second."""

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "tempfile.mkstemp", "tempfile.mkdtemp"}
"""Audit events of Python that change the file system, besides "open" for writing."""

FILES = (
    *("run.json", "config.yaml", "model.json", "preprocessing.json", "model.safetensors", "manifest.parquet"),
    *("split.json", "predictions/test.parquet", "predictions/val.parquet", "history.csv", "examples.npz"),
    *("embeddings.npz", "metrics.json", "assessment.json", "subgroups.json", "quality.csv", "environment.json"),
    *("checkpoints/last.ckpt", "checkpoints/best.ckpt"),
)


@dataclass
class Place:
    """The folder of a trial, with its own cache and folder of temporary files."""

    folder: Path
    data: Path

    def command(self, name: str) -> list[str]:
        """The words of a command."""
        out = self.folder / "out"
        settings = [word for field, value in SETTINGS.items() for word in ("--set", f"{field}={value}")]
        experiment = [
            "--recipe",
            "dementia-baseline",
            "--data",
            str(self.data),
            "--out",
            str(out),
            "--quiet",
            *settings,
        ]
        image = str(next(self.data.rglob("*.png")))
        return {
            "train": ["train", *experiment],
            "resume": ["train", "--resume", str(out), "--quiet"],
            "crossval": ["crossval", *experiment, "--folds", "2"],
            "tune": ["tune", *experiment, "--trials", "2", "--range", "training.batch_size=8|16", "--lost-after", "1"],
            "predict": ["predict", str(self.folder / "run"), image, "--out", str(out / "new.csv"), "--quiet"],
            "scan": ["data", "scan", str(self.data), "--out", str(out / "scan.parquet")],
            "convert": ["data", "convert", str(self.data), "--out", str(out), "--to", "parquet"],
        }[name]


@dataclass
class Outcome:
    """How a command ended."""

    code: int
    output: str
    seconds: float
    changes: int

    @property
    def traceback(self) -> bool:
        """Whether Python printed a traceback, or a thread did."""
        return "Traceback" in self.output


@dataclass
class Table:
    """Counts of outcomes by kind of trial."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    examples: list[str] = field(default_factory=list)
    moments: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: str, outcome: str, words: list[str], text: str = "") -> None:
        """Count a trial; bad outcomes are listed below the table."""
        self.counts[kind]["trials"] += 1
        self.counts[kind][outcome] += 1
        if outcome in ("lost", "traceback", "unnamed", "left files"):
            self.examples.append(f"{kind}: {outcome}: gyrus {' '.join(words)[:200]}\n    {text[-400:]}")

    def text(self) -> str:
        """The table, the moments of the kills, then the bad outcomes."""
        columns = list(dict.fromkeys(["trials", *(name for counts in self.counts.values() for name in counts)]))
        lines = [f"{'':34}" + "".join(f"{name:>14}" for name in columns)]
        for kind, counts in sorted(self.counts.items()):
            lines.append(f"{kind:34}" + "".join(f"{counts[name]:>14}" for name in columns))
        for kind, moments in sorted(self.moments.items()):
            lines.append(f"{kind}, % of its course: {', '.join(map(str, sorted(moments)))}")
        return "\n".join([*lines, *self.examples])


def run(
    words: list[str], place: Path, *, kill_at: int | None = None, kill_after: float | None = None, limit: int = 0
) -> Outcome:
    """Run a command in a forked process.

    Args:
        words: The command.
        place: The folder of the trial.
        kill_at: Kill it before this change to the file system, counted from 0.
        kill_after: Kill it after these seconds.
        limit: Largest size of a file in bytes; 0: none.
    """
    log, counter = place.with_name(f"{place.name}.log"), place.with_name(f"{place.name}.changes")  # not on a full disk
    for path in (log, counter):
        path.unlink(missing_ok=True)
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        _run_here(words, place, log, counter, kill_at, limit)
    ended, status = os.waitpid(child, 0 if kill_after is None else os.WNOHANG)
    while not ended:
        if kill_after is not None and time.monotonic() - started > kill_after:
            os.kill(child, signal.SIGKILL)
            kill_after = None
        time.sleep(0.02)
        ended, status = os.waitpid(child, os.WNOHANG)
    code = os.waitstatus_to_exitcode(status)
    changes = counter.stat().st_size if counter.exists() else 0
    output = log.read_text(errors="replace") if log.exists() else ""
    return Outcome(code, output, time.monotonic() - started, changes)


def _run_here(words: list[str], place: Path, log: Path, counter: Path, kill_at: int | None, limit: int) -> None:
    code = 70
    try:
        os.environ["GYRUS_CACHE"], tempfile.tempdir = str(place / "cache"), str(place / "temporary")
        (place / "temporary").mkdir(exist_ok=True)
        output = os.open(log, os.O_WRONLY | os.O_CREAT)
        os.dup2(output, 1)
        os.dup2(output, 2)
        count = os.open(counter, os.O_WRONLY | os.O_CREAT)
        changes = 0

        def watch(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal changes
            writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
            if (writes and str(place) in str(arguments[0])) or event in CHANGES:
                if changes == kill_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                changes += 1
                os.write(count, b".")

        sys.addaudithook(watch)
        if limit:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        sys.argv = ["gyrus", *words]
        from gyrus.cli.app import main

        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):  # an exception would leave this function, and the fork would go on as its parent
            sys.stdout.flush()
            sys.stderr.flush()
            place.with_name(f"{place.name}.modules").write_text("\n".join(sys.modules))
        os._exit(code)


def import_modules_of(place: Path) -> None:
    """Import what a command imported, so that the forks of this process need not."""
    for name in place.with_name(f"{place.name}.modules").read_text().split("\n"):
        with suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page


@contextmanager
def new_place(work: Path, data: Path, finished: Path, size: int = 0) -> Iterator[Place]:
    """A folder for a trial; with a size in bytes, on a small disk of its own."""
    folder = Path(tempfile.mkdtemp(dir=work))
    mounted = size and not subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    ).returncode  # fmt: skip
    try:
        if finished.exists():
            (folder / "run").symlink_to(finished)
        yield Place(folder, data)
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=False)
        shutil.rmtree(folder, ignore_errors=True)


def finish(place: Place, name: str) -> Outcome:
    """Continue an interrupted command as its messages say."""
    if name in ("convert", "predict", "scan"):
        return run(place.command(name), place.folder)
    outcome = run(place.command(name), place.folder)
    if name == "train" and outcome.code == 2 and "--resume" in outcome.output:
        outcome = run(place.command("resume"), place.folder)
        if outcome.code == 2 and "has finished" in outcome.output:
            outcome.code = 0
    return outcome


def judge(table: Table, kind: str, place: Place, name: str, first: Outcome, then: Outcome) -> None:
    """Count a trial by what the second command could do."""
    already = name == "convert" and "not an empty folder" in then.output  # it was complete before the kill
    if first.traceback or then.traceback:
        table.add(kind, "traceback", place.command(name), (first if first.traceback else then).output)
    elif then.code != 0 and not already:
        table.add(kind, "lost", place.command(name), then.output)
    elif left := [path for path in place.folder.rglob(".gyrus-*") if path.exists()]:
        table.add(kind, "left files", place.command(name), ", ".join(map(str, left)))
    else:
        table.add(kind, "continued", place.command(name))


def spread(number: int) -> float:
    """The n-th of a sequence of fractions that is even at every length: multiples of the golden ratio."""
    return (number + 0.5) * 0.6180339887498949 % 1


def kill_trials(trial: Trials) -> None:
    """SIGKILL at changes to the file system, and after some time."""
    whole: dict[str, Outcome] = {}
    for name in trial.rounds():
        with new_place(trial.work, trial.data, trial.finished) as place:
            if name not in whole:
                whole[name] = run(place.command(name), place.folder)
                if whole[name].code:
                    raise SystemExit(f"{name} fails without a kill: {whole[name].output[-2000:]}")
                continue
            if trial.random.random() < 0.7:
                kind = f"kill at a file event: {name}"
                moment = spread(len(trial.table.moments[kind]))
                first = run(place.command(name), place.folder, kill_at=int(moment * whole[name].changes))
            else:
                kind = f"kill at a time: {name}"
                moment = spread(len(trial.table.moments[kind]))
                first = run(place.command(name), place.folder, kill_after=moment * whole[name].seconds)
            trial.table.moments[kind].append(round(100 * moment))
            if first.code == 0:
                trial.table.add(kind, "ended before", place.command(name))
                continue
            judge(trial.table, kind, place, name, first, finish(place, name))


def disk_trials(trial: Trials) -> None:
    """Too little space, by a limit of the size of files or on a small disk."""
    for name in trial.rounds():
        small_disk = os.geteuid() == 0 and trial.random.random() < 0.5
        size = int(10 ** trial.random.uniform(3.5, 6.5)) if small_disk else 0
        with new_place(trial.work, trial.data, trial.finished, size) as place:
            limit = 0 if small_disk else int(10 ** trial.random.uniform(3, 5))
            first = run(place.command(name), place.folder, limit=limit)
            kind = f"{'small disk' if small_disk else 'limit of file size'}: {name}"
            if small_disk:
                subprocess.run(["mount", "-o", "remount,size=500m", str(place.folder)], check=False)
            if first.code == 2 and not first.traceback and first.output.count("Error: ") != 1:
                trial.table.add(kind, "unnamed", place.command(name), first.output)
            elif first.code == 0:
                trial.table.add(kind, "had space", place.command(name))
            else:
                judge(trial.table, kind, place, name, first, finish(place, name))


def damage_trials(trial: Trials) -> None:
    """Damaged files of a finished run, in each command that reads runs."""
    for _ in trial.rounds():
        name, (kind, damage) = trial.random.choice(FILES), trial.random.choice(sorted(DAMAGES.items()))
        with new_place(trial.work, trial.data, trial.finished) as place:
            copy, other = place.folder / "copy", str(trial.finished)
            shutil.copytree(trial.finished, copy)
            image, out = str(next(trial.data.rglob("*.png"))), str(place.folder / "out")
            commands = {
                "predict": ["predict", str(copy), image, "--out", f"{out}.csv", "--quiet"],
                "evaluate": ["evaluate", str(copy), "--resamples", "0"],
                "explain": ["explain", str(copy), "--no-checks", "--shown", "2", "--out", out, "--quiet"],
                "compare": ["compare", str(copy), other, "--out", out],
                "ensemble": ["ensemble", str(copy), other, "--out", out],
                "runs list": ["runs", "list", str(place.folder)],
                "runs show": ["runs", "show", str(copy)],
                "runs diff": ["runs", "diff", str(copy), other],
                "resume": ["train", "--resume", str(copy), "--quiet"],
            }
            if not (copy / name).exists():  # a small run has no map of its features
                continue
            command = trial.random.choice(sorted(commands))
            if command == "resume":
                facts = json.loads((copy / "run.json").read_text())
                (copy / "run.json").write_text(json.dumps(facts | {"status": "interrupted"}))
            elif name.startswith("checkpoints"):
                continue
            damage(copy / name)
            outcome = run(commands[command], place.folder)
            row = f"damage: {command}"
            if outcome.traceback or outcome.code not in (0, 2):
                trial.table.add(row, "traceback", [*commands[command], name, kind], outcome.output)
            elif outcome.code == 0:
                trial.table.add(row, "not needed", commands[command])
            elif Path(name).name in outcome.output:
                trial.table.add(row, "file named", commands[command])
            else:
                trial.table.add(row, "unnamed", [*commands[command], name, kind], outcome.output)


@dataclass
class Trials:
    """What all trials share."""

    work: Path
    data: Path
    finished: Path
    table: Table
    random: random.Random
    seconds: float
    commands: list[str]

    def rounds(self) -> Iterator[str]:
        """Commands, until the time is over: next is that which has taken the least of its share so far."""
        end, spent = time.monotonic() + self.seconds, dict.fromkeys(self.commands, 0.0)
        while (started := time.monotonic()) < end:
            name = min(spent, key=lambda each: spent[each] / SHARES.get(each, 1))
            yield name
            spent[name] += time.monotonic() - started


GROUPS = {"damage": damage_trials, "kills": kill_trials, "disk": disk_trials}


def main() -> None:
    """Run the trials and print their table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="not for damage")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # One import serves all trials, which are forked from this process.
    import gyrus.cli.app
    import gyrus.curation.convert
    import gyrus.synthetic.phantom_layouts
    from gyrus.synthetic.phantom import generate

    needs_networks = "damage" in arguments.only or set(arguments.commands) - {"scan", "convert"}
    if needs_networks:
        import gyrus.tuning.tune
        import gyrus.workflows.explain.explain

    with tempfile.TemporaryDirectory(prefix="interruptions-") as name:
        work = Path(name)
        phantom = generate(subjects=16, slices=1, classes=2, size=32, seed=0)
        data = gyrus.synthetic.phantom_layouts.write(phantom, work / "data")
        table = Table()
        seconds = 60 * arguments.minutes / len(arguments.only)
        trials = Trials(
            work, data, work / "finished", table, random.Random(arguments.seed), seconds, arguments.commands
        )
        if needs_networks:
            with new_place(work, data, work / "finished") as place:
                outcome = run(place.command("train"), place.folder)
                if outcome.code:
                    raise SystemExit(f"Training fails: {outcome.output}")
                import_modules_of(place.folder)
                shutil.move(place.folder / "out", work / "finished")
        try:
            for group in arguments.only:
                GROUPS[group](trials)
        finally:
            print(table.text(), flush=True)


if __name__ == "__main__":
    main()
