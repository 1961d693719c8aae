"""``gyrus demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.options import Quiet
from gyrus.cli.terminal import console, display_of


def demo(
    out: Annotated[Path, typer.Option("--out", help="New folder for the data and the runs.")] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the synthetic data and of training.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Train on synthetic heads, split by subject and by image.

    The same network is trained twice, once with each split. The two scores are shown side by side.
    """
    import gyrus

    comparison = gyrus.demo(out, seed=seed, display=display_of(quiet=quiet))
    console.print(comparison.text())
    console.print(f"Report: {comparison.report}")
    console.print(_next_steps(comparison.subject.folder))


def _next_steps(run: Path) -> str:
    from gyrus.text import aligned

    steps = (
        (f"{run}/report.html", "all figures of the split by subject"),
        (f"gyrus explain {run}", "heat maps: where the network looks"),
        ("gyrus audit FOLDER", "your own images: leakage, duplicates, bad images"),
        ("gyrus train --data FOLDER --out run", "train on them, and measure on unseen subjects"),
    )
    return "\n".join(["", "Next:", *(f"  {line}" for line in aligned(steps))])
