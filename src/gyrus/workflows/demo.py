"""The demonstration on synthetic heads: the same training, split by subject and by image."""

from __future__ import annotations

from pathlib import Path

from gyrus.runs.run_folder import Run
from gyrus.synthetic.phantom_layouts import write
from gyrus.synthetic.phantom_lesions import generate_lesions
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.split_unit_comparison import SplitUnitComparison, train_both

SUBJECTS, SLICES, SIZE, EPOCHS = 140, 16, 32, 8


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
    display.say(f"1. Synthetic heads: {SUBJECTS} subjects, half of them with many lesions, {SLICES} slices each.")
    heads = generate_lesions(subjects=SUBJECTS, slices=SLICES, size=SIZE, seed=seed)
    data = write(heads, folder / "data")
    display.say("2. The baseline CNN, split by subject and, for comparison, by image.")
    return train_both(
        "dementia-baseline",
        data=data,
        out=folder / "runs",
        overrides={
            "preprocessing.steps.1.size": [SIZE, SIZE],
            "training.epochs": EPOCHS,
            "model.name": "baseline-cnn-dense-dropout",
            "training.optimiser.lr": 0.003,
            "split.test": 0.35,
            "evaluation.resamples": 1000,
            "evaluation.groups": [],
            "evaluation.unlike_training": False,
            "seed": seed,
        },
        display=display,
    )
