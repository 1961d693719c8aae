"""Audit a data set, or the data and the split of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gyrus.audit.checks import CHECKS, run_checks
from gyrus.audit.context import gather
from gyrus.audit.findings import Findings
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.errors import ConfigError
from gyrus.files import refuse_links
from gyrus.registry import look_up
from gyrus.reporting.audit_report import write_audit
from gyrus.runs.run_folder import Run
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.load_data import scan_path

BANDS = 3
"""A number is audited as so many classes."""


@dataclass(frozen=True)
class AuditResult:
    """The result of an audit.

    Attributes:
        findings: The findings.
        page: The HTML page; the tables and figures are beside it.
    """

    findings: Findings
    page: Path


def audit(
    path: str | Path | None = None,
    *,
    split: str | Path | None = None,
    run: str | Path | None = None,
    out: str | Path | None = None,
    checks: Sequence[str] | None = None,
    maps: bool = True,
    umap: bool = False,
    seed: int = 0,
    data: DataConfig | None = None,
    display: Display = SILENT,
) -> AuditResult:
    """Find leakage, duplicates, shortcuts and images of low quality before training.

    Args:
        path: Folder, table, Parquet file, or hf:owner/name; not needed with ``run``.
        split: A split file, whose subsets are checked for leakage; by default the subsets that the data define.
        run: A run folder, whose data and split are audited.
        out: Folder for the page, findings, tables and figures; by default ``audit``, or ``RUN/audit`` with ``run``. An
            audit in the folder of a finished run is added to the report of the run.
        checks: Names of :data:`gyrus.audit.checks.CHECKS`; all by default.
        maps: Whether to draw maps of the images, which takes most of the time.
        umap: Whether to draw a UMAP map too; requires the optional dependencies ``umap``.
        seed: Seed of everything random.
        data: How to read the data.
        display: Where progress is shown.

    Raises:
        ConfigError: Neither ``path`` nor ``run`` is given, or both ``split`` and ``run``.
        UnknownNameError: There is no such check.
        DataError: The data cannot be read or are not slices, or the split belongs to other data.
        MissingDependencyError: ``umap`` is requested and not installed.
    """
    if split and run:
        raise ConfigError("Give either --split or --run, not both: a run has its own split.")
    if not path and not run:
        raise ConfigError("There is nothing to audit. Give the path of the data, or a run folder with --run.")
    for name in checks or ():
        look_up(name, CHECKS, "check")

    opened = Run.open(Path(run), finished=False) if run else None
    split_file = opened.split if opened else split
    subsets = Split.load(Path(split_file)) if split_file else None
    folder = Path(out) if out else opened.audit if opened else Path("audit")
    refuse_links(opened.folder if opened and not out else folder)  # before the measurements, which take long
    if opened and not path:
        manifest = Manifest.load(opened.manifest)
    else:
        manifest = scan_path(str(path), data, display, on_bad_file="skip")

    digest = manifest.digest
    if manifest.target.is_number:
        display.say(f"The number {manifest.target.name} is divided into {BANDS} bands with equal numbers of subjects")
        manifest = manifest.in_bands(BANDS)
    with display.progress("Measuring images") as progress:
        context = gather(manifest, split=subsets, seed=seed, progress=progress)
    title = (Path(path).name if path else manifest.root.name) or "data"
    findings = replace(run_checks(context, title=title, checks=checks), manifest_digest=digest)

    page = write_audit(folder, context, findings, maps=maps, with_umap=umap)
    if opened and not out and opened.status == "finished":
        from gyrus.reporting.number_report import report_again

        report_again(opened)
    return AuditResult(findings, page)
