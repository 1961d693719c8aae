"""The manifest: the table of a data set, one row per image or volume."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from gyrus.datasets.class_order import recognise_order, stated_order
from gyrus.datasets.file_counts import FileCounts
from gyrus.datasets.identifiers import comparable_label
from gyrus.datasets.targets import CLASSES, Target
from gyrus.errors import BadFilesError, ConfigError, DataError, NothingUsableError
from gyrus.files import atomic_path, digest, reading
from gyrus.text import counted, html_table

if TYPE_CHECKING:
    import pandas as pd

SubjectKind = Literal["subject", "scan", "inferred", "unknown"]
"""Content of the subject column: subjects; scans, of which a subject may have several; groups of images that the audit
inferred to be of one subject; or nothing."""

COLUMNS = (
    "sample",  # str, unique: path below the root, or path#row
    "path",  # str, posix, below the root
    "row",  # Int64, the row of a parquet file that holds the pixels, else NA
    "label",  # str, one of the classes, or a number as text; NA if unlabelled
    "subject",  # str or NA
    "session",  # str or NA: visit or scan of the subject
    "slice",  # Int64 or NA: position within the scan
    "subset",  # str or NA: train, val or test, if the layout of the files gives it
    "shape",  # tuple of int: rows, columns (2D) or slices, rows, columns (3D)
    "spacing",  # tuple of float in mm, one per axis, or NA
    "digest",  # str: SHA-256 of the encoded bytes
)

MEMBERS = "members"
"""Additional column of stacks: for each volume a tuple of {path, row, digest}, one per slice, bottom to top; a slice
without a path is black."""

VOLUME_FILES = "files"
"""Additional column of volumes: the paths below the root of all files of each volume."""

CHANNEL_FILES = "channel_files"
"""Additional column of volumes with several channels: a tuple of {channel, files}, one per channel in order; a missing
channel has no files. Slices with several channels have one of the :data:`MEMBERS` for each."""

SEQUENCES = "sequences"
"""Additional column of samples with several channels: those that are there, as "t1+flair"."""

AFFINE = "affine"
"""Additional column of slices that were cut from a volume, and of their stacks: the affine of the volume or the stack
in RAS+, (4, 4), as JSON."""

VIEW = "view"
"""Additional column of samples that show only some slices of a volume: which slices, as JSON; written by
:mod:`gyrus.datasets.slice_stacks` and :mod:`gyrus.datasets.slices`."""

LONGEST_CLASS = 200
"""Letters of the name of a class, at most: it stands in tables, figures and names of columns."""

_TEXT = ("sample", "path", "label", "subject", "session", "subset", "digest")
_NUMBER = ("row", "slice")
_NUMERIC = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True)
class Problem:
    """A sample that was excluded, with the reason.

    Attributes:
        sample: Path below the root, or path#row.
        kind: A key of :data:`PROBLEM_KINDS`.
        message: What is wrong, and how to fix it.
    """

    sample: str
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.sample}: {self.kind}: {self.message}"


def sequences_text(channels: Iterable[str]) -> str:
    """The channels of a sample that are there, as in the column :data:`SEQUENCES`."""
    return "+".join(channels)


def commonest_first(problems: Iterable[Problem]) -> list[Problem]:
    """The problems by kind, the commonest kind first, and by sample."""
    problems = list(problems)
    counts = Counter(problem.kind for problem in problems)
    return sorted(problems, key=lambda problem: (-counts[problem.kind], problem.kind, problem.sample))


def count_reasons(problems: Iterable[Problem]) -> str:
    """How many samples have each kind of problem, the commonest first: "8 x two labels, 1 x empty"."""
    counts = Counter(problem.kind for problem in commonest_first(problems))
    return ", ".join(f"{count} x {kind}" for kind, count in counts.items())


def describe_reasons(problems: Iterable[Problem]) -> str:
    """One line per kind of problem, the commonest first, with its number and its first sample."""
    ordered = commonest_first(problems)
    counts = Counter(problem.kind for problem in ordered)
    firsts = {problem.kind: problem for problem in reversed(ordered)}
    lines = [
        f"\n  {count} x {kind}, {'first: ' * (count > 1)}{firsts[kind].sample}: {firsts[kind].message}"
        for kind, count in counts.items()
    ]
    return "".join(lines)


PROBLEM_KINDS = {
    "empty": "the file or cell has zero bytes",
    "not an image": "the content has no readable format",
    "truncated": "the content ends too early",
    "unreadable": "the file cannot be opened, or its content is damaged",
    "decompression bomb": "the header announces an absurd number of pixels",
    "too large": "reading it needs more memory than is set aside",
    "colour mode": "colours that become 8-bit gray or RGB only by a guess (transparent pixels, CMYK ...)",
    "16-bit": "more than 8 bits per sample, and no window is stated",
    "constant": "every pixel or voxel has the same value",
    "several frames": "more than one image in the file",
    "label missing": "the sample has no label",
    "two labels": "the subject has samples of more than one class",
    "missing": "the table names a file that does not exist",
    "orientation unknown": "the header of the volume has no orientation",
    "spacing unknown": "the header of the volume has no voxel size",
    "several volumes": "more than one volume in the file or series (time points, echoes)",
    "voxel type": "voxels that are not one gray value each: complex numbers, colours, vectors",
    "geometry": "the slices or axes do not form one volume (missing slices, different orientations)",
    "channel missing": "the session has no file of one of the channels",
    "too few slices": "the scan has fewer slices than the stack needs",
    "not prepared": "a step of the preprocessing fails on the sample, or makes it of another size than the others",
    "dimensions": "a volume for a classifier of 2D images, or a 2D image for a classifier of volumes",
}


@dataclass(frozen=True)
class Manifest:
    """The table of a data set. The rest of Gyrus knows files only through it.

    Attributes:
        table: One row per usable sample, sorted by ``sample``; the :data:`COLUMNS` first, then additional columns of
            the source (age, sex, site ...). Independent of directory order.
        classes: The class names in the order of the model's outputs.
        root: The folder that ``path`` is relative to.
        subject_kind: Content of the subject column.
        subject_rule: How subjects were identified: the name of a rule, "column ...", or "none".
        problems: The samples that were excluded.
        notes: Decisions and oddities that exclude no sample.
        files: What became of every file below the root; None if that is not known.
        constant: Digests of the slices that have one value everywhere. They are no sign that two samples are copies.
        target: What is predicted: classes, or the number in the column of labels, which has no classes.
        near_copies: Groups of samples that are altered copies of each other, where they were searched for: a split
            keeps each in one subset.
    """

    table: pd.DataFrame
    classes: tuple[str, ...]
    root: Path
    subject_kind: SubjectKind = "unknown"
    subject_rule: str = "none"
    problems: tuple[Problem, ...] = field(default=())
    notes: tuple[str, ...] = ()
    files: FileCounts | None = None
    constant: tuple[str, ...] = ()
    target: Target = CLASSES
    near_copies: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def from_rows(
        cls,
        table: pd.DataFrame,
        *,
        root: Path,
        classes: Sequence[str] | None = None,
        subject_kind: SubjectKind = "unknown",
        subject_rule: str = "none",
        problems: Sequence[Problem] = (),
        notes: Sequence[str] = (),
        files: FileCounts | None = None,
        constant: Sequence[str] = (),
        target: Target = CLASSES,
    ) -> Manifest:
        """Build a manifest from the rows of a source: columns, types and order.

        The rows have at least ``sample`` and ``path``; missing columns are filled with NA. Classes are by default those
        of the table, sorted.

        Raises:
            DataError: Two rows are the same sample, or a label is not among ``classes``.
        """
        table = table.copy()
        for column in COLUMNS:
            if column not in table:
                table[column] = None
        for column in _TEXT:
            table[column] = table[column].astype("string")
        for column in _NUMBER:
            table[column] = table[column].astype("Int64")
        for column in _sequences(table):
            table[column] = _objects(table, column, tuple)
        further = [column for column in table.columns if column not in COLUMNS]
        table = table[[*COLUMNS, *further]].sort_values("sample", kind="stable").reset_index(drop=True)

        twice = table["sample"][table["sample"].duplicated()]
        if len(twice):
            raise DataError(f"Two rows are the same sample '{twice.iloc[0]}'. Remove one of them.")
        found = [] if target.is_number else sorted(table["label"].dropna().unique())
        endless = [name for name in found if len(name) > LONGEST_CLASS]
        if endless:
            raise DataError(
                f"The name of a class has {len(endless[0]):,} letters: '{endless[0][:40]}...'; at most {LONGEST_CLASS} "
                "are supported. Is this the column of the labels (--column label=NAME)? Otherwise give short names."
            )
        names = tuple(classes) if classes is not None else tuple(found)
        strangers = [name for name in found if name not in names]
        if strangers:
            raise DataError(
                f"Labels {strangers} are not among the classes {list(names)}. "
                "Name all classes in order, or omit the classes."
            )
        return cls(
            table,
            names,
            Path(root),
            subject_kind,
            subject_rule,
            tuple(problems),
            tuple(notes),
            files,
            tuple(constant),
            target,
        )

    def _repr_html_(self) -> str:
        table, subjects = self.table, self.table["subject"]
        rows = [
            (
                name,
                counted(int((table["label"] == name).sum()), "image"),
                counted(subjects[table["label"] == name].nunique(), self.subject_kind)
                if subjects.notna().any()
                else "",
            )
            for name in self.classes
        ]
        title = f"{counted(len(table), 'image')} of {counted(subjects.nunique(), 'subject')} in {self.root.name}"
        unusable = f"{counted(len(self.problems), 'sample')} excluded." if self.problems else ""
        return html_table(title, rows, (f"Subjects: {self.subject_rule}.", unusable, *self.notes))

    def derive(
        self, rows: Sequence[Mapping[str, Any]], *, problems: Sequence[Problem] | None = None, notes: Sequence[str] = ()
    ) -> Manifest:
        """A manifest of other samples of the same data; ``problems`` replace those of this one, ``notes`` are added."""
        import pandas as pd

        return Manifest.from_rows(
            pd.DataFrame(rows),
            root=self.root,
            classes=self.classes,
            subject_kind=self.subject_kind,
            subject_rule=self.subject_rule,
            problems=self.problems if problems is None else problems,
            notes=(*self.notes, *notes),
            files=self.files,
            constant=self.constant,
            target=self.target,
        )

    def __len__(self) -> int:
        return len(self.table)

    @property
    def digest(self) -> str:
        """SHA-256 of contents, labels, subjects, subsets and classes, independent of the location of the files."""
        columns = ["sample", "label", "subject", "session", "slice", "subset", "digest"]
        rows = self.table[columns].astype("string").fillna("").to_numpy().tolist()
        return digest({"classes": list(self.classes), "rows": rows, **self.target.facts()})

    @property
    def targets(self) -> pd.Series:
        """The class index of each row, as int64, -1 if it is missing; or the number, as float64, NaN if missing."""
        if self.target.is_number:
            return self.table["label"].astype("object").astype("float64")
        index = {name: number for number, name in enumerate(self.classes)}
        return self.table["label"].map(index).fillna(-1).astype("int64")

    @property
    def scored_units(self) -> tuple[pd.Series, Literal["subject", "scan", "visit"]]:
        """What predictions are pooled and scored by, and its kind: the subject of each row, its scan or its visit.

        Where the label of a subject changes between visits, it is the subject and its visit, because one subject has
        no single class; the subject remains what intervals resample.
        """
        subjects = self.table["subject"]
        if not (self.table["label"].groupby(subjects).nunique() > 1).any():
            return subjects, "scan" if self.subject_kind == "scan" else "subject"
        return subjects.str.cat(self.table["session"], sep=", visit ", na_rep=""), "visit"

    @property
    def has_images(self) -> bool:
        """Whether the samples are images; False for the rows of a table of subjects."""
        return bool(self.table["shape"].notna().any())

    @property
    def spatial_dims(self) -> int:
        """The axes of a sample: 2 of images and slices, 3 of volumes and stacks."""
        if VIEW in self.table and isinstance(view := self.table[VIEW].iloc[0], str):
            return 3 if "stack" in json.loads(view) else 2
        return 3 if VOLUME_FILES in self.table or MEMBERS in self.table else 2

    def in_bands(self, count: int) -> Manifest:
        """The manifest of a number with bands of it as classes, "20 to 45": for checks that need classes.

        Args:
            count: The number of bands, with about equal numbers of samples; fewer where many numbers are equal.
        """
        import numpy as np
        import pandas as pd

        numbers = self.targets
        inner = np.quantile(numbers.dropna(), np.arange(1, count) / count)
        edges = np.unique([numbers.min(), *(float(f"{edge:.3g}") for edge in inner), numbers.max()])
        names = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
        place = np.clip(np.searchsorted(edges, numbers, side="right") - 1, 0, len(names) - 1)
        label = pd.Series([names[each] for each in place], self.table.index, dtype="string").where(numbers.notna())
        return replace(self, table=self.table.assign(label=label), classes=tuple(names), target=CLASSES)

    @property
    def channels(self) -> tuple[str, ...]:
        """The names of the channels of every sample, where a sample is a session with several files; else none."""
        if CHANNEL_FILES in self.table and len(self.table):
            return tuple(str(one["channel"]) for one in self.table[CHANNEL_FILES].iloc[0])
        if VIEW in self.table and len(self.table) and isinstance(view := self.table[VIEW].iloc[0], str):
            return tuple(json.loads(view).get("channels", ()))
        return ()

    def select(self, samples: Sequence[str]) -> Manifest:
        """The manifest of the given samples only, in the order of the table."""
        keep = self.table["sample"].isin(set(samples))
        return replace(self, table=self.table[keep].reset_index(drop=True))

    def without(self, problems: Sequence[Problem]) -> Manifest:
        """The manifest without the samples of some problems, which are added to its problems.

        Raises:
            NothingUsableError: No sample is left.
        """
        found = sorted({*self.problems, *problems}, key=lambda problem: problem.sample)
        bad = {problem.sample for problem in problems}
        table = self.table[~self.table["sample"].isin(bad)].reset_index(drop=True)
        if table.empty:
            raise nothing_usable(self.root, found)
        return replace(self, table=table, problems=tuple(found))

    def merge(self, groups: Mapping[str, Sequence[str]], *, if_missing: Literal["fail", "skip"] = "fail") -> Manifest:
        """The manifest with some classes merged.

        Args:
            groups: The members of each new class. Classes that are in no group stay as they are.
            if_missing: At members that are no class of the data: fail, or merge the others and add a note.

        Raises:
            DataError: A class is unknown or named twice, or the new name is that of a class that stays.
        """
        # Spellings of one class were made one when the data were read; a config may name another.
        spelling = {comparable_label(name): name for name in self.classes} | {name: name for name in self.classes}
        groups = {
            new: tuple(dict.fromkeys(spelling.get(name, spelling.get(comparable_label(name), name)) for name in names))
            for new, names in groups.items()
        }
        missing = [name for names in groups.values() for name in names if name not in self.classes]
        if missing and if_missing == "skip":
            present = {new: [name for name in names if name in self.classes] for new, names in groups.items()}
            note = f"not merged, because the data have no such class: {', '.join(missing)}"
            noted = replace(self, notes=(*self.notes, note))
            groups = {new: names for new, names in present.items() if names}
            return noted.merge(groups) if groups else noted
        taken = [name for names in groups.values() for name in names]
        strangers = [name for name in taken if name not in self.classes]
        twice = sorted({name for name in taken if taken.count(name) > 1})
        clashes = [name for name in groups if name in self.classes and name not in taken]
        if strangers or twice or clashes:
            raise DataError(
                f"The classes cannot be merged as {dict(groups)}. Classes: {list(self.classes)}; unknown: {strangers}; "
                f"named twice: {twice}; new names of classes that stay: {clashes}."
            )
        new = {old: name for name, names in groups.items() for old in names}
        classes = tuple(dict.fromkeys(new.get(name, name) for name in self.classes))
        table = self.table.assign(label=self.table["label"].replace(new))
        merged = "; ".join(f"{name}: {', '.join(names)}" for name, names in groups.items())
        found = replace(self, table=table, classes=classes, notes=(*self.notes, f"merged classes: {merged}"))
        return found if self.target.is_number else found._ordered_as(self, new)

    def with_order(self, order: Order = None, *, given: bool = False) -> Manifest:
        """The manifest with its classes as stages, from the lowest to the highest.

        Args:
            order: None: where the names of the classes have a known order. True: they must have one, or be numbers, or
                stand in it already. False: nowhere. Or the classes in their order.
            given: Whether the present order of the classes was given. It is then kept: it is that of the stages, or the
                classes have no order.

        Raises:
            ConfigError: The stated order does not match the classes, or none is known.
        """
        if order is False or self.target.is_number:
            return self
        known = recognise_order(self.classes)
        if order is not None and order is not True:
            return self._with_stages(stated_order(self.classes, order), "as stated")
        if known and (not given or known[0] == self.classes):
            return self._with_stages(*known)
        if order is None:
            if known:
                note = (
                    f"the classes are unordered, because they were given in another order than that of the stages, "
                    f"{' < '.join(known[0])}"
                )
                return replace(self, notes=(*self.notes, note))
            return self
        if not given and not all(_NUMERIC.fullmatch(name) for name in self.classes):
            raise ConfigError(
                f"The order of the classes {list(self.classes)} is not known by their names. State it, the lowest "
                "first: --ordered 'a<b<c' (data.ordered)."
            )
        return self._with_stages(self.classes, "as given" if given else "by value")

    def _with_stages(self, classes: tuple[str, ...], about: str) -> Manifest:
        note = (
            f"ordered classes ({about}): {' < '.join(classes)}; scores, tables and figures follow this order "
            "(--no-ordered: unordered)"
        )
        return replace(self, classes=classes, target=replace(self.target, kind="ordered"), notes=(*self.notes, note))

    def _ordered_as(self, before: Manifest, new: Mapping[str, str]) -> Manifest:
        """This manifest after a merge: ordered, where only neighbouring stages were merged; else without an order."""
        if not before.target.is_ordered:
            return self
        runs = [name for name, _ in groupby(new.get(name, name) for name in before.classes)]
        if len(runs) == len(self.classes):
            return self
        note = "the classes have no order any more, because stages that are no neighbours were merged"
        return replace(self, target=CLASSES, notes=(*self.notes, note))

    def require_clean(self) -> None:
        """Refuse a data set with excluded samples.

        Raises:
            BadFilesError: There are problems; its report lists them.
        """
        if self.problems:
            raise BadFilesError(
                f"{counted(len(self.problems), 'sample')} cannot be used ({count_reasons(self.problems)}). Fix or "
                "remove them, "
                "or exclude them with --on-bad-file skip.",
                [str(problem) for problem in commonest_first(self.problems)],
            )

    def save(self, path: Path) -> None:
        """Write as one parquet file; everything except the table is stored in its metadata."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        about = {
            "classes": list(self.classes),
            "root": str(self.root),
            "subject_kind": self.subject_kind,
            "subject_rule": self.subject_rule,
            "problems": [[problem.sample, problem.kind, problem.message] for problem in self.problems],
            "notes": list(self.notes),
            "files": self.files.to_document() if self.files else None,
            "constant": list(self.constant),
            "near_copies": [list(group) for group in self.near_copies],
            **self.target.facts(),
        }
        frame = self.table.copy()
        for column in _sequences(frame):
            frame[column] = _objects(frame, column, list)
        content = pa.Table.from_pandas(frame, preserve_index=False)
        content = content.replace_schema_metadata({**(content.schema.metadata or {}), b"gyrus": json.dumps(about)})
        with atomic_path(path) as temporary:
            pq.write_table(content, temporary)

    @classmethod
    def load(cls, path: Path) -> Manifest:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is missing, or :meth:`save` has not written it.
        """
        import pyarrow.parquet as pq

        with reading(path, "a manifest written by Gyrus"):
            content = pq.read_table(path)
            about = json.loads((content.schema.metadata or {})[b"gyrus"])
            return cls._from_saved(content.to_pandas(), about)

    @classmethod
    def _from_saved(cls, table: pd.DataFrame, about: Mapping[str, Any]) -> Manifest:
        found = cls.from_rows(
            table.rename(columns={"part": "subset"}),  # the column's name before version 0.2
            root=Path(about["root"]),
            classes=about["classes"],
            subject_kind=about["subject_kind"],
            subject_rule=about["subject_rule"],
            problems=[Problem(*problem) for problem in about["problems"]],
            notes=about.get("notes", ()),
            files=FileCounts(**about["files"]) if about.get("files") else None,
            constant=about.get("constant", ()),
            target=Target.from_facts(about),
        )
        return replace(found, near_copies=tuple(map(tuple, about.get("near_copies", ()))))


def nothing_usable(root: Path, problems: Sequence[Problem]) -> NothingUsableError:
    """The error for a data set all of whose samples have problems; it counts the reasons."""
    words = f"None of the {len(problems)} images of {root} can be used:{describe_reasons(problems)}"
    return NothingUsableError(words, problems, root)


def require_dimensions(manifest: Manifest, axes: int, classifier: str) -> Manifest:
    """The manifest, if its samples have as many axes as the images that a classifier takes.

    Args:
        manifest: New samples.
        axes: 2 for networks of images, 3 for networks of volumes.
        classifier: What holds the network, for the message: "run" or "bundle".

    Raises:
        NothingUsableError: They are volumes for a network of 2D images, or the reverse.
    """
    if axes == manifest.spatial_dims:
        return manifest
    reason = (
        f"it is a volume, and this {classifier} classifies 2D images. Use a {classifier} trained on volumes, or write "
        "its slices with `gyrus data convert --to stack` and predict those"
        if axes == 2
        else f"it is a 2D image, and this {classifier} classifies volumes. Give the volume, or use a {classifier} "
        "trained on 2D images"
    )
    raise nothing_usable(manifest.root, [Problem(name, "dimensions", reason) for name in manifest.table["sample"]])


Order = bool | Sequence[str] | None
"""Whether classes are ordered: None where their names have a known order; or the classes, the lowest first."""


def order_classes(names: Iterable[str]) -> tuple[str, ...]:
    """Distinct class names in order: numbers by value, others alphabetically."""
    distinct = sorted(set(names))
    if all(_NUMERIC.fullmatch(name) for name in distinct):
        distinct.sort(key=float)
    return tuple(distinct)


def _sequences(table: pd.DataFrame) -> list[str]:
    """The columns whose cells are sequences."""
    return [column for column in ("shape", "spacing", MEMBERS, VOLUME_FILES, CHANNEL_FILES) if column in table]


def _objects(table: pd.DataFrame, column: str, kind: type[tuple] | type[list]) -> pd.Series:
    """A column of sequences as tuples or lists; None where a cell is empty."""
    import pandas as pd

    return pd.Series([None if value is None else kind(value) for value in table[column]], table.index, dtype=object)
