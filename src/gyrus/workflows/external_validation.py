"""External validation: a finished run on another cohort, in one command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from gyrus.datasets.copies import shared_contents
from gyrus.datasets.identifiers import comparable_label, match_identifiers
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.splits import Split
from gyrus.datasets.store import open_store
from gyrus.datasets.text_tables import write_csv
from gyrus.errors import ConfigError, DataError, GyrusError
from gyrus.evaluation.assessment import Assessment
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.external_validation import (
    ExternalValidation,
    SetAside,
    validate_externally,
    wanted_sizes,
)
from gyrus.evaluation.result import Evaluation
from gyrus.evaluation.subgroups import evaluate_subgroups
from gyrus.files import make_folder, require_empty, temporary_folder, write_text
from gyrus.inference.predict import pick_device, predict_embeddings, predict_with_tta
from gyrus.inference.predictions import Predictions
from gyrus.inference.unlike_training import NO_REFERENCE, likeness_columns, measure_images, summarise_likeness
from gyrus.reporting.external_report import report_external
from gyrus.runs.run_folder import Run
from gyrus.types import SUBSETS
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.evaluate import evaluate_predictions, group_columns
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.likeness import with_likeness
from gyrus.workflows.load_data import scan_data
from gyrus.workflows.predict import TrainedClassifier

SameIds = Literal["set-aside", "keep"]
"""Subjects whose identifier is in both data sets: the same people, or a coincidence of two numberings."""


def external_validation(
    run: Run | str | Path,
    cohort: str | Path,
    *,
    out: str | Path,
    data: DataConfig | None = None,
    class_map: Mapping[str, str] | None = None,
    same_ids: SameIds = "set-aside",
    by_image: bool = False,
    width: float = 0.1,
    device: str = "auto",
    resamples: int | None = None,
    display: Display = SILENT,
) -> ExternalValidation:
    """Evaluate a finished run on another cohort. Nothing is chosen on the cohort.

    Subjects who are also in the data of the run are set aside. Writes ``report.html``, ``external_validation.json``,
    ``predictions.parquet`` and ``set_aside.csv``.

    Args:
        run: A finished run.
        cohort: Folder or table with labels.
        out: The folder to write into, new or empty.
        data: How to read the cohort.
        class_map: Class of the run by class of the cohort, where names differ.
        same_ids: "set-aside", or "keep" if identifiers of the two data sets have nothing to do with each other.
        by_image: Accept a cohort whose subjects are unknown; every result then says so.
        width: Wanted width of intervals, for the number of subjects that is needed.
        device: "auto", "cpu", "cuda" or "mps".
        resamples: Bootstrap resamples; by default as in the run.
        display: Where progress is shown.

    Raises:
        RunError: There is no finished run.
        DataError: The cohort cannot be read, its subjects are unknown, or nobody is left.
        ConfigError: A class of the cohort is no class of the run.
    """
    if not 0 < width < 1:
        raise ConfigError(f"--width must lie between 0 and 1, got {width:g}. 0.1 is usual.")
    run = run if isinstance(run, Run) else Run.open(Path(run))
    out = Path(out)
    require_empty(out, "Give a new folder with --out.")
    trained = TrainedClassifier.load(run)
    reading = trained.reading(data or DataConfig()).model_copy(update={"path": str(cohort)})
    manifest = _with_classes_of(trained, trained.require_dimensions(scan_data(reading, display)), class_map or {})
    if manifest.table["subject"].isna().any() and not by_image:
        unknown = int(manifest.table["subject"].isna().sum())
        raise DataError(
            f"The subject of {unknown} of {len(manifest)} images of the cohort is unknown, so intervals would be too "
            "narrow, and people of the training data cannot be found by name. Give --subject-pattern or a table with a "
            "column subject, or accept this with --by-image."
        )
    known, split = Manifest.load(run.manifest), Split.load(run.split)
    found, compared = _people_in_both(manifest, known, split, same_ids, display)
    names = _units(manifest)
    kept = manifest.table["sample"][~names.isin({each.subject for each in found})].tolist()
    if not kept:
        raise DataError("Every subject of the cohort is in the data of the run: nobody is left to evaluate.")
    manifest = manifest.select(kept)
    predictions, reference = _predict(trained, manifest, device, display)
    settings = trained.settings.evaluation
    settings = settings if resamples is None else settings.model_copy(update={"resamples": resamples})
    internal, test = Evaluation.load(run.metrics), Predictions.load(run.predictions("test"))
    external = evaluate_predictions(predictions, settings, seed=trained.settings.seed)
    bootstrap = BootstrapConfig(settings.resamples, trained.settings.seed, settings.level)
    fields: dict[str, Any] = validate_externally(
        internal, test, external, predictions, Assessment.load(run.assessment), bootstrap
    )
    columns = group_columns(manifest, pd.DataFrame(index=pd.Index([], dtype="str", name="sample")), None)
    notes = [*fields.pop("notes"), *_notes(internal, compared=compared, by_id=_only_ids(found), reference=reference)]
    result = ExternalValidation(
        run=run.title,
        cohort=Path(str(cohort)).name,
        internal=internal,
        external=external,
        set_aside=found,
        pixels_compared=compared,
        groups=evaluate_subgroups(predictions, columns, bootstrap=bootstrap),
        likeness=summarise_likeness(predictions, reference),
        sizes=wanted_sizes(external, fields["unit"], fields["points"], width),
        width=width,
        notes=tuple(notes),
        **fields,
    )
    make_folder(out)
    result.save(out / "external_validation.json")
    predictions.save(out / "predictions.parquet")
    set_aside = pd.DataFrame([vars(each) for each in found], columns=list(SetAside.__dataclass_fields__))
    write_csv(set_aside, out / "set_aside.csv")
    write_text(out / "external_validation.txt", result.text())
    report_external(result, predictions, out)
    return result


def _with_classes_of(trained: TrainedClassifier, manifest: Manifest, class_map: Mapping[str, str]) -> Manifest:
    """The cohort with the class names of the run: equal but for case and spaces, merged as in the run, or mapped."""
    ours = {comparable_label(name): name for name in trained.classes}
    merged = {comparable_label(name): to for to, names in trained.settings.data.merge.items() for name in names}
    stated = {comparable_label(name): to for name, to in class_map.items()}
    wrong = [to for to in stated.values() if to not in trained.classes]
    if wrong:
        raise ConfigError(f"--map names '{wrong[0]}', but the classes of the run are {list(trained.classes)}.")
    names = {name: stated.get(comparable_label(name)) for name in manifest.classes}
    names = {
        name: to or ours.get(comparable_label(name)) or merged.get(comparable_label(name)) for name, to in names.items()
    }
    unknown = [name for name, to in names.items() if to is None]
    if unknown:
        raise ConfigError(
            f"The cohort has the classes {unknown}, which the run does not know; it knows {list(trained.classes)}. Map "
            f"them with --map '{unknown[0]}={trained.classes[0]}', or leave their images out."
        )
    table = manifest.table.assign(label=manifest.table["label"].map(names).astype("string"))
    return replace(manifest, table=table, classes=trained.classes)


def _units(manifest: Manifest) -> pd.Series:
    """The subject of each image, or the image where it is unknown."""
    return manifest.table["subject"].fillna(manifest.table["sample"])


def _people_in_both(
    cohort: Manifest, known: Manifest, split: Split, same_ids: SameIds, display: Display
) -> tuple[tuple[SetAside, ...], bool]:
    """Subjects of the cohort who are in the data of the run, and whether pixels could be compared."""
    subset = {sample: name for name in SUBSETS for sample in split.samples[name]}
    ours, theirs = _units(known), _units(cohort)
    first = {str(unit): str(sample) for unit, sample in zip(ours[::-1], known.table["sample"][::-1], strict=True)}
    found: dict[str, tuple[str, str]] = {}
    if same_ids == "set-aside":
        match = match_identifiers(
            cohort.table["subject"].dropna().unique().tolist(), known.table["subject"].dropna().unique().tolist()
        )
        found |= {one: (other, "id") for one, other in match.found.items()}
    pairs, compared = _same_pixels(cohort, known, display)
    found |= {str(theirs.iloc[one]): (str(ours.iloc[other]), "pixels") for one, other in pairs}
    both = pd.concat([known.table.assign(subset="run"), cohort.table.assign(subset="cohort")], ignore_index=True)
    shared = shared_contents(replace(known, table=both, constant=(*known.constant, *cohort.constant)))
    rows = list(zip(shared.index.astype(int).tolist(), shared.tolist(), strict=True))
    origin = {content: row for row, content in rows if row < len(known)}
    for row, content in rows:
        if row >= len(known) and content in origin:
            found[str(theirs.iloc[row - len(known)])] = str(ours.iloc[origin[content]]), "file"
    images = theirs.value_counts()
    return tuple(
        SetAside(name, other, subset.get(first[other], "none"), reason, int(images[name]))  # type: ignore[arg-type]
        for name, (other, reason) in sorted(found.items())
    ), compared


def _same_pixels(cohort: Manifest, known: Manifest, display: Display) -> tuple[list[tuple[int, int]], bool]:
    """Pairs of rows of the cohort and of the run that show the same image; False if the data of the run are gone."""
    from gyrus.audit.duplicates import OTHER_SUBJECT_CORRELATION, align_candidates
    from gyrus.audit.image_quality import measure_images as measure_pixels

    if not known.root.is_dir() or not (known.root / known.table["path"].iloc[0]).exists():
        return [], False
    try:
        with display.progress("Comparing pixels with the data of the run") as progress:
            thumbnails = [measure_pixels(each, progress=progress).thumbnails for each in (cohort, known)]
    except GyrusError:  # files of the run have changed or are gone
        return [], False
    aligned = align_candidates(np.concatenate(thumbnails))
    across = (aligned.first < len(cohort)) & (aligned.second >= len(cohort))
    across &= aligned.correlation >= OTHER_SUBJECT_CORRELATION
    return [
        (int(one), int(other) - len(cohort))
        for one, other in zip(aligned.first[across], aligned.second[across], strict=True)
    ], True


def _predict(trained: TrainedClassifier, manifest: Manifest, device: str, display: Display) -> tuple[Predictions, int]:
    """The predictions for the cohort, and the number of validation subjects that p-values are ranks among."""
    place = pick_device(device)
    units, kind = manifest.scored_units
    with temporary_folder() as cache, display.progress("Predicting the cohort") as progress:
        store = open_store(manifest, trained.settings.preprocessing, cache=cache)
        plain, augmented = trained.datasets(manifest, store)
        logits = predict_with_tta(trained.model, plain, augmented, copies=trained.tta, device=place, progress=progress)
        predictions = Predictions.from_logits(
            manifest.table["sample"].tolist(),
            logits,
            classes=trained.classes,
            split_unit="subject",
            subset="cohort",
            subjects=units.tolist(),
            subject_kind=kind,
            targets=manifest.table["label"].tolist(),
        )
        if trained.unlike is None:
            return predictions, 0
        rows = np.arange(len(manifest))
        measured = measure_images(manifest, store, predict_embeddings(trained.model, plain, rows), rows)
        columns = likeness_columns(trained.unlike, trained.unlike.distances(measured), units.tolist())
    return with_likeness(predictions, [columns]), trained.unlike.count


def _only_ids(found: tuple[SetAside, ...]) -> int:
    return sum(each.reason == "id" for each in found)


def _notes(internal: Evaluation, *, compared: bool, by_id: int, reference: int) -> list[str]:
    notes = []
    if internal.warning:
        notes.append(f"The internal scores carry a warning: {internal.warning}. They are no estimate for new subjects.")
    if not compared:
        notes.append(
            "The data of the run are not in their place, so pixels were not compared: changed copies of training "
            "images are not found."
        )
    if by_id:
        notes.append(
            f"{by_id} of those set aside are recognised by their identifier only. If the two data sets number their "
            "subjects independently, use --same-ids keep."
        )
    notes.append("Another scan of a training subject under another name cannot be found.")
    if not reference:
        notes.append(NO_REFERENCE)
    return notes
