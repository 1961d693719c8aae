"""Measure the volumes of tissues and regions of each head: a table of features, with pictures to check them."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from gyrus.datasets.manifest import VOLUME_FILES, Manifest
from gyrus.datasets.reader import PreparedVolumes, Reader
from gyrus.datasets.table_features import additional_columns
from gyrus.datasets.text_tables import write_csv
from gyrus.errors import DataError, GyrusError, NothingUsableError
from gyrus.executor import map_tasks
from gyrus.files import digest, make_folder
from gyrus.serialisation import Saved
from gyrus.text import counted
from gyrus.volumetry.measure import VERSION, measure_head
from gyrus.volumetry.template import load_template
from gyrus.volumetry.tissue_mixture import TISSUES, TissueMixture, foreground_counts, tissue_fractions
from gyrus.workflows.display import SILENT, Display, show_notes
from gyrus.workflows.experiment_config import DataConfig
from gyrus.workflows.load_data import scan_path

SHOWN_SLICES = 6
"""Slices of a stack in its picture."""


@dataclass(frozen=True)
class MeasuredSession(Saved):
    """The features of one session, or the reason why it has none.

    Attributes:
        name: Name of the session, of its picture and of its record.
        samples: The samples that were measured.
        digest: Of their content.
        version: Of the method.
        features: By name; empty after a failure.
        reason: Why it failed; empty otherwise.
        overlap: Dice overlap of the brain with the registered template; None of slices.
        seconds: How long it took.
    """

    SCHEMA: ClassVar[str] = "gyrus.measured_session/1"

    name: str
    samples: tuple[str, ...]
    digest: str
    version: int
    features: Mapping[str, float]
    reason: str = ""
    overlap: float | None = None
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Features:
    """A measured data set.

    Attributes:
        table: The table of features, CSV.
        page: The page with all pictures; the picture and the record of each session are beside it.
        sessions: What was measured, failures included.
    """

    table: Path
    page: Path
    sessions: tuple[MeasuredSession, ...]

    @property
    def failures(self) -> tuple[MeasuredSession, ...]:
        """The sessions without features."""
        return tuple(session for session in self.sessions if session.reason)


def features(
    path: str | Path,
    *,
    out: str | Path = "features.csv",
    data: DataConfig | None = None,
    display: Display = SILENT,
) -> Features:
    """Measure each session of a data set: one row of features, one picture.

    Whole heads are registered to a template; of slices, which may cover a part of the head, the fractions of the
    tissues are measured. Sessions that were measured before are not measured again if their files are the same.

    Args:
        path: Folder, table, BIDS data set, volume, DICOM folder, Parquet file, or hf:owner/name.
        out: The table, CSV. Pictures, records and the page are written into a folder of its name without the ending.
        data: How to read the data.
        display: Where progress is shown.

    Raises:
        MissingDependencyError: The optional dependencies ``volumetry`` are needed and not installed.
        DataError: The data cannot be read, or no session could be measured.
        GyrusError: A file cannot be written.
    """
    from gyrus.reporting.features_report import write_features_page

    table, folder = Path(out), Path(out).with_suffix("")
    if folder == table:
        raise DataError(f"The table {table} needs the ending .csv: its pictures go into a folder of that name.")
    manifest = scan_path(path, data, display, on_bad_file="skip")
    if not manifest.has_images:
        raise DataError(f"{path} has no images to measure.")
    if VOLUME_FILES in manifest.table:
        load_template()  # before any head is read: whether it is there, and in the cache for all workers
    make_folder(folder)
    tasks = [_Task(manifest.select(samples), name, folder) for name, samples in _sessions(manifest).items()]
    sessions = []
    with display.progress("Measuring heads") as progress:
        for number, session in enumerate(map_tasks(_Task.__call__, tasks), 1):
            sessions.append(session)
            progress(number, len(tasks))
    measured = [session for session in sessions if not session.reason]
    if not measured:
        first = sessions[0]
        raise NothingUsableError(
            f"None of {counted(len(sessions), 'session')} could be measured; the first, {first.name}: {first.reason}.",
            manifest.problems,
            manifest.root,
        )
    frame = _frame(manifest, sessions)
    write_csv(frame, table, float_format="%.6g")
    page = write_features_page(folder, (Path(path).name or str(path)), sessions, whole=VOLUME_FILES in manifest.table)
    show_notes(display, [_coverage_note(manifest)])
    return Features(table, page, tuple(sessions))


def _coverage_note(manifest: Manifest) -> str:
    if VOLUME_FILES in manifest.table:
        return ""
    return (
        "the data are slices: fractions of the tissues within these slices were measured, without a registration. They "
        "can be compared between subjects only if all have the same part of the head, without the skull."
    )


def _sessions(manifest: Manifest) -> dict[str, list[str]]:
    """The samples of each session by its name; volumes are sessions, slices of unknown subjects too."""
    table = manifest.table
    keys = table["subject"].astype("string")
    keys = keys.str.cat(table["session"].astype("string"), sep="_", na_rep="").str.removesuffix("_")
    alone = (VOLUME_FILES in table) | keys.isna()
    keys = keys.where(~pd.Series(alone, index=table.index), table["sample"].astype("string"))
    found: dict[str, list[str]] = {}
    for key, samples in table.groupby(keys, sort=False)["sample"]:
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", str(key)).strip("_.") or "session"
        if VOLUME_FILES in table:
            name = re.sub(r"(\.nii)?(\.gz)?$", "", name.rpartition("anat_")[2])
        if name in found or len(name) > 100:  # unlike names may be alike without their signs
            name = f"{name[:80]}-{digest(str(key))[:8]}"
        found[name] = samples.tolist()
    return found


def _frame(manifest: Manifest, sessions: Sequence[MeasuredSession]) -> pd.DataFrame:
    """One row per session: who it is, its label and further columns of the data, and its features."""
    first = manifest.table.drop_duplicates("sample").set_index("sample")
    further = [name for name in additional_columns(manifest.table) if first[name].map(np.isscalar).all()]
    names = list(dict.fromkeys(name for session in sessions for name in session.features))
    rows: list[dict[str, Any]] = []
    for session in sessions:
        row = first.loc[session.samples[0]]
        known: dict[str, Any] = {"subject": row["subject"], "session": row["session"], "label": row["label"]}
        known |= {name: row[name] for name in further if name not in names}
        if pd.isna(known["subject"]):
            known["subject"] = session.name
        rows.append(known | {name: session.features.get(name) for name in names})
    frame = pd.DataFrame(rows)
    return frame.drop(columns=[name for name in ("session", "label") if frame[name].isna().all()])


@dataclass(frozen=True, eq=False)
class _Task:
    """Measure one session.

    Attributes:
        manifest: Its samples only.
        name: Its name.
        folder: Where its picture and its record are written.
    """

    manifest: Manifest
    name: str
    folder: Path

    def __call__(self) -> MeasuredSession:
        """The session, from its record if nothing has changed since it was measured."""
        record, picture = self.folder / "records" / f"{self.name}.json", self.folder / "pictures" / f"{self.name}.png"
        content = digest([self.manifest.table["digest"].tolist(), VOLUME_FILES in self.manifest.table])
        known = self._known(record, picture, content)
        if known is not None:
            return known
        started = time.perf_counter()
        samples = tuple(self.manifest.table["sample"])
        found: dict[str, Any] = {"features": {}}
        try:
            found = self._whole(picture) if VOLUME_FILES in self.manifest.table else self._slices(picture)
        except GyrusError as error:
            found["reason"] = _first_sentence(str(error))
        except (MemoryError, np.linalg.LinAlgError) as error:
            found["reason"] = f"{type(error).__name__}: {error}"
        seconds = round(time.perf_counter() - started, 2)
        session = MeasuredSession(self.name, samples, content, VERSION, seconds=seconds, **found)
        session.save(record)
        return session

    def _known(self, record: Path, picture: Path, content: str) -> MeasuredSession | None:
        if not (record.is_file() and picture.is_file()):
            return None
        try:
            known = MeasuredSession.load(record)
        except GyrusError:  # damaged, or of another version
            return None
        return known if (known.digest, known.version, known.reason) == (content, VERSION, "") else None

    def _whole(self, picture: Path) -> dict[str, Any]:
        from gyrus.reporting.features_figures import save_head_picture

        head = measure_head(PreparedVolumes(self.manifest, ()).volume(0), load_template())
        save_head_picture(head.view, load_template().affine, self.name, head.features, picture)
        return {"features": head.features, "overlap": round(head.overlap, 4)}

    def _slices(self, picture: Path) -> dict[str, Any]:
        from gyrus.reporting.features_figures import save_slices_picture

        reader = Reader(self.manifest)
        counts = np.zeros(256, np.int64)
        order = self.manifest.table["slice"].astype("float").fillna(0).to_numpy().argsort(kind="stable")
        shown = set(order[np.linspace(0, len(order) - 1, min(SHOWN_SLICES, len(order))).round().astype(int)])
        kept: list[np.ndarray] = []
        for position in order:
            pixels = np.clip(np.rint(reader.read_stored(int(position))[0]), 0, 255).astype(np.uint8)
            counts += foreground_counts(pixels)
            if position in shown:
                kept.extend(_some_slices(pixels))
        fractions = tissue_fractions(counts)
        found = {f"{tissue}_fraction": value for tissue, value in zip(TISSUES, fractions, strict=True)}
        found["brain_fraction"] = found["gray_matter_fraction"] + found["white_matter_fraction"]
        save_slices_picture(kept, TissueMixture.fit_counts(counts), self.name, found, picture)
        return {"features": found}


def _some_slices(pixels: np.ndarray) -> list[np.ndarray]:
    """A slice, or some slices of a stack, evenly spaced."""
    if pixels.ndim == 2:
        return [pixels]
    places = np.linspace(0, len(pixels) - 1, min(SHOWN_SLICES, len(pixels))).round().astype(int)
    return [pixels[place] for place in places]


def _first_sentence(message: str) -> str:
    return message.splitlines()[0].strip().removesuffix(".")
