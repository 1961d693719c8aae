"""``gyrus demo``: the main job on built-in phantom data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gyrus.cli.terminal import Terminal, console


def demo(
    out: Annotated[Path, typer.Option("--out", help="A new folder for the data and the runs.")] = Path("demo"),
    seed: Annotated[int, typer.Option("--seed", help="Seed of the phantom and of training.")] = 0,
) -> None:
    """Train on synthetic heads and show what a split by person is worth.

    The same network is trained twice, split by person and by image, and both scores are shown side by side.
    """
    import gyrus
    from gyrus.synthetic.phantom import generate, write

    display = Terminal()
    display.say("1. Synthetic heads: 120 people of four stages of atrophy, 12 slices each.")
    data = write(generate(subjects=120, slices=12, classes=4, size=64, seed=seed), out / "data")
    display.say("2. The baseline CNN, split by person and, for comparison, by image.")
    comparison = gyrus.train_both(
        "dementia-baseline",
        data=data,
        out=out / "runs",
        overrides={"preprocessing.steps.1.size": [64, 64], "seed": seed},
        display=display,
    )
    console.print(comparison.text(), markup=False)
    console.print(f"Report: {comparison.report}")
