"""``gyrus data``: check, split, prepare and convert data sets; draw previews; generate phantoms."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from gyrus.cli.command import command, group
from gyrus.cli.options import (
    ConfigOptions,
    DataOptions,
    FigureFile,
    OnDuplicates,
    ReadingOptions,
    TrainingDataOptions,
    WorkerOptions,
    lengths,
)
from gyrus.cli.terminal import Terminal, console, table
from gyrus.text import counted

if TYPE_CHECKING:
    from gyrus.curation.cleaning import CleaningPlan
    from gyrus.datasets.manifest import Manifest

app = group("Check, split and convert data sets; generate phantoms.")

DataSet = Annotated[
    str, typer.Argument(help="Folder, table, volume, DICOM folder, BIDS data set, Parquet file, or hf:owner/name.")
]
ImageDataSet = Annotated[str, typer.Argument(help="Folder, table, Parquet file, or hf:owner/name.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]


@command(app, "scan")
def scan(
    *,
    path: DataSet,
    reading: DataOptions,
    workers: WorkerOptions,
    out: Annotated[Path | None, typer.Option("--out", help="Also write the manifest to this Parquet file.")] = None,
) -> None:
    """Summarise a data set and list unusable files."""
    import gyrus
    from gyrus.curation.privacy import privacy_warnings

    with workers.running(), Terminal().progress("Reading files") as progress:
        manifest = gyrus.scan(path, **reading.fields(), progress=progress)
    _print_summary(manifest)
    for note in manifest.notes:
        console.print(f"Note: {note}.")
    if size_warning := _size_warning(manifest):
        console.print(f"Warning: {size_warning}")
    for warning in privacy_warnings(manifest):
        console.print(f"Warning: {warning}")
    if out:
        manifest.save(out)
        console.print(f"Manifest: {out}")


@command(app, "split")
def split(
    *,
    path: DataSet,
    out: Annotated[Path, typer.Option("--out", help="Split file to write, JSON.")],
    split_unit: Annotated[
        Literal["subject", "image"], typer.Option("--split-unit", help="What the split keeps together.")
    ] = "subject",
    method: Annotated[
        Literal["auto", "holdout", "kfold", "given"],
        typer.Option("--method", help="holdout, kfold, the subsets that the data define (given), or auto."),
    ] = "auto",
    val: Annotated[float, typer.Option("--val", help="Fraction of the data in the validation set.")] = 0.15,
    test: Annotated[float, typer.Option("--test", help="Fraction of the data in the test set.")] = 0.2,
    folds: Annotated[int, typer.Option("--folds", help="Number of folds (kfold).")] = 5,
    fold: Annotated[int, typer.Option("--fold", help="Fold that is the test set, from 0 (kfold).")] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the split.")] = 0,
    on_duplicates: OnDuplicates = None,
    reading: TrainingDataOptions,
    workers: WorkerOptions,
) -> None:
    """Split a data set, by subject.

    The subsets are a training, a validation and a test set.
    """
    from gyrus.workflows.prepare import write_split

    fields: dict[str, Any] = {"unit": split_unit, "method": method, "val": val, "test": test}
    fields |= {"folds": folds, "fold": fold, **({"on_duplicates": on_duplicates} if on_duplicates else {})}
    with workers.running():
        manifest, result = write_split(path, out, split=fields, seed=seed, data=reading.config(), display=Terminal())
    labels = manifest.table.set_index("sample")["label"]
    rows = [
        [subset, len(result.subjects[subset]) or "-", len(samples)]
        + [int((labels[list(samples)] == name).sum()) for name in manifest.classes]
        for subset, samples in result.samples.items()
    ]
    console.print(table(["subset", "subjects", "images", *manifest.classes], rows))
    for note in result.notes:
        console.print(f"Note: {note}")
    if result.warning:
        console.print(f"Warning: {result.warning}")
    console.print(f"Split: {out}")


@command(app, "prepare")
def prepare(
    *,
    path: ImageDataSet,
    out: Annotated[Path | None, typer.Option("--out", help="New folder for the cleaned copy.")] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            help="NAME=NUMBER sets the threshold of a rule, NAME=off disables it: outliers, plain_z, empty, cropped, "
            "duplicates, conflicting_labels. Repeatable.",
        ),
    ] = None,
    step: Annotated[
        list[str] | None,
        typer.Option(
            "--step",
            help="Preprocessing step for every image: a name such as clahe, or '{step: clahe, clip_limit: 3}'. "
            "Repeatable.",
        ),
    ] = None,
    manifest_only: Annotated[
        bool, typer.Option("--manifest-only", help="Write a table of the kept images, but no images.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the decisions, and write nothing.")] = False,
    balance: Annotated[bool, typer.Option("--balance", help="Refused; the message explains the alternative.")] = False,
    seed: Seed = 0,
    reading: DataOptions,
    workers: WorkerOptions,
) -> None:
    """Write a cleaned copy without bad images and duplicates."""
    import gyrus
    from gyrus.curation.cleaning import parse_rules, parse_steps, reading_options
    from gyrus.errors import ConfigError

    if balance:
        raise ConfigError(
            "--balance is refused: copies made before the split end up in both the training and the test set, so the "
            "score is measured on training images. Balance during training instead: gyrus train --set "
            "training.sampler=balanced, with augmentation, draws rare classes more often and augments every draw."
        )
    display = Terminal()
    with workers.running():
        result = gyrus.prepare(
            path,
            out=out,
            rules=parse_rules(rule or [], display.say),
            steps=parse_steps(step or []),
            manifest_only=manifest_only,
            dry_run=dry_run,
            seed=seed,
            data=reading.config(),
            display=display,
        )
    _print_plan(result.plan)
    if result.folder is None:
        console.print("Dry run: nothing was written.")
        return
    console.print(f"Prepared: {result.folder}")
    if options := reading_options(result.plan.cleaned):
        console.print(f"Read it with {options}")


@command(app, "convert")
def convert(
    *,
    path: DataSet,
    to: Annotated[str, typer.Option("--to", help="Layout: folder, parquet, nifti, bids or stack.")],
    out: Annotated[Path, typer.Option("--out", help="New folder.")],
    slice_spacing: Annotated[
        str | None,
        typer.Option(
            "--slice-spacing",
            help="Distance in mm between slices, rows and columns, for slices that become volumes (for example 5,1,1).",
        ),
    ] = None,
    experiment: ConfigOptions,
    reading: TrainingDataOptions,
    workers: WorkerOptions,
) -> None:
    """Convert a data set to another layout.

    Labels, subjects and sessions are kept. Volumes that become slices are brought to 8 bits by the steps of the config.
    """
    import gyrus

    with workers.running():
        result = gyrus.convert(
            path,
            to,
            out,
            slice_spacing=lengths(slice_spacing, "--slice-spacing"),
            config=experiment.chosen,
            overrides=experiment.overrides(),
            data=reading.config(),
            display=Terminal(),
        )
    for note in result.notes:
        console.print(f"Note: {note}")
    console.print(f"{counted(len(result.manifest), 'sample')} as {to}: {result.folder}")


@command(app, "preview")
def preview(
    *,
    path: Annotated[Path, typer.Argument(help="Volume, or folder of DICOM files.")],
    out: FigureFile,
    experiment: ConfigOptions,
    reading: ReadingOptions,
) -> None:
    """Draw a volume after each preprocessing step.

    The volume is drawn in three planes, first as read.
    """
    import gyrus

    gyrus.preview(
        path,
        out=out,
        config=experiment.chosen,
        overrides=experiment.overrides(),
        data=reading.config(),
        display=Terminal(),
    )
    console.print(f"Contact sheet: {out}")


@command(app, "augment-preview")
def augment_preview(
    *,
    path: ImageDataSet,
    out: FigureFile,
    experiment: ConfigOptions,
    images: Annotated[int, typer.Option("--images", min=1, help="Number of images to use.")] = 4,
    seed: Seed = 0,
) -> None:
    """Draw the augmentation steps on images of a data set.

    Each step is drawn at low, middle and high strength: the steps of the config, or by default all that exist.
    """
    import gyrus

    overrides = experiment.overrides()
    gyrus.augment_preview(path, out=out, config=experiment.chosen, overrides=overrides, images=images, seed=seed)
    console.print(f"Contact sheet: {out}")


@command(app, "phantom")
def phantom(
    out: Annotated[Path, typer.Argument(help="New folder.")],
    subjects: Annotated[int, typer.Option("--subjects", help="Number of subjects.")] = 60,
    slices: Annotated[int, typer.Option("--slices", help="Slices per subject.")] = 16,
    classes: Annotated[int, typer.Option("--classes", help="Number of classes.")] = 4,
    size: Annotated[int, typer.Option("--size", help="Rows and columns of a slice.")] = 128,
    seed: Seed = 0,
    layout: Annotated[
        str, typer.Option("--layout", help="Layout of the files, for example folder, nifti, lesions.")
    ] = "folder",
    age_effect: Annotated[
        float, typer.Option("--age-effect", help="How strongly age shows in the images: 0 (not at all) to 10.")
    ] = 1.0,
) -> None:
    """Generate synthetic heads with class-dependent atrophy."""
    import gyrus

    gyrus.phantom(
        out,
        subjects=subjects,
        slices=slices,
        classes=classes,
        size=size,
        seed=seed,
        layout=layout,
        age_effect=age_effect,
    )
    console.print(f"{counted(subjects, 'subject')} with {counted(slices, 'slice')} each: {out}")


def _print_plan(plan: CleaningPlan) -> None:
    manifest, cleaned = plan.manifest, plan.cleaned
    rows = [
        [name, int((manifest.table["label"] == name).sum()), len(kept), kept["subject"].nunique() or "-"]
        for name in manifest.classes
        for kept in [cleaned.table[cleaned.table["label"] == name]]
    ]
    rows.append(["all", len(manifest), len(cleaned), cleaned.table["subject"].nunique() or "-"])
    console.print(table(["class", "images", "kept", "subjects kept"], rows))
    for rule, count in plan.removed.items():
        console.print(f"Removed by the rule {rule}: {count}")
    for note in plan.notes:
        console.print(f"Note: {note}")


def _print_summary(manifest: Manifest) -> None:
    from gyrus.datasets.manifest import commonest_first, count_reasons

    rows = [
        [name, inside["subject"].nunique() or "-", len(inside)]
        for name in manifest.classes
        for inside in [manifest.table[manifest.table["label"] == name]]
    ]
    rows.append(["all", manifest.table["subject"].nunique() or "-", len(manifest)])
    noun = "scans" if manifest.subject_kind == "scan" else "subjects"
    console.print(table(["class", noun, "images"], rows))
    if manifest.target.is_number:
        numbers = manifest.targets
        console.print(
            f"Number to predict: {manifest.target.name}, {numbers.min():g} to {numbers.max():g}, mean "
            f"{numbers.mean():.1f}, SD {numbers.std():.1f}"
        )
    shapes = Counter(manifest.table["shape"])
    sizes = ", ".join(f"{' x '.join(map(str, shape))} ({count})" for shape, count in shapes.most_common(5))
    console.print(f"Sizes: {sizes}" + (f" and {len(shapes) - 5} more" if len(shapes) > 5 else ""))
    console.print(_subject_source(manifest))
    subsets = manifest.table["subset"].value_counts()
    if len(subsets):
        counts = ", ".join(f"{name} ({count})" for name, count in subsets.items())
        console.print(f"Subsets defined by the data: {counts}")
    if manifest.files:
        console.print(f"Files: {manifest.files.summary}")
    for problem in commonest_first(manifest.problems):
        console.print(f"Problem: {problem}")
    if manifest.problems:
        reasons = count_reasons(manifest.problems)
        console.print(
            f"{counted(len(manifest.problems), 'sample')} cannot be used ({reasons}); by default, training stops at "
            "them."
        )


def _size_warning(manifest: Manifest) -> str:
    """Why a classifier cannot be trained or evaluated on all classes; empty if it can, as far as subjects are known."""
    from gyrus.datasets.splits import class_sizes

    if manifest.target.is_number:
        return ""
    if len(manifest.classes) < 2:
        return f"The data have only one class, {', '.join(manifest.classes)}. A classifier needs at least two."
    subjects = manifest.table.groupby("label")["subject"].nunique()
    if manifest.subject_kind == "unknown" or (subjects >= 3).all():
        return ""
    return (
        f"The data have {class_sizes(manifest, 'subject')}. Each class needs at least 3: one in each of the training, "
        "validation and test sets, and many more for useful scores."
    )


def _subject_source(manifest: Manifest) -> str:
    if manifest.subject_kind == "unknown":
        return (
            "Subjects: unknown. Scores without known subjects cannot be trusted. Name the subjects with "
            "--subject-pattern, --subject-rule or a table with a subject column, or train with --subjects inferred, "
            "which groups images by their pixels."
        )
    if manifest.subject_kind == "scan":
        return (
            f"Subjects: unknown; the names contain scan ids only (rule {manifest.subject_rule}). Repeat scans of a "
            "person would count as different subjects."
        )
    return f"Subjects: by {manifest.subject_rule}"
