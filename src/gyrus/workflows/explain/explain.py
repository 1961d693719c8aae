"""Which pixels a classifier's answers came from, and whether that can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gyrus.explanation.explanation_folder import ExplanationFolder
from gyrus.explanation.targets import parse_target
from gyrus.inference.predict import pick_device
from gyrus.reporting.run_report import report_run
from gyrus.runs.run_folder import Run
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.ensemble import members_of
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.explain.candidate_images import crowd_of_inputs, crowd_of_run
from gyrus.workflows.explain.compute import ExplanationTask
from gyrus.workflows.explain.config import ExplainConfig, emphasis_of
from gyrus.workflows.explain.save import require_own, write_album
from gyrus.workflows.predict import TrainedClassifier


def explain_run(
    run: Run | str | Path | Sequence[Run | str | Path],
    inputs: Sequence[str | Path] = (),
    *,
    config: ExplainConfig | None = None,
    out: str | Path | None = None,
    data: DataConfig | None = None,
    display: Display = SILENT,
) -> ExplanationFolder:
    """Heat maps of a trained classifier, and what the checks say of them.

    A call that was broken off goes on where it was when it is repeated.

    Args:
        run: The run, or its folder. Of several, or of a cross-validation, the first is explained, and the maps of the
            others are compared with its.
        inputs: Image files, folders or tables; by default the test set of the run.
        config: What is asked.
        out: The folder to write into: new, empty, or of an earlier explanation. By default ``explanation`` in the run.
        data: How to read the inputs.
        display: Where progress is shown.

    Returns:
        The folder, with the page, the maps and the checks.

    Raises:
        RunError: There is no finished run.
        ConfigError: A method, layer, target or grid is not there.
        DataError: An image cannot be read, or what is asked for needs labels that are not known.
    """
    asked = config or ExplainConfig()
    first, *others = members_of([run] if isinstance(run, Run | str | Path) else run)
    album = ExplanationFolder(Path(out) if out else first.explanation)
    require_own(album)
    trained, device = TrainedClassifier.load(first), pick_device(asked.device)
    target, emphasis = parse_target(asked.target, trained.classes), emphasis_of(asked.emphasis, trained.classes)
    if inputs:
        crowd = crowd_of_inputs(trained, inputs, data or DataConfig(), device, display)
    else:
        crowd = crowd_of_run(first, trained.classes)
    task = ExplanationTask.of(asked, first, trained, crowd, target, album, device, display)
    regions = task.regions
    maps = {method: task.maps(method) for method in asked.methods}
    reports = [task.report(method, maps[method], others) for method in asked.methods] if asked.checks else []
    write_album(task, maps, reports, regions, emphasis)
    if out is None:
        report_run(first)
    return album
