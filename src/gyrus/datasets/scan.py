"""Scan a data set into a manifest: recognise the source, list the samples, identify subjects, check every image."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Any, get_args

import numpy as np
import pandas as pd

from gyrus.configuration import parse
from gyrus.datasets.conversion import CONVERTER, STABLE, ConversionConfig, conversion_targets, visits_of_table
from gyrus.datasets.file_counts import FileCounts
from gyrus.datasets.identifiers import comparable_label, spelling_note, unify_spellings
from gyrus.datasets.label_changes import LabelChanges, settle_labels
from gyrus.datasets.manifest import (
    CHANNEL_FILES,
    MEMBERS,
    VIEW,
    VOLUME_FILES,
    Manifest,
    Order,
    Problem,
    SubjectKind,
    nothing_usable,
    order_classes,
)
from gyrus.datasets.sample_files import (
    ASSUMED,
    IMAGE_COLUMN,
    ChannelImages,
    EncodedImages,
    VolumeFiles,
    assumed_to_json,
    may_be_dicom,
)
from gyrus.datasets.sources import bids, caps, datalist, hdf5, huggingface, id_table, medmnist, parquet, table
from gyrus.datasets.sources import dicom_series as dicom
from gyrus.datasets.sources.accounting import count_files
from gyrus.datasets.sources.channels import group_channels, list_given_files
from gyrus.datasets.sources.class_folders import is_archive, list_images, list_volumes, walk
from gyrus.datasets.sources.listing import Listing, Progress, ScanRequest
from gyrus.datasets.sources.people_table import ROW_DIGEST, list_people
from gyrus.datasets.sources.scan_evidence import reason_to_doubt
from gyrus.datasets.sources.subject_rules import SUBJECT_RULES, SubjectNames, subjects_from_names, unknown_subjects
from gyrus.datasets.sources.table import FORMER_ROLES, current_roles
from gyrus.datasets.targets import CLASSES, Target, number_texts
from gyrus.datasets.visits import Visits, select_visits
from gyrus.errors import ConfigError, DataError, UnusableImageError
from gyrus.executor import map_tasks, runs_here
from gyrus.imaging.decoding import IMAGE_EXTENSIONS, GrayWindow, Inspection, is_image
from gyrus.imaging.dicom import DICOM_EXTENSIONS, is_dicom
from gyrus.imaging.orientation import AssumedGeometry
from gyrus.imaging.volume_formats import FORMATS, is_volume
from gyrus.registry import look_up
from gyrus.types import MissingChannel

_CHUNK = 64
_PARQUET_CHUNK = 1024
"""Images that one task checks."""

_ARRAYS = (".npy", ".npz", ".pt")
"""Arrays and tensors may hold anything; they are read as volumes only if the source is named."""

Finding = Inspection | UnusableImageError


@dataclass(frozen=True)
class Source:
    """A layout of data sets.

    Attributes:
        list_samples: Lists the samples at a location, without opening them. The location is a path, or a name for data
            sets of the Hub.
        description: The form of the data, for users.
    """

    list_samples: Callable[[Any, ScanRequest], Listing]
    description: str


def _list_with_ids(path: Path, request: ScanRequest) -> Listing:
    """The files of a folder, with the labels of a table of ids in it."""
    folder = path if path.is_dir() else path.parent
    files = SOURCES[_kind_of_files(folder, request)].list_samples(folder, replace(request, labelled=False))
    return id_table.with_table(files, path, request)


SOURCES: dict[str, Source] = {
    "folder": Source(list_images, "a folder of images, one folder per class, also below train/, val/, test/"),
    "table": Source(
        table.list_samples, "a CSV, TSV, JSONL or parquet table with a column of paths, or a folder with one"
    ),
    "ids": Source(_list_with_ids, "images, volumes or DICOM series, and a table with their ids and labels"),
    "parquet": Source(parquet.list_samples, "parquet with a column of image bytes, or a folder of such files"),
    "volumes": Source(list_volumes, "a folder of NIfTI or other volumes, one folder per class, or one volume"),
    "bids": Source(bids.list_samples, "a BIDS data set: sub-*/anat/*.nii.gz and participants.tsv"),
    "caps": Source(
        caps.list_samples,
        "a CAPS of Clinica (subjects/sub-*/ses-*) or tensors of ClinicaDL, with a TSV of labels",
    ),
    "hdf5": Source(
        hdf5.list_samples,
        "a folder of HDF5 files of one scan each, as those of fastMRI, one folder per class, or one file",
    ),
    "dicom": Source(dicom.list_samples, "a folder of DICOM series, one folder per class, or one DICOM file"),
    "huggingface": Source(huggingface.list_samples, "hf:owner/name or hf:owner/name:config"),
    "datalist": Source(datalist.list_samples, "a datalist of MONAI: JSON with training, validation and testing"),
    "medmnist": Source(medmnist.list_samples, "an .npz file of MedMNIST: train_images, train_labels, val_images ..."),
    "people": Source(list_people, "a table of subjects without images, for a classifier on the table alone"),
}
"""The known layouts by name."""


def scan(
    path: str | Path | Sequence[Path],
    *,
    source: str | None = None,
    subject_rule: str | None = None,
    subject_pattern: str | None = None,
    classes: Sequence[str] | None = None,
    columns: Mapping[str, str] | None = None,
    bids: Mapping[str, str] | None = None,
    orientation: str | None = None,
    spacing: Sequence[float] | None = None,
    hdf5_dataset: str | None = None,
    files: str | Sequence[str] = (),
    ordered: Order = None,
    label_changes: LabelChanges = "refuse",
    window: Sequence[float] | None = None,
    channels: Mapping[str, str] | None = None,
    missing_channel: MissingChannel = "refuse",
    visits: Visits | None = None,
    conversion: ConversionConfig | Mapping[str, Any] | None = None,
    labelled: bool = True,
    target: str | None = None,
    people: str | Path | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Scan a data set into a manifest, and check every image by opening it.

    Images that cannot be used are listed in the ``problems`` of the manifest; call ``require_clean`` to refuse them.

    Args:
        path: A folder, a table, a parquet file, or "hf:owner/name[:config]"; or the files of sessions, with
            ``channels``.
        source: The name of a layout in :data:`SOURCES`; by default it is recognised.
        subject_rule: The name of a rule in :data:`gyrus.datasets.sources.subject_rules.SUBJECT_RULES`, or "none";
            by default a subject column, else the first rule that fits every name.
        subject_pattern: A regular expression with the group ``subject``, and optionally ``session`` and ``slice``,
            searched in each path below the root.
        classes: The class names in order; by default those of the data.
        columns: Columns by role: path, image, label, subject, session, slice, subset; by default they are recognised by
            :data:`gyrus.datasets.sources.table.COLUMN_NAMES`.
        bids: Requested entities of a BIDS data set, such as {"suffix": "T1w"}; see
            :func:`gyrus.datasets.sources.bids.list_samples`.
        orientation: Orientation of volumes whose header lacks it, such as "RAS".
        spacing: Spacing in mm along each axis of volumes whose header lacks it.
        hdf5_dataset: The dataset with the image in HDF5 files; by default it is recognised.
        files: Patterns such as "*_t1.nii.gz"; a file is used if its name matches one of them, or its path below the
            root if the pattern has a slash. DICOM series may match by their description or protocol instead.
        ordered: Whether the classes are ordered (stages), see :meth:`gyrus.datasets.manifest.Manifest.with_order`; by
            default where their names have a known order.
        label_changes: What happens to a subject whose label differs between visits.
        window: The gray values that become 0 and 255 in gray images with more than 8 bits per sample.
        channels: Patterns of files by name, such as {"t1": "*_T1w", "flair": "*_FLAIR"}: a sample is a session with one
            file for each; see :func:`gyrus.datasets.sources.channels.group_channels`.
        missing_channel: What happens to a session without a file of a channel.
        visits: Which visits of a subject are used; with "each" every visit keeps its label, and "stable" leaves out
            subjects whose label changes. By default all, and ``label_changes`` decides on their labels.
        conversion: Make the classes "stable" and "converter" from the table of visits; see
            :func:`gyrus.datasets.conversion.conversion_targets`.
        labelled: Whether labels are needed. If not, they are not read, and a single image or a flat folder suffices.
        target: The column of a number that is to be predicted, such as the age; by default classes are.
        people: A table with one row per subject or visit, whose columns are joined to the images by an id; its labels
            are not read.
        progress: Called with the number of checked images and of all images.

    Raises:
        ConfigError: An argument is not valid.
        DataError: The data do not exist, have no known layout, or contain nothing usable.
        MissingDependencyError: A required library is not installed.
    """
    roles = current_roles(columns or {})
    number = target is not None and labelled
    request = ScanRequest(
        subject_rule=subject_rule,
        subject_pattern=subject_pattern,
        classes=tuple(classes) if classes is not None else None,
        columns=_with_target(roles, target, classes) if target is not None and number else roles,
        labelled=labelled,
        progress=progress,
        source=source,
        bids=dict(bids or {}),
        assumed=AssumedGeometry(orientation, _three(spacing), hdf5_dataset),
        files=(files,) if isinstance(files, str) else tuple(files),
        # Numbers such as the age differ between visits, and each visit is right.
        # A conversion is about the baseline. Its own labels replace those of the visits.
        label_changes="baseline"
        if conversion is not None
        else _label_changes(visits, "each" if number and label_changes == "refuse" else label_changes),
        window=_window(window),
        target=Target("number", target) if target is not None and number else CLASSES,
        channels=dict(channels or {}),
        missing_channel=missing_channel,
        visits=visits,
        conversion=None if conversion is None else parse(ConversionConfig, _document(conversion), where="conversion"),
    )
    if visits is not None:
        look_up(visits, dict.fromkeys(get_args(Visits)), "choice of visits")
    look_up(missing_channel, dict.fromkeys(get_args(MissingChannel)), "way to treat missing channels")
    look_up(label_changes, dict.fromkeys(get_args(LabelChanges)), "way to treat labels that change")
    if classes is not None and len(set(classes)) < len(classes):
        raise ConfigError(f"`classes` names a class twice: {', '.join(classes)}.")
    if not isinstance(path, str | Path):
        found = _build_manifest(group_channels(list_given_files(path, request), request), request, path[0])
        return found.with_order(ordered if labelled else False, given=classes is not None)
    name = source or _recognise(path, request)
    layout = look_up(name, SOURCES, "source")
    location = path if name == "huggingface" else _existing(path)
    listing = group_channels(_list_samples(layout, location, request, recognised=source is None), request)
    if people is not None:
        listing = id_table.with_people(listing, _existing(people), request)
    manifest = _build_manifest(listing, request, Path(location))
    manifest = manifest.with_order(ordered if labelled else False, given=classes is not None)
    former = [role for role in columns or {} if role in FORMER_ROLES]
    renamed = [f"the column role '{role}' is now called '{FORMER_ROLES[role]}'" for role in former]
    return replace(manifest, notes=(*renamed, *manifest.notes)) if renamed else manifest


def _label_changes(visits: Visits | None, label_changes: LabelChanges) -> LabelChanges:
    """What happens to labels that differ between visits, where the choice of visits decides on them."""
    of_visits: dict[Visits | None, LabelChanges] = {
        "each": "each",
        "first": "each",
        "last": "each",
        "stable": "exclude",
    }
    decided = of_visits.get(visits, label_changes)
    if label_changes not in ("refuse", decided):
        raise ConfigError(
            f"data.visits={visits} decides on labels that change; leave out data.label_changes={label_changes}."
        )
    return decided


def _document(conversion: ConversionConfig | Mapping[str, Any]) -> dict[str, Any]:
    return conversion.model_dump() if isinstance(conversion, ConversionConfig) else dict(conversion)


def _list_samples(layout: Source, location: str | Path, request: ScanRequest, *, recognised: bool) -> Listing:
    """The samples of a layout, with a note on each table of a folder that seems to hold labels and was not used.

    Raises:
        DataError: As in :func:`scan`; or a table was not used, and the folders alone give no classes.
    """
    of_folders = layout in [SOURCES[name] for name in ("folder", "volumes", "hdf5", "dicom")]
    unused: dict[str, str] = {}
    if of_folders and isinstance(location, Path) and location.is_dir():
        unused = id_table.unused_tables(location, request)
    reasons = [f"{name} was not used: {reason}" for name, reason in unused.items()]
    if of_folders and request.target.is_number:
        raise DataError(
            f"{location} has no table that belongs to its files, so the column '{request.target.name}' (data.target) "
            "is unknown. Give a table with this column and the paths or the ids of the files."
            f"{' '.join(['', *reasons])}"
        )
    try:
        listing = layout.list_samples(location, request)
    except DataError as error:
        if reasons and type(error) is DataError:
            raise DataError(f"{error} {'. '.join(reasons)}.") from error
        raise
    classes = {label for label in _labels(listing.rows) if not pd.isna(label)}
    if reasons and recognised and request.labelled and len(classes) < 2:
        raise DataError(
            f"The folders of {location} give no two classes ({', '.join(sorted(classes))}), and {'. '.join(reasons)}. "
            "Correct the table or the folders; --source folder uses the folders alone."
        )
    return replace(listing, notes=(*listing.notes, *reasons))


def _with_target(roles: Mapping[str, str], target: str, classes: Sequence[str] | None) -> dict[str, str]:
    """The columns by role, with that of the number in place of the labels."""
    label = roles.get("label", target)
    if classes is not None or label != target:
        other = "class names" if classes is not None else f"the labels in the column '{label}'"
        raise ConfigError(f"A number is to be predicted (data.target: {target}), so leave out {other}.")
    return {**roles, "label": target}


def _three(spacing: Sequence[float] | None) -> tuple[float, float, float] | None:
    if spacing is None:
        return None
    if len(spacing) != 3:
        raise ConfigError(f"A spacing is three lengths in mm above 0, for example 1,1,1; got {tuple(spacing)}.")
    return float(spacing[0]), float(spacing[1]), float(spacing[2])


def _window(window: Sequence[float] | None) -> GrayWindow | None:
    if window is None:
        return None
    if len(window) != 2:
        raise ConfigError(f"A window is two gray values, for example 0,4095; got {tuple(window)}.")
    return GrayWindow(float(window[0]), float(window[1]))


def _existing(path: str | Path) -> Path:
    place = Path(path).absolute()
    if not place.exists():
        raise DataError(f"{place} does not exist.")
    return place


def _recognise(path: str | Path, request: ScanRequest) -> str:
    if str(path).startswith(huggingface.PREFIX):
        return "huggingface"
    place = _existing(path)
    if place.is_dir():
        return _recognise_folder(place, request)
    if is_image(place.name):
        return "folder"
    if medmnist.is_medmnist(place):
        return "medmnist"
    if is_volume(place.name):
        return "hdf5" if hdf5.is_hdf5(place.name) else "volumes"
    if datalist.is_datalist(place):
        return "datalist"
    if place.suffix.lower() in DICOM_EXTENSIONS or is_dicom(place):
        return "dicom"
    if place.suffix.lower() in table.TABLE_EXTENSIONS:
        if parquet.holds_images(place, request.columns.get("image")):
            return "parquet"
        if caps.is_table_of_caps(place):
            return "caps"
        return "ids" if id_table.has_ids(place, request) else "table"
    if is_archive(place.name):
        raise DataError(f"{place} is an archive. Unpack it, and give the path of the folder.")
    known = {
        "images": IMAGE_EXTENSIONS,
        "volumes": FORMATS,
        "DICOM": DICOM_EXTENSIONS,
        "tables": table.TABLE_EXTENSIONS,
    }
    raise DataError(
        f"{place} is not a file that Gyrus reads. Convert it to one of these, or name the folder of the data:"
        + "".join(f"\n  {kind}: {' '.join(extensions)}" for kind, extensions in known.items())
    )


def _recognise_folder(path: Path, request: ScanRequest) -> str:
    if parquet.image_files(path, request.columns.get("image")):
        return "parquet"
    if caps.is_caps(path):
        return "caps"
    if table.path_tables(path, request.columns):
        return "table"
    if bids.is_bids(path):
        return "bids"
    files = id_table.id_tables(path, request)
    if files and not (request.labelled and id_table.folders_are_labels(path, files, request)):
        return "ids"
    return _kind_of_files(path, request)


def _kind_of_files(path: Path, request: ScanRequest) -> str:
    """Recognise the layout by the files of a folder: images, volumes, HDF5 or DICOM.

    Raises:
        DataError: There is more than one of these.
    """
    names = list(walk(path))
    found = {
        "folder": [name for name in names if is_image(name)],
        "volumes": [
            name for name in names if is_volume(name) and not (hdf5.is_hdf5(name) or name.lower().endswith(_ARRAYS))
        ],
        "hdf5": [name for name in names if hdf5.is_hdf5(name)],
        "dicom": [name for name in names if may_be_dicom(path / name) and is_dicom(path / name)],
    }
    # A pattern that no name matches may be the description of a DICOM series.
    asked = {kind: [name for name in files if request.wants(name)] for kind, files in found.items()}
    present = {kind: files for kind, files in (asked if any(asked.values()) else found).items() if files}
    if len(present) > 1:
        nouns = {"folder": "images", "volumes": "volumes", "hdf5": "HDF5 files", "dicom": "DICOM files"}
        counts = " and ".join(f"{len(files)} {nouns[name]} (such as {files[0]})" for name, files in present.items())
        choices = ", or ".join(f"--source {name} for the {nouns[name]}" for name in present)
        raise DataError(f"{path} has {counts}. Use {choices}. The other files are then left aside.")
    return next(iter(present), "folder")


def _build_manifest(listing: Listing, request: ScanRequest, location: Path) -> Manifest:
    """Open every listed image once; usable ones enter the manifest, the others its problems."""
    listing = (_with_numbers if request.target.is_number else _with_one_spelling_per_class)(listing, request)
    subjects, shared = _without_one_name_for_all(_subjects(listing, request), listing, request)
    subjects, doubts = _without_doubtful_scans(subjects, listing, request)
    names, spellings = _one_name_per_subject(subjects)
    # What file names contain is added; columns of the source take precedence.
    from_names: dict[str, Any] = {"label": None, "row": None, "session": names.sessions, "slice": names.slices}
    missing = {column: values for column, values in from_names.items() if column not in listing.rows}
    rows = listing.rows.assign(**{"subject": names.subjects, **missing})
    if request.window is not None and VOLUME_FILES not in rows:
        rows[ASSUMED] = assumed_to_json(request.assumed, request.window)
    has_images = ROW_DIGEST not in rows
    findings = _without_constant(rows, _inspect_all(listing.root, rows, request)) if has_images else []
    problems = list(listing.problems)
    if has_images:
        problems += _bad_files(rows["sample"], findings)
        rows = _with_findings(rows, findings, tuple(request.channels))
    else:
        rows = rows.rename(columns={ROW_DIGEST: "digest"})
    changes: list[str] = []
    gone: set[str] = set()
    if request.labelled:
        before = rows.dropna(subset=["label"])
        rows, changes = _of_visits(rows, listing, request)
        unlabelled = _unlabelled(rows, request.target)
        rows = rows[~rows["sample"].isin({problem.sample for problem in unlabelled})]
        who = "scan" if names.kind == "scan" else "subject"
        rows, two_labels, settled = settle_labels(rows, request.label_changes, who, names.rule)
        changes += settled
        problems += [*unlabelled, *two_labels]
        # A class that only changed labels had is no class of the data any more.
        refused = {problem.sample for problem in two_labels}
        gone = {*before["label"]} - {*rows["label"], *before["label"][before["sample"].isin(refused)]}
    if rows.empty:
        raise nothing_usable(listing.root, problems)
    classes = request.classes or ()
    if request.conversion is not None and request.labelled:
        classes = request.classes or (STABLE, CONVERTER)
    elif request.classes is None and request.labelled and not request.target.is_number:
        labels = {label for label in _labels(listing.rows) if not pd.isna(label)}
        classes = listing.classes or order_classes(labels - gone)
    counts = Counter(note for one in findings if isinstance(one, Inspection) for note in one.notes)
    return Manifest.from_rows(
        rows,
        root=listing.root,
        classes=classes,
        subject_kind=names.kind,
        subject_rule=names.rule,
        problems=sorted(problems, key=lambda problem: problem.sample),
        notes=[
            *listing.notes,
            *shared,
            *doubts,
            *spellings,
            *changes,
            *(f"{count} x {note}" for note, count in sorted(counts.items())),
        ],
        files=count_files(
            _accounted(location, listing),
            listing,
            set(rows["sample"]),
            problems,
            left_out="of other visits or subjects"
            if request.visits in ("first", "last") or request.conversion is not None
            else "of subjects whose label changes",
        )
        if has_images
        else FileCounts(used=0, tables=len(listing.tables)),
        constant=sorted({one.digest for one in findings if isinstance(one, Inspection) and one.constant}),
        target=request.target,
    )


def _of_visits(rows: pd.DataFrame, listing: Listing, request: ScanRequest) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the visits that are used, with the labels of a conversion if one is asked for; and notes."""
    if request.conversion is None:
        return (rows, []) if request.visits is None else select_visits(rows, request.visits)
    if request.target.is_number:
        raise ConfigError("Give a conversion or a number as the target, not both (data.conversion, data.target).")
    if request.visits not in (None, "first"):
        raise ConfigError(f"A conversion is predicted from the baseline; data.visits cannot be {request.visits}.")
    visits = _visits_of_file(request) if request.conversion.table is not None else listing.visits
    return conversion_targets(rows, visits, request.conversion)


def _visits_of_file(request: ScanRequest) -> pd.DataFrame:
    """The table of visits that the conversion names."""
    assert request.conversion is not None
    path = _existing(request.conversion.table or "")
    visits, _ = table.read_table(path)
    asked = {role: name for role, name in request.columns.items() if name in visits}
    return visits_of_table(visits, table.find_columns(list(map(str, visits.columns)), asked), path.name)


def _accounted(location: Path, listing: Listing) -> Path | None:
    """The folder whose files are all accounted for: the location, or that of all images of a table."""
    if location.is_dir() and location.is_relative_to(listing.root):
        return location
    if not listing.tables:
        return None
    return listing.root / os.path.commonpath([PurePosixPath(path).parent for path in listing.rows["path"]])


def _subjects(listing: Listing, request: ScanRequest) -> SubjectNames:
    asked = request.subject_rule is not None or request.subject_pattern is not None
    if listing.subject_column is not None and not asked:
        return _subjects_of_column(listing.rows, listing.subject_column, listing.subject_kind)
    if not listing.names:
        if asked and request.subject_rule != "none":
            raise DataError("The images have no file names for a subject rule. Omit the rule.")
        return unknown_subjects(len(listing.rows))
    # Subject rules remove one extension, so ".gz" is removed here.
    names = [re.sub(r"\.gz$", "", name, flags=re.IGNORECASE) for name in listing.names]
    return subjects_from_names(names, _labels(listing.rows), rule=request.subject_rule, pattern=request.subject_pattern)


def _without_one_name_for_all(
    names: SubjectNames, listing: Listing, request: ScanRequest
) -> tuple[SubjectNames, list[str]]:
    """No subjects and a note if one name stands for the samples of all classes, as in anonymised headers."""
    labels = {label for label in _labels(listing.rows) if not pd.isna(label)}
    if not request.labelled or len(set(names.subjects)) > 1 or names.subjects[0] is None:
        return names, []
    if not 2 <= len(labels) < len(names.subjects):  # one image of each class may be one image with two labels
        return names, []
    source = "the PatientID of the headers" if "PatientID" in names.rule else names.rule
    return unknown_subjects(len(names.subjects)), [
        f"{source} names the same subject for all {len(names.subjects)} samples and tells nobody apart, so subjects "
        "are unknown. If folders or file names tell subjects apart, give --subject-pattern, for example "
        "'^(?P<subject>[^/]+/[^/]+)/' for folders class/subject"
    ]


def _without_doubtful_scans(
    names: SubjectNames, listing: Listing, request: ScanRequest
) -> tuple[SubjectNames, list[str]]:
    """The subjects without scans that counts or pixels disprove, and a note; scans that were asked for are kept."""
    empty = "subject" in listing.rows and listing.rows["subject"].isna().all()
    if names.kind == "unknown" and listing.subject_column and empty and request.subject_rule is None:
        return names, [f"the subject column '{listing.subject_column}' is empty, so subjects are unknown"]
    if names.kind != "scan" or names.rule not in SUBJECT_RULES or not request.labelled:
        return names, []
    if VOLUME_FILES in listing.rows:
        doubt = "a volume is a whole scan, not a slice"
    else:
        images = EncodedImages(listing.root, listing.rows if "row" in listing.rows else listing.rows.assign(row=None))
        doubt = reason_to_doubt(names, listing.names, images.read)
    if not doubt:
        return names, []
    example = PurePosixPath(listing.names[0]).name
    if request.subject_rule is not None:
        return names, [f"rule {names.rule} was asked for, but names such as {example} may not name scans: {doubt}"]
    return unknown_subjects(len(names.subjects)), [
        f"names such as {example} have the form <scan>_<slice>, but {doubt}. So subjects are unknown. "
        f"--subject-rule {names.rule} uses the names nevertheless"
    ]


def _subjects_of_column(rows: pd.DataFrame, column: str, kind: SubjectKind) -> SubjectNames:
    nameless = rows["sample"][rows["subject"].isna()]
    if len(nameless) == len(rows):  # as data that were prepared without known subjects
        return unknown_subjects(len(rows))
    if len(nameless):
        raise DataError(
            f"The subject column '{column}' is empty for {len(nameless)} of {len(rows)} images, first: "
            f"{nameless.iloc[0]}. Fill it in, or scan without subjects with `subject_rule` 'none'."
        )
    return replace(unknown_subjects(len(rows)), subjects=rows["subject"].to_list(), kind=kind, rule=f"column {column}")


def _one_name_per_subject(names: SubjectNames) -> tuple[SubjectNames, list[str]]:
    """The same subjects with one spelling for each, and a note if some had several."""
    changed = unify_spellings(name for name in names.subjects if name is not None)
    if not changed:
        return names, []
    subjects = [changed.get(name, name) if name is not None else None for name in names.subjects]
    return replace(names, subjects=subjects), [spelling_note(changed, "names of subjects")]


def _with_one_spelling_per_class(listing: Listing, request: ScanRequest) -> Listing:
    """The same samples with one spelling for each class, and a note if some had several."""
    present = [label for label in _labels(listing.rows) if not pd.isna(label)]
    changed = unify_spellings(present, request.classes or listing.classes or (), comparable_label)
    if not changed:
        return listing
    note = spelling_note(changed, "class names")
    return replace(
        listing, rows=listing.rows.assign(label=listing.rows["label"].replace(changed)), notes=(*listing.notes, note)
    )


def _with_numbers(listing: Listing, request: ScanRequest) -> Listing:
    """The same samples with one spelling for each number."""
    texts = number_texts(_labels(listing.rows), request.target.name)
    return replace(listing, rows=listing.rows.assign(label=pd.Series(texts, listing.rows.index, dtype="string")))


def _labels(rows: pd.DataFrame) -> list[str | None]:
    return rows["label"].to_list() if "label" in rows else [None] * len(rows)


@dataclass(frozen=True, repr=False)
class _Inspect:
    """Checks rows by opening their files: as volumes, or as images."""

    root: Path
    rows: pd.DataFrame

    @cached_property
    def _inspect(self) -> Callable[[int], Inspection]:
        files = VolumeFiles if VOLUME_FILES in self.rows else ChannelImages if MEMBERS in self.rows else EncodedImages
        return files(self.root, self.rows).inspect

    def __call__(self, chunk: range) -> list[Finding]:
        return [self._finding(position) for position in chunk]

    def _finding(self, position: int) -> Finding:
        try:
            return self._inspect(position)
        except UnusableImageError as error:
            return error

    def part(self, chunk: range) -> Callable[[], list[Finding]]:
        """The call for a chunk, for another process: with its own rows and the columns that are read."""
        read = ("path", "row", VOLUME_FILES, CHANNEL_FILES, MEMBERS, ASSUMED, IMAGE_COLUMN)
        columns = [name for name in read if name in self.rows]
        few = self.rows[columns].iloc[chunk.start : chunk.stop]
        return partial(_Inspect(self.root, few), range(len(few)))


def _inspect_all(root: Path, rows: pd.DataFrame, request: ScanRequest) -> list[Finding]:
    inspect = _Inspect(root, rows)
    # Volumes take long; and rows of parquet files are read in groups, which other processes would read once more.
    length = 1 if VOLUME_FILES in rows else _CHUNK if runs_here() or rows["row"].isna().all() else _PARQUET_CHUNK
    chunks = [range(start, min(start + length, len(rows))) for start in range(0, len(rows), length)]
    findings: list[Finding] = []
    for found in map_tasks(inspect, chunks, part=inspect.part):
        findings += found
        if request.progress is not None:
            request.progress(len(findings), len(rows))
    return findings


def _without_constant(rows: pd.DataFrame, findings: Sequence[Finding]) -> list[Finding]:
    """Findings with constant images as problems.

    A constant slice between others of its scan is only noted: scans end in black slices, and a stack needs all slices.
    """
    constant = np.array([isinstance(one, Inspection) and one.constant for one in findings])
    if not constant.any():
        return list(findings)
    scans = rows[["subject", "session"]].astype("string")
    known = (scans.notna().any(axis=1) & rows["slice"].notna()).to_numpy()
    others = pd.Series(~constant).groupby([scans[name].fillna("").to_numpy() for name in scans]).transform("any")
    problem = UnusableImageError("constant", "every pixel has the same value; remove the image, or export it again")
    note = "the slice of a scan has the same value everywhere"
    result: list[Finding] = []
    for one, is_constant, is_slice in zip(findings, constant, known & others.to_numpy(), strict=True):
        if is_constant and isinstance(one, Inspection):
            result.append(replace(one, notes=(*one.notes, note)) if is_slice else problem)
        else:
            result.append(one)
    return result


def _bad_files(samples: pd.Series, findings: Sequence[Finding]) -> list[Problem]:
    return [
        Problem(sample, finding.kind, finding.message)
        for sample, finding in zip(samples, findings, strict=True)
        if isinstance(finding, UnusableImageError)
    ]


def _with_findings(rows: pd.DataFrame, findings: Sequence[Finding], channels: Sequence[str]) -> pd.DataFrame:
    good = [finding for finding in findings if isinstance(finding, Inspection)]
    usable = rows[[isinstance(finding, Inspection) for finding in findings]]
    shapes = pd.Series([one.shape for one in good], index=usable.index, dtype="object")
    spacings = pd.Series([one.spacing for one in good], index=usable.index, dtype="object")
    usable = usable.assign(shape=shapes, spacing=spacings, digest=[one.digest for one in good])
    if MEMBERS not in usable:
        return usable
    members = [
        tuple({**member, "digest": content} for member, content in zip(members, one.members, strict=True))
        for members, one in zip(usable[MEMBERS], good, strict=True)
    ]
    views = [json.dumps({"channels": list(channels), "slices": one.members}) for one in good]
    usable[MEMBERS] = pd.Series(members, index=usable.index, dtype="object")
    usable[VIEW] = views
    return usable


def _unlabelled(rows: pd.DataFrame, target: Target) -> list[Problem]:
    samples = rows["sample"][rows["label"].isna()]
    missing = f"its {target.name}" if target.is_number else "a class"
    return [Problem(sample, "label missing", f"add {missing}, or remove the sample") for sample in samples]
