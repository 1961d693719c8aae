"""Which pixels a classifier's predictions depend on, and how far the heat maps can be relied on: :func:`explain`.

The output: maps on the original pixel grids, mean maps, regions, localisation, checks and the report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pandas as pd
import torch

from gyrus.datasets.targets import refuse_number
from gyrus.datasets.text_tables import write_csv
from gyrus.errors import ConfigError, GyrusError
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.explanation.attribution import Attribution, MeanMaps, scaled
from gyrus.explanation.background_reliance import swap_backgrounds
from gyrus.explanation.channels import ChannelMaps
from gyrus.explanation.checks import ExplanationChecks, MethodReport
from gyrus.explanation.explanation_folder import DisplayedMaps, ExplanationFolder
from gyrus.explanation.heat_map_coordinates import to_volume
from gyrus.explanation.layers import MIN_CELLS
from gyrus.explanation.localisation import Localisation
from gyrus.explanation.methods import METHODS, MethodSpec
from gyrus.explanation.randomisation_and_stability import agreement
from gyrus.explanation.regions import region_table
from gyrus.explanation.targets import Target, parse_target
from gyrus.files import refuse_links, remove_files
from gyrus.imaging.volume_formats import write_nifti
from gyrus.inference.predict import pick_device
from gyrus.models.feature_layers import FeatureBackbone
from gyrus.reporting.explanation_report import write_explanation
from gyrus.reporting.number_report import report_again
from gyrus.runs.run_folder import Run
from gyrus.text import listed
from gyrus.types import SPLIT_WARNINGS
from gyrus.workflows.classical import ClassicalClassifier, pools_images
from gyrus.workflows.classical_network import is_network
from gyrus.workflows.display import SILENT, Display, show_warnings
from gyrus.workflows.ensemble import open_runs
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.explain.compute import ExplanationTask, Regions
from gyrus.workflows.explain.config import DEFAULT, DEMENTIA_STAGES, FORMER_PRESET, ExplainConfig, emphasis_by_class
from gyrus.workflows.explain.images import images_of_inputs, images_of_run
from gyrus.workflows.explain.time_budget import OutOfTimeError, TimeBudget
from gyrus.workflows.predict import TrainedClassifier

if TYPE_CHECKING:
    from gyrus.workflows.explain.feature_contributions import FeatureContributions

Result = TypeVar("Result")

PARTS = frozenset(
    {
        "work",
        "maps",
        "means",
        "figures",
        "explanation.html",
        "checks.json",
        "explanation.json",
        "album.json",
        "regions.csv",
        "localisation.json",
        "localisation.csv",
        "channels.json",
        "channels.npz",
        "contributions.csv",
    }
)
"""Names in the folder of an explanation."""


def explain(
    run: Run | str | Path | Sequence[Run | str | Path],
    inputs: Sequence[str | Path] = (),
    *,
    config: ExplainConfig | None = None,
    out: str | Path | None = None,
    dicom_sc: str | Path | None = None,
    data: DataConfig | None = None,
    display: Display = SILENT,
) -> ExplanationFolder | FeatureContributions:
    """Compute heat maps of a trained classifier, and check them.

    For a classifier on a table or on volumes of regions, the contribution of each feature is computed instead.

    An interrupted call continues where it stopped when it is repeated.

    Args:
        run: The run, or its folder. With several runs, or the folder of a cross-validation, the first run is explained,
            and its maps are compared with those of the others.
        inputs: Image files, folders or tables; by default the test set of the run.
        config: The settings.
        out: The output folder: new, empty, or of an earlier explanation. By default ``explanation`` in the run folder.
        dicom_sc: A new folder for the maps of the displayed images as DICOM Secondary Capture; all inputs must be
            DICOM, and the run must have been trained on volumes.
        data: How to read the inputs.
        display: Where progress is shown.

    Returns:
        The folder, with the report, the maps and the checks.

    Raises:
        RunError: There is no finished run.
        ConfigError: A method, layer, target or grid is unknown.
        DataError: An image cannot be read, or labels are needed and not known.
        MissingDependencyError: ``dicom_sc`` is given and highdicom is not installed.
        BadFilesError: There are DICOM series whose headers do not allow an output; all else is written.
    """
    config = config or ExplainConfig()
    budget = TimeBudget(config.minutes, display)
    if FORMER_PRESET in config.emphasis:
        display.say(f"Note: the emphasis '{FORMER_PRESET}' is called '{DEMENTIA_STAGES}' now.")
    first, *others = open_runs([run] if isinstance(run, Run | str | Path) else run)
    folder = ExplanationFolder(Path(out) if out else first.explanation)
    require_explanation_folder(folder)
    refuse_links(folder.folder if out else first.folder)
    if not first.has_network and not is_network(ClassicalClassifier.load(first)):
        if dicom_sc is not None:
            raise ConfigError("--dicom-sc writes heat maps, and this classifier has none: its features are no pixels.")
        if config.truth is not None:
            raise ConfigError("--truth measures heat maps, and this classifier has none: its features are no pixels.")
        from gyrus.workflows.explain.feature_contributions import explain_features

        return explain_features(first, inputs, config, folder.folder, data or DataConfig(), display)
    captures = None
    if dicom_sc is not None:
        from gyrus.workflows.explain.secondary_captures import SecondaryCaptures

        captures = SecondaryCaptures(dicom_sc, folder.folder)

    classifier, device = TrainedClassifier.load(first), pick_device(config.device)
    if classifier.model.head.fusion:
        raise ConfigError(
            f"{first.folder} takes image and table together (model.fusion: {classifier.settings.model.fusion}); heat "
            f"maps of it are not supported. Explain the same network without the table: {first.image_alone}."
        )
    left_out: list[str] = []
    config = replace(config, methods=suitable_methods(config.methods, classifier))
    by_layer = any(METHODS[method].needs_layer for method in config.methods)
    if by_layer and isinstance(classifier.model.backbone, FeatureBackbone) and classifier.model.backbone.cells:
        config = replace(config, layer=config.layer or classifier.model.explain_layer())
    if classifier.target.is_number:
        _require_of_numbers(config, classifier, dicom_sc=dicom_sc is not None)
        left_out += [NO_CHECKS_OF_NUMBERS] if config.checks else []
        config = replace(config, checks=False, target=classifier.target.name)
    target = parse_target(config.target, classifier.output_names)
    emphasis = emphasis_by_class(config.emphasis, classifier.classes)
    require_usable = captures.require_usable if captures else None
    data = data or DataConfig()
    if inputs:
        candidates = images_of_inputs(classifier, inputs, data, device, display, require_usable)
    else:
        candidates = images_of_run(first, classifier)
        if require_usable:
            require_usable(candidates.manifests[0])

    task = ExplanationTask.prepare(config, first, classifier, candidates, target, folder, device, display, budget)
    regions, _ = task.regions, task.truths  # their mistakes are found before the maps are computed
    maps = _in_time(lambda method: task.heat_maps(method), config.methods, left_out)
    checked = maps if config.checks else ()
    of_channels = {}
    if task.selected.channel_pixels is not None:
        of_channels = _in_time(lambda _: task.channel_attributions(), ["channels"], left_out)
    reports = _in_time(lambda method: task.check(method, maps[method], others), checked, left_out)
    show_warnings(display, left_out)
    if not maps:
        raise GyrusError(
            f"No method fits into the time limit of {config.minutes:g} minutes. Raise --minutes, or use fewer --images "
            "or another --method; grad-cam takes one pass of the network per image."
        )
    save_explanation(
        task, maps, list(reports.values()), regions, emphasis, left_out, channels=of_channels.get("channels")
    )
    if out is None:
        report_again(first)
    if captures:
        captures.write(task, reports, skip=data.on_bad_file == "skip")
    return folder


NO_CHECKS_OF_NUMBERS = "The heat maps of a number are not checked: the checks are those of class probabilities"


def suitable_methods(methods: tuple[str, ...], classifier: TrainedClassifier) -> tuple[str, ...]:
    """The methods of a config; the default one chosen for the classifier.

    That is Grad-CAM for a network; for a linear model on means of blocks of voxels the contribution of each block; for
    others without a network integrated gradients, or occlusion where features have no gradients.

    Raises:
        ConfigError: A method needs gradients, and the classifier has none.
    """
    backbone = classifier.model.backbone
    if not isinstance(backbone, FeatureBackbone):
        return ("grad-cam",) if methods == (DEFAULT,) else methods
    linear = isinstance(classifier.model.head.classify, torch.nn.Linear)
    if backbone.differentiable and linear:
        exact = backbone.cells is not None and min(backbone.cells) >= MIN_CELLS
        return ("contributions" if exact else "integrated-gradients",) if methods == (DEFAULT,) else methods
    able = tuple(name for name, spec in METHODS.items() if spec.any_engine and not spec.needs_layer)
    if methods == (DEFAULT,):
        return ("occlusion",)
    if methods == tuple(METHODS):
        return able
    if others := [name for name in methods if name not in able]:
        raise ConfigError(
            f"Heat maps by {listed(others)} need gradients or the layers of a network, and boosted trees and random "
            f"convolutions have none. Use --method {' or '.join(able)}."
        )
    return methods


def _require_of_numbers(config: ExplainConfig, classifier: TrainedClassifier, *, dicom_sc: bool) -> None:
    """Refuse settings of an explanation that need classes.

    Raises:
        ConfigError: There is one.
    """
    target = classifier.target
    without = [name for name in config.methods if not METHODS[name].of_numbers]
    able = ", ".join(name for name, spec in METHODS.items() if spec.of_numbers)
    if without:
        refuse_number(target, f"Heat maps by {' and '.join(without)}", f"Methods for numbers: {able}.")
    if config.target not in ("predicted", target.name):
        refuse_number(target, "Heat maps for a class (--target)", "Leave out --target.")
    if config.emphasis:
        refuse_number(target, "Emphasised heat maps (--emphasis)", "Leave out --emphasis.")
    if config.grid == "class":
        refuse_number(target, "Images by class (--grid class)", "Use random, best, worst or methods.")
    if dicom_sc:
        refuse_number(target, "Heat maps as DICOM Secondary Capture", "Leave out --dicom-sc.")


def _in_time(compute: Callable[[str], Result], methods: Iterable[str], left_out: list[str]) -> dict[str, Result]:
    """The results of the methods that the time limit allows; what is left out is appended to ``left_out``."""
    results = {}
    for method in methods:
        try:
            results[method] = compute(method)
        except OutOfTimeError as error:
            left_out.append(f"{error}. To complete it, repeat the command with a higher --minutes")
    return results


def require_explanation_folder(folder: ExplanationFolder) -> None:
    """Refuse a folder that holds anything but an explanation.

    Raises:
        GyrusError: The folder holds something else.
    """
    path = folder.folder
    names = {each.name for each in path.iterdir()} if path.is_dir() else set()
    unfinished = names <= PARTS and not names.isdisjoint({"work", "contributions.csv"})
    if names and not (folder.is_finished or unfinished):
        raise GyrusError(f"{path} is not empty and holds no explanation. Give a new folder with --out.")


def save_explanation(
    task: ExplanationTask,
    maps: Mapping[str, np.ndarray],
    reports: Sequence[MethodReport],
    regions: Regions | None,
    emphasis: Mapping[str, float],
    left_out: Sequence[str] = (),
    *,
    channels: np.ndarray | None = None,
) -> None:
    """Write all output; an earlier explanation in the folder is replaced.

    Args:
        task: The settings, the network and the images.
        maps: Maps of all selected images, by method.
        reports: The checks of each method; empty if they were not run.
        regions: Regions by which the attribution is summarised, if any.
        emphasis: Power of each class's maps, if any.
        left_out: What exceeds the time limit, in words.
        channels: The attribution of each channel of all selected images (M, C, *spatial), if samples have several
            files.
    """
    config, folder = task.config, task.folder
    _remove_earlier(folder)
    notes = list(dict.fromkeys([*_write_maps(task, maps, emphasis), *_split_warning(task), *left_out]))
    for method, values in maps.items():
        _mean_maps(task, METHODS[method], values[task.checked]).save(folder.means(method))
    if regions:
        _write_regions(task, regions, maps)
    if task.truths is not None:
        _write_localisation(task, task.truths, maps)
    if channels is not None:
        _write_channels(task, channels)
    if reports:
        _explanation_checks(task, maps, reports, notes).save(folder.checks)
    folder.save_displayed(
        DisplayedMaps(
            title=task.run.title,
            grid=config.grid,
            target=str(task.target),
            methods=tuple(maps),
            shown=task.selected.names[: task.displayed],
            colours=config.colours,
            layer=task.layer,
            emphasis=emphasis or None,
            averaged=len(task.indices) - task.displayed,
            notes=tuple(notes),
        )
    )
    with task.display.progress("Drawing"):
        write_explanation(folder)


def _remove_earlier(folder: ExplanationFolder) -> None:
    """Remove the output of an earlier explanation; its computed results are kept."""
    folder.remove_displayed()
    for path in (folder.maps, folder.folder / "means", folder.figures):
        remove_files(path, (".npz", ".png", ".svg", ".nii", ".nii.gz"))
    tables = (folder.regions, folder.localisation, folder.localisation_by_image, folder.channels)
    for path in (folder.report, folder.checks, *tables, folder.channel_maps):
        path.unlink(missing_ok=True)


def _write_maps(task: ExplanationTask, maps: Mapping[str, np.ndarray], emphasis: Mapping[str, float]) -> list[str]:
    """Write the maps of the displayed images on the original pixel grids; returns notes for the reader."""
    classes, notes = task.classifier.output_names, []
    numbers = task.selected.numbers
    probabilities = torch.from_numpy(task.logits).double().softmax(1).numpy()
    if numbers is not None:
        probabilities = np.tile(np.eye(len(classes))[task.classifier.point], (len(task.logits), 1))
    for number in range(task.displayed):
        original, truth = task.selected.original(number), task.selected.truths[number]
        true_name = classes[truth] if truth >= 0 else None
        if numbers is not None and np.isfinite(numbers[number, 1]):
            true_name = f"{numbers[number, 1]:g}"
        target_class = classes[int(task.contrast.plus[number])]
        for method, values in maps.items():
            attribution = Attribution(
                sample=task.selected.names[number],
                map=original.placement.to_original(values[number]),
                image=original.pixels,
                method=method,
                target=_describe_target(task.target, target_class),
                classes=classes,
                probabilities=probabilities[number],
                truth=true_name,
                layer=task.layer_of(method),
                is_signed=METHODS[method].is_signed,
                emphasis=emphasis.get(target_class, 1.0),
                affine=original.affine,
                affine_is_known=original.affine_is_known,
                number=None if numbers is None else float(numbers[number, 0]),
            )
            attribution.save(task.folder.attribution(method, number))
            if original.affine is not None:
                notes += _write_volume(attribution, task.folder.attribution(method, number, ".nii.gz"))
    return notes


def _write_volume(attribution: Attribution, path: Path) -> list[str]:
    """Write the map as NIfTI on the grid of its scan; returns a note where that grid is not known."""
    assert attribution.affine is not None
    write_nifti(to_volume(attribution.map, attribution.affine), path)
    if attribution.affine_is_known:
        return []
    spacing = " x ".join(f"{length:g}" for length in np.linalg.norm(attribution.affine[:3, :3], axis=0))
    return [
        f"The position of the slices in the scanner is unknown. The NIfTI files of the maps use voxels of {spacing} mm "
        "centred on the middle of the stack, with the first slice at the bottom. They do not align with other files."
    ]


def _mean_maps(task: ExplanationTask, spec: MethodSpec, maps: np.ndarray) -> MeanMaps:
    truths = task.selected.truths[task.checked]
    predicted = task.logits[task.checked].argmax(axis=1)
    if task.selected.numbers is not None:
        predicted = np.full(len(truths), task.classifier.point)
    groups = np.where(truths >= 0, truths, predicted)
    present = np.unique(groups).tolist()
    heat = np.stack([scaled(values, is_signed=spec.is_signed) for values in maps])
    gray = task.selected.gray[task.checked].astype(np.float32)
    return MeanMaps(
        tuple(task.classifier.output_names[k] for k in present),
        tuple(int((groups == k).sum()) for k in present),
        np.stack([gray[groups == k].mean(axis=0) for k in present]),
        np.stack([heat[groups == k].mean(axis=0) for k in present]),
    )


def _write_regions(task: ExplanationTask, regions: Regions, maps: Mapping[str, np.ndarray]) -> None:
    tables = [
        region_table(values[task.checked], regions.labels, regions.names).assign(method=method)
        for method, values in maps.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    columns = ["method", *[name for name in table.columns if name != "method"]]
    write_csv(table[columns], task.folder.regions, float_format="%.6g")


def _write_localisation(task: ExplanationTask, truths: np.ndarray, maps: Mapping[str, np.ndarray]) -> None:
    table = task.localisation_table(maps, truths)
    write_csv(table, task.folder.localisation_by_image, float_format="%.6g")
    subjects = [manifest.table["subject"].iloc[0] for manifest in task.selected.manifests[task.checked]]
    Localisation.from_table(
        table,
        target=str(task.target),
        without_truth=len(truths) - table["sample"].nunique(),
        unit="image" if pd.isna(subjects).any() else "subject",
        bootstrap=BootstrapConfig(seed=task.config.settings.seed),
    ).save(task.folder.localisation)


def _write_channels(task: ExplanationTask, attributions: np.ndarray) -> None:
    task.channel_report(attributions).save(task.folder.channels)
    pixels = task.selected.channel_pixels
    assert pixels is not None
    shown = slice(task.displayed)
    names = tuple(task.classifier.settings.data.channels)
    ChannelMaps(task.selected.names[shown], names, pixels[shown], attributions[shown]).save(task.folder.channel_maps)


def _explanation_checks(
    task: ExplanationTask, maps: Mapping[str, np.ndarray], reports: Sequence[MethodReport], notes: Sequence[str]
) -> ExplanationChecks:
    images = task.selected.images[task.checked]
    similarities = agreement({report.method: maps[report.method][task.checked] for report in reports})
    return ExplanationChecks(
        title=task.run.title,
        target=str(task.target),
        images=len(images),
        subjects=len(np.unique(task.selected.subjects[task.checked])),
        methods=tuple(reports),
        agreement=tuple(map(tuple, similarities.tolist())),
        brain_area=float(task.brains.mean()),
        reliance=swap_backgrounds(task.network, images, task.brains, seed=task.config.settings.seed),
        notes=tuple(notes),
    )


def _split_warning(task: ExplanationTask) -> list[str]:
    warning = SPLIT_WARNINGS[task.classifier.split_unit]
    notes = [f"Evaluation of the classifier: {warning}."] if warning else []
    if isinstance(task.model.backbone, FeatureBackbone) and any(
        pools_images(manifest, task.classifier.split_unit) for manifest in task.candidates.manifests
    ):
        notes.append(
            "The classifier answers for all images of a subject together. Each heat map is of one image as if it were "
            "the only one."
        )
    return notes


def _describe_target(target: Target, target_class: str) -> str:
    """What a map is about, for its caption."""
    if target.minus is not None:
        return str(target)
    return f"{target.plus} class, {target_class}" if target.plus in ("predicted", "true") else target_class
