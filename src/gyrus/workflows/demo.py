"""The demonstration on synthetic heads: the same training, split by subject and by image."""

from __future__ import annotations

from pathlib import Path

from gyrus.runs.run_folder import Run
from gyrus.synthetic.phantom import generate
from gyrus.synthetic.phantom_layouts import write
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.split_unit_comparison import SplitUnitComparison, train_both


def demo(out: str | Path = "demo", *, seed: int = 0, display: Display = SILENT) -> SplitUnitComparison[Run]:
    """Train the baseline CNN on synthetic heads, split by subject and by image, and compare the scores.

    Args:
        out: A new folder for the data and the runs.
        seed: Seed of the synthetic heads and of training.
        display: Where progress is shown.

    Raises:
        GyrusError: The folder is not empty, or cannot be written to.
        KeyboardInterrupt: Training was interrupted.
    """
    folder = Path(out)
    display.say("1. Synthetic heads: 240 subjects with four stages of atrophy, 12 slices each.")
    data = write(generate(subjects=240, slices=12, classes=4, size=48, seed=seed), folder / "data")
    display.say("2. The baseline CNN, split by subject and, for comparison, by image.")
    return train_both(
        "dementia-baseline",
        data=data,
        out=folder / "runs",
        overrides={"preprocessing.steps.1.size": [48, 48], "training.epochs": 8, "seed": seed},
        display=display,
    )
