"""``gyrus data``: look at data, clean and split them, make phantoms."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gyrus.cli import data_volumes
from gyrus.cli.command import command, group
from gyrus.cli.options import ConfigOptions, DataOptions, FigureFile
from gyrus.cli.terminal import Terminal, console, table

if TYPE_CHECKING:
    from gyrus.curation.cleaning import CleaningPlan
    from gyrus.datasets.manifest import Manifest

app = group("Check, split and convert data sets; generate phantoms.")
data_volumes.register(app)


@command(app, "scan")
def scan(
    *,
    path: Annotated[str, typer.Argument(help="Folder, table, parquet file, or hf:owner/name.")],
    reading: DataOptions,
    out: Annotated[Path | None, typer.Option("--out", help="Write the manifest here, as parquet.")] = None,
) -> None:
    """Say what a data set consists of, and name every file that cannot be used."""
    manifest = _scan(path, reading)
    _show(manifest)
    data_volumes.show_notes(manifest)
    if out:
        manifest.save(out)
        console.print(f"Manifest: {out}")


@command(app, "split")
def split(
    *,
    path: Annotated[str, typer.Argument(help="Folder, table, parquet file, or hf:owner/name.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the split, as JSON.")],
    split_unit: Annotated[
        Literal["subject", "image"], typer.Option("--split-unit", help="What is kept whole.")
    ] = "subject",
    method: Annotated[
        Literal["auto", "holdout", "kfold", "given"], typer.Option("--method", help="How to cut.")
    ] = "auto",
    val: Annotated[float, typer.Option("--val", help="Share to choose by.")] = 0.15,
    test: Annotated[float, typer.Option("--test", help="Share to be judged on.")] = 0.2,
    folds: Annotated[int, typer.Option("--folds", help="Number of folds (kfold).")] = 5,
    fold: Annotated[int, typer.Option("--fold", help="Which fold is tested, from 0 (kfold).")] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the split.")] = 0,
    reading: DataOptions,
) -> None:
    """Cut a data set into train, val and test, by subject."""
    from gyrus.configuration import parse
    from gyrus.datasets.splits import SplitConfig
    from gyrus.datasets.splits import split as cut

    manifest = _scan(path, reading)
    manifest.require_clean()
    fields = {"unit": split_unit, "method": method, "val": val, "test": test, "folds": folds, "fold": fold}
    result = cut(manifest, parse(SplitConfig, fields, where="The split"), seed=seed)
    result.save(out)
    rows = [
        [subset, len(result.subjects[subset]) or "-", len(samples), *_label_counts(manifest, samples)]
        for subset, samples in result.samples.items()
    ]
    console.print(table(["subset", "subjects", "images", *manifest.classes], rows))
    for note in (*result.notes, *([result.warning] if result.warning else [])):
        console.print(f"Note: {note}")
    console.print(f"Split: {out}")


@command(app, "phantom")
def phantom(
    out: Annotated[Path, typer.Argument(help="A new folder.")],
    subjects: Annotated[int, typer.Option("--subjects", help="How many people.")] = 60,
    slices: Annotated[int, typer.Option("--slices", help="Slices a person.")] = 16,
    classes: Annotated[int, typer.Option("--classes", help="How many classes.")] = 4,
    size: Annotated[int, typer.Option("--size", help="Rows and columns of a slice.")] = 128,
    seed: Annotated[int, typer.Option("--seed", help="Seed.")] = 0,
    layout: Annotated[str, typer.Option("--layout", help="How the files are laid out.")] = "folder",
) -> None:
    """Make synthetic heads whose ventricles and sulci widen with the class."""
    from gyrus.synthetic.phantom import generate
    from gyrus.synthetic.phantom_layouts import write

    folder = write(generate(subjects=subjects, slices=slices, classes=classes, size=size, seed=seed), out, layout)
    console.print(f"{subjects} people with {slices} slices each: {folder}")


@command(app, "augment-preview")
def augment_preview(
    *,
    path: Annotated[str, typer.Argument(help="Folder, table, parquet file, or hf:owner/name.")],
    out: FigureFile,
    experiment: ConfigOptions,
    images: Annotated[int, typer.Option("--images", min=1, help="How many images the steps take in turn.")] = 4,
    seed: Annotated[int, typer.Option("--seed", help="Which images, and what is left to chance.")] = 0,
) -> None:
    """Draw each augmentation step at low, middle and high strength."""
    import gyrus

    gyrus.augment_preview(path, out=out, config=experiment.chosen, images=images, seed=seed)
    console.print(f"Contact sheet: {out}")


@command(app, "prepare")
def prepare(
    *,
    path: Annotated[str, typer.Argument(help="Folder, table, parquet file, or hf:owner/name.")],
    out: Annotated[Path | None, typer.Option("--out", help="A new folder.")] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(
            "--rule",
            help="NAME=NUMBER sets the threshold of a rule, NAME=off switches it off: outliers, classic, empty, "
            "cropped, copies, contrary. May be repeated.",
        ),
    ] = None,
    step: Annotated[
        list[str] | None,
        typer.Option(
            "--step", help="Apply to each image: a name such as clahe, or '{step: clahe, clip_limit: 3}'. Repeatable."
        ),
    ] = None,
    manifest_only: Annotated[
        bool, typer.Option("--manifest-only", help="Write a table of the kept images, and no image.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    balance: Annotated[bool, typer.Option("--balance", help="Refused, with what to do instead.")] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of everything random.")] = 0,
    reading: DataOptions,
) -> None:
    """Write a cleaned copy, without bad images and copies, and a log of each decision."""
    from gyrus.configuration import parse, read_assignments, with_overrides
    from gyrus.curation.cleaned_copy import how_to_read, parse_steps, write_copy, write_manifest
    from gyrus.curation.cleaning import Rules
    from gyrus.curation.cleaning import prepare as plan_for

    _require_possible(out, step, manifest_only=manifest_only, dry_run=dry_run, balance=balance)
    rules = parse(Rules, with_overrides({}, read_assignments(rule or [])), where="--rule")
    steps = parse_steps(step or [])
    manifest = _scan(path, reading)
    with Terminal().progress("Looking") as progress:
        plan = plan_for(manifest, rules, seed=seed, progress=progress)
    _show_plan(plan)
    if dry_run or out is None:
        console.print("Dry run: nothing was written.")
        return
    if manifest_only:
        write_manifest(plan, out)
    else:
        with Terminal().progress("Writing") as progress:
            write_copy(plan, out, steps=steps, progress=progress)
    console.print(f"Prepared: {out}")
    if options := how_to_read(plan.cleaned):
        console.print(f"Read it with {options}")


def _require_possible(
    out: Path | None, step: list[str] | None, *, manifest_only: bool, dry_run: bool, balance: bool
) -> None:
    from gyrus.errors import ConfigError

    if balance:
        raise ConfigError(
            "--balance is refused: copies made before the split end up in training and in test, and the score is then "
            "of images that were learnt from. Balance inside training, after the split: "
            "gyrus train --set training.sampler=balanced, with augmentation, draws rare classes more often and alters "
            "each draw anew."
        )
    if out is None and not dry_run:
        raise ConfigError("Where to? Give a new folder with --out, or see what would be done with --dry-run.")
    if out is not None and not dry_run and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} is there already and is never overwritten. Give a new folder with --out.")
    if manifest_only and step:
        raise ConfigError("--step changes pixels, and --manifest-only writes none. Leave one of them out.")


def _show_plan(plan: CleaningPlan) -> None:
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


def _scan(path: str, reading: DataOptions) -> Manifest:
    from gyrus.datasets.scan import scan as scan_source

    with Terminal().progress("Reading") as progress:
        return scan_source(path, **reading.fields(), progress=progress)


def _label_counts(manifest: Manifest, samples: tuple[str, ...]) -> list[int]:
    labels = manifest.table["label"][manifest.table["sample"].isin(samples)]
    return [int((labels == name).sum()) for name in manifest.classes]


def _show(manifest: Manifest) -> None:
    rows = [
        [name, inside["subject"].nunique() or "-", len(inside)]
        for name in manifest.classes
        for inside in [manifest.table[manifest.table["label"] == name]]
    ]
    rows.append(["all", manifest.table["subject"].nunique() or "-", len(manifest)])
    noun = "scans" if manifest.subject_kind == "scan" else "subjects"
    console.print(table(["class", noun, "images"], rows))
    shapes = Counter(manifest.table["shape"])
    sizes = ", ".join(f"{' x '.join(map(str, shape))} ({count})" for shape, count in shapes.most_common(5))
    console.print(f"Sizes: {sizes}" + (f" and {len(shapes) - 5} more" if len(shapes) > 5 else ""))
    console.print(_about_subjects(manifest))
    subsets = manifest.table["subset"].value_counts()
    if len(subsets):
        console.print("Parts given by the data: " + ", ".join(f"{name} ({count})" for name, count in subsets.items()))
    for problem in manifest.problems:
        console.print(f"Problem: {problem}")
    if manifest.problems:
        console.print(f"{len(manifest.problems)} samples cannot be used; training stops at them by default.")


def _about_subjects(manifest: Manifest) -> str:
    if manifest.subject_kind == "unknown":
        return (
            "Subjects: unknown. Without them a score cannot be trusted; name them with --subject-pattern, "
            "--subject-rule or a table with a subject column."
        )
    if manifest.subject_kind == "scan":
        return (
            f"Subjects: unknown; the names hold scan ids only (rule {manifest.subject_rule}). "
            "Repeat scans of a person would be counted as different people."
        )
    return f"Subjects: by {manifest.subject_rule}"
