"""Fill a reporting checklist from a run."""

from __future__ import annotations

from pathlib import Path

from gyrus.datasets.manifest import Manifest
from gyrus.errors import ConfigError, RunError
from gyrus.files import write_text
from gyrus.reporting.checklist import Checklist, fill
from gyrus.reporting.number_checklist import fill_numbers
from gyrus.runs.run_folder import Run


def checklist(run: Run | str | Path, standard: str = "tripod-ai", *, out: str | Path | None = None) -> Checklist:
    """Fill a reporting checklist with what a finished run shows.

    Args:
        run: The run or its folder.
        standard: ``tripod-ai`` (TRIPOD+AI 2024) or ``claim`` (CLAIM 2024).
        out: File to write, ``.md`` or ``.docx``; None for none.

    Raises:
        RunError: There is no finished run, or its classifier has no network.
        ConfigError: The ending of ``out`` is another one.
        MissingDependencyError: python-docx is needed and not installed.
    """
    run = run if isinstance(run, Run) else Run.open(Path(run))
    path = None if out is None else Path(out)
    if path is not None and path.suffix.lower() not in (".md", ".docx"):
        raise ConfigError(f"A checklist is written as .md or .docx, not as '{path.name}'. Give --out checklist.md.")
    if not run.has_network:
        raise RunError(f"Checklists are filled for networks; the run in {run.folder} has none.")
    number = Manifest.load(run.manifest).target.is_number
    filled = fill_numbers(run, standard) if number else fill(run, standard)
    if path is not None and path.suffix.lower() == ".docx":
        filled.save_docx(path)
    elif path is not None:
        write_text(path, filled.markdown())
    return filled
