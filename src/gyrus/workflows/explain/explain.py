"""Which pixels a classifier's predictions depend on, and how far the heat maps can be relied on: :func:`explain`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gyrus.explanation.explanation_folder import ExplanationFolder
from gyrus.explanation.targets import parse_target
from gyrus.inference.predict import pick_device
from gyrus.reporting.run_report import report_run
from gyrus.runs.run_folder import Run
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.ensemble import open_runs
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.explain.compute import ExplanationTask
from gyrus.workflows.explain.config import DEMENTIA_STAGES, FORMER_PRESET, ExplainConfig, emphasis_by_class
from gyrus.workflows.explain.images import images_of_inputs, images_of_run
from gyrus.workflows.explain.save import require_explanation_folder, save_explanation
from gyrus.workflows.predict import TrainedClassifier


def explain(
    run: Run | str | Path | Sequence[Run | str | Path],
    inputs: Sequence[str | Path] = (),
    *,
    config: ExplainConfig | None = None,
    out: str | Path | None = None,
    data: DataConfig | None = None,
    display: Display = SILENT,
) -> ExplanationFolder:
    """Compute heat maps of a trained classifier, and check them.

    An interrupted call continues where it stopped when it is repeated.

    Args:
        run: The run, or its folder. With several runs, or the folder of a cross-validation, the first run is explained,
            and its maps are compared with those of the others.
        inputs: Image files, folders or tables; by default the test set of the run.
        config: The settings.
        out: The output folder: new, empty, or of an earlier explanation. By default ``explanation`` in the run folder.
        data: How to read the inputs.
        display: Where progress is shown.

    Returns:
        The folder, with the report, the maps and the checks.

    Raises:
        RunError: There is no finished run.
        ConfigError: A method, layer, target or grid is unknown.
        DataError: An image cannot be read, or labels are needed and not known.
    """
    config = config or ExplainConfig()
    if FORMER_PRESET in config.emphasis:
        display.say(f"Note: the emphasis '{FORMER_PRESET}' is called '{DEMENTIA_STAGES}' now.")
    first, *others = open_runs([run] if isinstance(run, Run | str | Path) else run)
    folder = ExplanationFolder(Path(out) if out else first.explanation)
    require_explanation_folder(folder)

    classifier, device = TrainedClassifier.load(first), pick_device(config.device)
    target = parse_target(config.target, classifier.classes)
    emphasis = emphasis_by_class(config.emphasis, classifier.classes)
    if inputs:
        candidates = images_of_inputs(classifier, inputs, data or DataConfig(), device, display)
    else:
        candidates = images_of_run(first, classifier.classes)

    task = ExplanationTask.prepare(config, first, classifier, candidates, target, folder, device, display)
    regions = task.regions
    maps = {method: task.heat_maps(method) for method in config.methods}
    reports = [task.check(method, maps[method], others) for method in config.methods] if config.checks else []

    save_explanation(task, maps, reports, regions, emphasis)
    if out is None:
        report_run(first)
    return folder
