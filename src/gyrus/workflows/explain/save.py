"""What an explanation leaves behind: maps in their own pixels, means, regions, checks, and the page."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from gyrus.errors import GyrusError
from gyrus.explanation.attribution import Attribution, MethodSpec, scaled
from gyrus.explanation.background_reliance import swap_backgrounds
from gyrus.explanation.checks import ExplanationChecks, MethodReport, as_table
from gyrus.explanation.coordinates import to_volume
from gyrus.explanation.explanation_folder import DisplayedMaps, ExplanationFolder, MeanMaps
from gyrus.explanation.localisation import region_table
from gyrus.explanation.methods import METHODS
from gyrus.explanation.sanity_checks import agreement
from gyrus.explanation.targets import Target
from gyrus.files import atomic_path
from gyrus.imaging.nifti_writing import write_nifti
from gyrus.reporting.explanation_report import write_explanation
from gyrus.types import SPLIT_WARNINGS
from gyrus.workflows.explain.compute import ExplanationTask, Regions


def require_own(album: ExplanationFolder) -> None:
    """Refuse a folder that holds something else than an explanation.

    Raises:
        GyrusError: It does.
    """
    folder = album.folder
    if folder.is_dir() and any(folder.iterdir()) and not (album.is_whole or album.work.is_dir()):
        raise GyrusError(f"{folder} holds something else. Give a new folder as --out.")


def write_album(
    task: ExplanationTask,
    maps: Mapping[str, np.ndarray],
    reports: Sequence[MethodReport],
    regions: Regions | None,
    emphasis: Mapping[str, float],
) -> None:
    """Write all that is shown, in the place of an earlier explanation.

    Args:
        task: What was asked, and of what.
        maps: Of all its images, by method.
        reports: What the checks say; none where they were not run.
        regions: To tell the maps apart by, if any.
        emphasis: Power of each class's maps, if any.
    """
    asked, album = task.asked, task.album
    _clear(album)
    notes = list(dict.fromkeys([*_write_maps(task, maps, emphasis), *_statement(task)]))
    for method, values in maps.items():
        _means(task, METHODS[method], values[task.tried]).save(album.means(method))
    if regions:
        _write_regions(task, regions, maps)
    if reports:
        _scrutiny(task, maps, reports, notes).save(album.checks)
    album.save_showing(
        DisplayedMaps(
            title=task.run.title,
            grid=asked.grid,
            target=str(task.target),
            methods=asked.methods,
            shown=task.chosen.names[: task.shown],
            colours=asked.colours,
            layer=task.layer,
            emphasis=emphasis or None,
            averaged=len(task.places) - task.shown,
            notes=tuple(notes),
        )
    )
    with task.display.progress("Drawing"):
        write_explanation(album)


def _clear(album: ExplanationFolder) -> None:
    """Take an earlier explanation away; what was computed for it is kept."""
    (album.folder / "album.json").unlink(missing_ok=True)
    for name in ("maps", "means", "figures"):
        shutil.rmtree(album.folder / name, ignore_errors=True)
    for path in (album.page, album.checks, album.regions):
        path.unlink(missing_ok=True)


def _write_maps(task: ExplanationTask, maps: Mapping[str, np.ndarray], emphasis: Mapping[str, float]) -> list[str]:
    """The maps of the images that are shown, in their own pixels; and what must be known of them."""
    classes, notes = task.trained.classes, []
    probabilities = torch.from_numpy(task.logits).double().softmax(1).numpy()
    for number in range(task.shown):
        own, truth = task.chosen.own(number), task.chosen.truths[number]
        asked_class = classes[int(task.contrast.plus[number])]
        for method, values in maps.items():
            attribution = Attribution(
                sample=task.chosen.names[number],
                map=own.placement.bring(values[number]),
                image=own.pixels,
                method=method,
                target=_target_words(task.target, asked_class),
                classes=classes,
                probabilities=probabilities[number],
                truth=classes[truth] if truth >= 0 else None,
                layer=task.layer_of(method),
                is_signed=METHODS[method].is_signed,
                emphasis=emphasis.get(asked_class, 1.0),
                affine=own.affine,
                affine_is_known=own.affine_is_known,
            )
            attribution.save(task.album.attribution(method, number))
            if own.affine is not None:
                notes += _write_volume(attribution, task.album.attribution(method, number, ".nii.gz"))
    return notes


def _write_volume(attribution: Attribution, path: Path) -> list[str]:
    """The map as NIfTI, on the grid of its scan; and what must be known of that grid."""
    assert attribution.affine is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    write_nifti(to_volume(attribution.map, attribution.affine), path)
    if attribution.affine_is_known:
        return []
    spacing = " x ".join(f"{length:g}" for length in np.linalg.norm(attribution.affine[:3, :3], axis=0))
    return [
        f"The slices do not say where in the scanner they lie. The NIfTI files of their maps have voxels of {spacing} "
        "mm around the middle of the stack, first slice at the bottom; they lie over no other file."
    ]


def _means(task: ExplanationTask, spec: MethodSpec, maps: np.ndarray) -> MeanMaps:
    truths = task.chosen.truths[task.tried]
    groups = np.where(truths >= 0, truths, task.logits[task.tried].argmax(axis=1))
    present = np.unique(groups).tolist()
    heats = np.stack([scaled(one, is_signed=spec.is_signed) for one in maps])
    gray = task.chosen.gray[task.tried].astype(np.float32)
    return MeanMaps(
        tuple(task.trained.classes[k] for k in present),
        tuple(int((groups == k).sum()) for k in present),
        np.stack([gray[groups == k].mean(axis=0) for k in present]),
        np.stack([heats[groups == k].mean(axis=0) for k in present]),
    )


def _write_regions(task: ExplanationTask, regions: Regions, maps: Mapping[str, np.ndarray]) -> None:
    tables = [
        region_table(values[task.tried], regions.labels, regions.names).assign(method=method)
        for method, values in maps.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    with atomic_path(task.album.regions) as temporary:
        table[["method", *[name for name in table.columns if name != "method"]]].to_csv(
            temporary, index=False, lineterminator="\n", float_format="%.6g"
        )


def _scrutiny(
    task: ExplanationTask, maps: Mapping[str, np.ndarray], reports: Sequence[MethodReport], notes: Sequence[str]
) -> ExplanationChecks:
    tried = {method: values[task.tried] for method, values in maps.items()}
    images, seed = task.chosen.images[task.tried], task.asked.settings.seed
    return ExplanationChecks(
        title=task.run.title,
        target=str(task.target),
        images=len(images),
        people=len(np.unique(task.chosen.people[task.tried])),
        methods=tuple(reports),
        agreement=as_table(agreement(tried)),
        brain_area=float(task.brains.mean()),
        reliance=swap_backgrounds(task.model, images, task.brains, seed=seed),
        notes=tuple(notes),
    )


def _statement(task: ExplanationTask) -> list[str]:
    warning = SPLIT_WARNINGS[task.trained.split_unit]
    return [f"How the classifier was judged: {warning}."] if warning else []


def _target_words(target: Target, asked_class: str) -> str:
    """What a map is about, for its picture."""
    if target.minus is not None:
        return str(target)
    return f"{target.plus} class, {asked_class}" if target.plus in ("predicted", "true") else asked_class
