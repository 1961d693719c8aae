"""``gyrus audit``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gyrus.cli.options import DataOptions
from gyrus.cli.terminal import Terminal, console

if TYPE_CHECKING:
    from gyrus.datasets.manifest import Manifest
    from gyrus.datasets.splits import Split


def audit(
    *,
    path: Annotated[
        str | None, typer.Argument(help="Folder, table, parquet file, or hf:owner/name. Not needed with --run.")
    ] = None,
    split: Annotated[Path | None, typer.Option("--split", help="Judge the parts of this split file.")] = None,
    run: Annotated[Path | None, typer.Option("--run", help="Judge the data and the split of this run folder.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for the page, the findings and the groups: audit, or with --run RUN/audit."),
    ] = None,
    check: Annotated[list[str] | None, typer.Option("--check", help="Run this check only. May be repeated.")] = None,
    maps: Annotated[
        bool, typer.Option("--maps/--no-maps", help="Draw maps of the images, which takes longest.")
    ] = True,
    with_umap: Annotated[
        bool, typer.Option("--umap", help="Also draw a UMAP map (optional dependencies: umap).")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random.")] = 0,
    reading: DataOptions,
) -> None:
    """Find out what is wrong with a data set before it is believed."""
    from gyrus.audit.checks import audit as run_checks
    from gyrus.audit.checks import gather
    from gyrus.reporting.audit_report import write_audit
    from gyrus.reporting.run_report import report_run
    from gyrus.runs.run_folder import Run

    manifest, subsets = _subject_of_audit(path, split, run, reading)
    with Terminal().progress("Looking") as progress:
        material = gather(manifest, split=subsets, seed=seed, progress=progress)
    title = Path(path).name if path else manifest.root.name
    findings = run_checks(material, title=title or "data", checks=check)
    opened = Run.open(run, finished=False) if run else None
    page = write_audit(
        out or (opened.audit if opened else Path("audit")), material, findings, maps=maps, with_umap=with_umap
    )
    if opened and out is None and opened.status == "finished":
        report_run(opened)
    console.print(findings.verdict)
    console.print(findings.text())
    console.print(f"Page: {page}")


def _subject_of_audit(
    path: str | None,
    split: Path | None,
    run: Path | None,
    reading: DataOptions,
) -> tuple[Manifest, Split | None]:
    from gyrus.datasets.manifest import Manifest
    from gyrus.datasets.scan import scan
    from gyrus.datasets.splits import Split
    from gyrus.errors import ConfigError
    from gyrus.runs.run_folder import Run

    if split and run:
        raise ConfigError("--split and --run exclude each other: a run has its own split. Give one of them.")
    if not path and not run:
        raise ConfigError("There is nothing to audit. Give the path of the data, or a run folder with --run.")
    opened = Run.open(run, finished=False) if run else None
    subsets = Split.load(opened.split) if opened else Split.load(split) if split else None
    if opened and not path:
        return Manifest.load(opened.manifest), subsets
    with Terminal().progress("Reading") as progress:
        manifest = scan(
            str(path),
            **reading.fields(),
            progress=progress,
        )
    return manifest, subsets
