"""The table of samples that a prediction has skipped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gyrus.workflows.display import Display

if TYPE_CHECKING:
    from gyrus.datasets.manifest import Problem


def write_skipped(skipped: Sequence[Problem], out: Path, display: Display) -> None:
    """Write what was skipped beside the predictions, or remove such a table of an earlier prediction."""
    path = out.with_name(f"{out.stem}-skipped{out.suffix}")
    if not skipped:
        path.unlink(missing_ok=True)
        return
    import pandas as pd

    from gyrus.inference.predictions import write_table

    rows = [{"sample": one.sample, "kind": one.kind, "reason": one.message} for one in skipped]
    write_table(pd.DataFrame(rows).drop_duplicates(), path)
    display.say(f"{len(rows)} skipped: {path}")
