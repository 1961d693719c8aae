"""External validation: a run or a bundle on another cohort, in one command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from gyrus.datasets.identifiers import comparable_label
from gyrus.datasets.manifest import Manifest
from gyrus.datasets.text_tables import write_csv
from gyrus.errors import ConfigError, DataError, MissingDependencyError
from gyrus.evaluation.bootstrap import BootstrapConfig
from gyrus.evaluation.evaluate import evaluate
from gyrus.evaluation.external_validation import (
    ExternalValidation,
    InternalScores,
    SetAside,
    validate_externally,
    wanted_sizes,
)
from gyrus.evaluation.number_assessment import evaluate_number_subgroups
from gyrus.evaluation.number_evaluate import evaluate_numbers
from gyrus.evaluation.number_external import (
    NumberExternalValidation,
    NumberInternalScores,
    validate_numbers_externally,
)
from gyrus.evaluation.subgroups import evaluate_subgroups
from gyrus.export.manifest import is_bundle
from gyrus.files import make_folder, require_empty, write_text
from gyrus.inference.number_predictions import NumberPredictions
from gyrus.inference.predictions import Predictions
from gyrus.inference.unlike_training import NO_REFERENCE, summarise_likeness
from gyrus.runs.run_folder import Run
from gyrus.workflows.display import SILENT, Display
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.predict_bundle import refuse_options_of_runs
from gyrus.workflows.validated_bundle import ValidatedBundle
from gyrus.workflows.validated_classifier import PeopleInBoth, SameIds, ValidatedClassifier, units_of


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
) -> ExternalValidation | NumberExternalValidation:
    """Evaluate a run or a bundle on another cohort. Nothing is chosen on the cohort.

    Subjects who are also in the data of the classifier are set aside. Writes ``report.html``,
    ``external_validation.json``, ``external_validation.txt``, ``predictions.parquet`` and ``set_aside.csv``.

    Args:
        run: A finished run, or a bundle (its folder, or its address on the Hub), which is evaluated without importing
            PyTorch.
        cohort: Folder or table with labels.
        out: The folder to write into, new or empty.
        data: How to read the cohort.
        class_map: Class of the classifier by class of the cohort, where names differ; not for numbers, whose column in
            the cohort is ``data.target`` (by default that of the training data).
        same_ids: "set-aside", or "keep" if identifiers of the two data sets have nothing to do with each other.
        by_image: Accept a cohort whose subjects are unknown; every result then says so.
        width: Wanted width of intervals, for the number of subjects that is needed.
        device: "auto", "cpu", "cuda" or "mps"; a bundle predicts on the CPU.
        resamples: Bootstrap resamples; by default as for the internal scores.
        display: Where progress is shown.

    Raises:
        RunError: There is no finished run.
        DataError: The cohort cannot be read, its subjects are unknown, or nobody is left; or the bundle is damaged or
            holds no scores.
        ConfigError: A class of the cohort is no class of the classifier, or an option is not valid.
        MissingDependencyError: A package for the page is not installed.
    """
    if not 0 < width < 1:
        raise ConfigError(f"--width must lie between 0 and 1, got {width:g}. 0.1 is usual.")
    out = Path(out)
    require_empty(out, "Give a new folder with --out.")
    try:  # the small environment for bundles may lack what draws the page
        from gyrus.reporting.external_report import report_external, report_number_external
        from gyrus.workflows.evaluate import group_columns
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"The page of an external validation requires {error.name}. Install it with: pip install jinja2 matplotlib"
        ) from error
    classifier = _open(run, device, display)
    reading = _reading(classifier, data or DataConfig(), cohort, class_map or {})
    manifest = _with_target_of(classifier, classifier.scan(reading, display), class_map or {})
    if manifest.table["subject"].isna().any() and not by_image:
        unknown = int(manifest.table["subject"].isna().sum())
        raise DataError(
            f"The subject of {unknown} of {len(manifest)} images of the cohort is unknown, so intervals would be too "
            "narrow, and people of the training data cannot be found by name. Give --subject-pattern or a table with a "
            "column subject, or accept this with --by-image."
        )
    people = classifier.people_in_both(manifest, same_ids, display)
    kept = manifest.table["sample"][~units_of(manifest).isin({each.subject for each in people.found})].tolist()
    if not kept:
        raise DataError("Every subject of the cohort is in the data of the classifier: nobody is left to evaluate.")
    manifest = manifest.select(kept)
    predictions = classifier.predict(manifest, display)
    scores = classifier.internal.evaluation
    bootstrap = BootstrapConfig(scores.resamples if resamples is None else resamples, scores.seed, scores.level)
    columns = group_columns(manifest, pd.DataFrame(index=pd.Index([], dtype="str", name="sample")), None)
    likeness = summarise_likeness(predictions, classifier.reference_count)
    notes = (*_notes(classifier.internal, people), *(() if likeness else (NO_REFERENCE,)))
    facts: dict[str, Any] = {
        "run": classifier.title,
        "cohort": Path(str(cohort)).name,
        "set_aside": people.found,
        "pixels_compared": people.pixels_compared,
        "likeness": likeness,
    }
    result: ExternalValidation | NumberExternalValidation
    if isinstance(predictions, NumberPredictions):
        result = _number_result(classifier, predictions, columns, bootstrap, width, notes, facts)
    else:
        result = _class_result(classifier, predictions, columns, bootstrap, width, notes, facts)
    make_folder(out)
    result.save(out / "external_validation.json")
    predictions.save(out / "predictions.parquet")
    set_aside = pd.DataFrame([vars(each) for each in people.found], columns=list(SetAside.__dataclass_fields__))
    write_csv(set_aside, out / "set_aside.csv")
    write_text(out / "external_validation.txt", result.text())
    if isinstance(result, NumberExternalValidation):
        assert isinstance(predictions, NumberPredictions)
        report_number_external(result, predictions, out)
    else:
        assert isinstance(predictions, Predictions)
        report_external(result, predictions, out)
    return result


def _class_result(
    classifier: ValidatedClassifier,
    predictions: Predictions,
    columns: pd.DataFrame,
    bootstrap: BootstrapConfig,
    width: float,
    notes: tuple[str, ...],
    facts: dict[str, Any],
) -> ExternalValidation:
    internal = classifier.internal
    assert isinstance(internal, InternalScores)
    external = evaluate(predictions, **asdict(bootstrap), interval=internal.evaluation.interval)
    fields: dict[str, Any] = validate_externally(internal, external, predictions, bootstrap)
    return ExternalValidation(
        internal=internal.evaluation,
        external=external,
        groups=evaluate_subgroups(predictions, columns, bootstrap=bootstrap),
        sizes=wanted_sizes(external, fields["unit"], fields["points"], width),
        width=width,
        notes=(*fields.pop("notes"), *notes),
        **facts,
        **fields,
    )


def _number_result(
    classifier: ValidatedClassifier,
    predictions: NumberPredictions,
    columns: pd.DataFrame,
    bootstrap: BootstrapConfig,
    width: float,
    notes: tuple[str, ...],
    facts: dict[str, Any],
) -> NumberExternalValidation:
    internal = classifier.internal
    assert isinstance(internal, NumberInternalScores)
    external = evaluate_numbers(predictions, **asdict(bootstrap), interval=internal.evaluation.interval)
    fields: dict[str, Any] = validate_numbers_externally(internal, external, predictions, bootstrap, width)
    return NumberExternalValidation(
        internal=internal.evaluation,
        external=external,
        groups=evaluate_number_subgroups(predictions, columns, bootstrap).tables,
        notes=(*fields.pop("notes"), *notes),
        **facts,
        **fields,
    )


def _open(source: Run | str | Path, device: str, display: Display) -> ValidatedClassifier:
    if not isinstance(source, Run) and is_bundle(source):
        refuse_options_of_runs(several=False, tta=None, weights="equal", device=device)
        return ValidatedBundle(source, display.say)
    from gyrus.workflows.crossval_folder import is_crossval
    from gyrus.workflows.ensemble import is_ensemble
    from gyrus.workflows.validated_run import ValidatedEnsemble, validated_run

    folder = source.folder if isinstance(source, Run) else Path(source)
    if is_ensemble(folder) or is_crossval(folder):
        return ValidatedEnsemble(folder, device)
    return validated_run(Run.open(folder), device)


def _reading(
    classifier: ValidatedClassifier, data: DataConfig, cohort: str | Path, class_map: Mapping[str, str]
) -> DataConfig:
    """How the cohort is read: with classes, or with the number that the classifier predicts.

    Raises:
        ConfigError: Options of classes are given for a number, or the reverse.
    """
    target = classifier.target
    if target.is_number and class_map:
        raise ConfigError(
            f"--map is for classes, and {classifier.title} predicts the number '{target.name}'. Name its column in the "
            "cohort with --target."
        )
    if not target.is_number and data.target:
        raise ConfigError(f"--target is for numbers, and {classifier.title} predicts the classes {classifier.classes}.")
    column = (data.target or target.name) if target.is_number else None
    return data.model_copy(update={"path": str(cohort), "ordered": None if column else False, "target": column})


def _with_target_of(classifier: ValidatedClassifier, manifest: Manifest, class_map: Mapping[str, str]) -> Manifest:
    """The cohort with the classes of the classifier, or with the name of its number."""
    if classifier.target.is_number:
        return replace(manifest, target=classifier.target)
    return _with_classes_of(classifier, manifest, class_map)


def _with_classes_of(classifier: ValidatedClassifier, manifest: Manifest, class_map: Mapping[str, str]) -> Manifest:
    """The cohort with the class names of the classifier: equal but for case and spaces, merged as there, or mapped."""
    ours = {comparable_label(name): name for name in classifier.classes}
    merged = {comparable_label(name): to for to, names in classifier.merged.items() for name in names}
    stated = {comparable_label(name): to for name, to in class_map.items()}
    wrong = [to for to in stated.values() if to not in classifier.classes]
    if wrong:
        raise ConfigError(
            f"--map names '{wrong[0]}', but the classes of the classifier are {list(classifier.classes)}."
        )
    names = {name: stated.get(comparable_label(name)) for name in manifest.classes}
    names = {
        name: to or ours.get(comparable_label(name)) or merged.get(comparable_label(name)) for name, to in names.items()
    }
    unknown = [name for name, to in names.items() if to is None]
    if unknown:
        raise ConfigError(
            f"The cohort has the classes {unknown}, which the classifier does not know; it knows "
            f"{list(classifier.classes)}. Map them with --map '{unknown[0]}={classifier.classes[0]}', or leave their "
            "images out."
        )
    table = manifest.table.assign(label=manifest.table["label"].map(names).astype("string"))
    return replace(manifest, table=table, classes=classifier.classes, target=classifier.internal.evaluation.target)


def _notes(internal: InternalScores | NumberInternalScores, people: PeopleInBoth) -> list[str]:
    notes, warning = [], internal.evaluation.warning
    if warning:
        notes.append(f"The internal scores carry a warning: {warning}. They are no estimate for new subjects.")
    notes += internal.notes
    if people.not_compared:
        notes.append(people.not_compared)
    if by_id := sum(each.reason == "id" for each in people.found):
        notes.append(
            f"{by_id} of those set aside are recognised by their identifier only. If the two data sets number their "
            "subjects independently, use --same-ids keep."
        )
    notes.append("Another scan of a training subject under another name cannot be found.")
    return notes
