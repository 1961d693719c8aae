"""Write the images that a cleaning plan keeps: a folder of images with a table, or a table only."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from PIL import Image
from pydantic import BaseModel, ConfigDict

from gyrus.audit.image_measurements import CHUNK, Progress
from gyrus.configuration import parse, read_assignments
from gyrus.curation.cleaning import CleaningPlan
from gyrus.datasets.encoded_images import IMAGE_COLUMN, EncodedImages
from gyrus.datasets.manifest import COLUMNS, Manifest, order_classes
from gyrus.datasets.reader import Reader
from gyrus.datasets.sources.listing import SUBSET_NAMES
from gyrus.errors import DataError
from gyrus.files import new_folder, write_json, write_text
from gyrus.registry import look_up
from gyrus.transforms.preprocessing import IMAGE_STEPS, AnyImageStep, PreprocessingConfig

MANIFEST, DECISIONS, ABOUT = "manifest.csv", "decisions.csv", "preparation.json"
"""The files beside the images."""


class _Steps(BaseModel):
    model_config = ConfigDict(extra="forbid")

    steps: tuple[AnyImageStep, ...]


def parse_steps(texts: Sequence[str]) -> tuple[AnyImageStep, ...]:
    """Steps from their names, or from YAML such as ``{step: clahe, clip_limit: 3}``.

    Raises:
        ConfigError: There is no such step or field.
    """
    steps = [read_assignments([f"step={text}"])["step"] for text in texts]
    named = [{"step": step} if isinstance(step, str) else step for step in steps]
    for step in named:
        look_up(str(step.get("step") if isinstance(step, dict) else step), IMAGE_STEPS, "step")
    return parse(_Steps, {"steps": named}, where="--step").steps


def write_copy(
    plan: CleaningPlan, folder: Path, *, steps: Sequence[AnyImageStep] = (), progress: Progress | None = None
) -> Path:
    """Write the kept images as ``[subset/]class/...``, with a table of labels, subjects and other columns.

    Without steps the files are copied unchanged; with steps the pixels are written as PNG. The folder appears only when
    it is complete.

    Args:
        plan: The plan.
        folder: A new or empty folder.
        steps: Preprocessing steps, applied in order.
        progress: Called with the number of images done and the total.

    Returns:
        The folder.

    Raises:
        GyrusError: The folder is not empty, or cannot be written to.
        DataError: An image has changed since the plan was made.
    """
    cleaned = plan.cleaned
    write = _Copier(cleaned, steps)
    with new_folder(folder.resolve()) as temporary:
        paths: list[str] = []
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            for start in range(0, len(cleaned), CHUNK):
                rows = range(start, min(start + CHUNK, len(cleaned)))
                paths += pool.map(lambda row: write(row, temporary), rows)
                if progress:
                    progress(rows.stop, len(cleaned))
        _write_tables(temporary, plan, cleaned, paths, steps)
    return folder


def write_manifest(plan: CleaningPlan, folder: Path) -> Path:
    """Write a table of the kept images, which stay where they are.

    Raises:
        GyrusError: The folder is not empty, or cannot be written to.
        DataError: The images are rows of Parquet files, which a table of paths cannot name.
    """
    cleaned = plan.cleaned
    if cleaned.table["row"].notna().any():
        raise DataError(
            "These images are rows of Parquet files, which a table of paths cannot name. Write a copy instead."
        )
    folder = folder.resolve()
    with new_folder(folder) as temporary:
        root = cleaned.root.resolve()
        paths = [Path(os.path.relpath(root / path, folder)).as_posix() for path in cleaned.table["path"]]
        _write_tables(temporary, plan, cleaned, paths, ())
    return folder


def reading_options(cleaned: Manifest) -> str:
    """The options with which commands read the prepared data in the same way; "" where none are needed."""
    options = []
    if cleaned.classes != order_classes(cleaned.classes):
        options.append(f'--classes "{",".join(cleaned.classes)}"')
    if cleaned.subject_kind == "scan":
        options.append(f"--subject-rule {cleaned.subject_rule}")
    return " ".join(options)


class _Copier:
    """Writes images to their new paths."""

    def __init__(self, manifest: Manifest, steps: Sequence[AnyImageStep]) -> None:
        self._encoded = EncodedImages(manifest.root, manifest.table)
        self._reader = Reader(manifest)
        self._table = manifest.table
        self._preprocessing = PreprocessingConfig(steps=tuple(steps)) if steps else None

    def __call__(self, row: int, folder: Path) -> str:
        """Write one image into ``folder`` and return its relative path."""
        content = self._content(row)
        with Image.open(io.BytesIO(content)) as image:
            ending = f".{str(image.format).lower()}"
        path = self._path(row, ending)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        return path

    def _content(self, row: int) -> bytes:
        # Reading the pixels also checks that the image has not changed.
        pixels = self._reader.read(row)
        if self._preprocessing is None:
            return self._encoded.read(row)
        pixels = self._preprocessing.apply(pixels)
        buffer = io.BytesIO()
        Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)).save(buffer, "PNG")
        return buffer.getvalue()

    def _path(self, row: int, ending: str) -> str:
        """Folders for subset and class, then the rest of the original path."""
        record = self._table.iloc[row]
        subset, label = (None if pd.isna(record[column]) else str(record[column]) for column in ("subset", "label"))
        names = list(PurePosixPath(record["path"]).parts)
        if subset and len(names) > 1 and SUBSET_NAMES.get(names[0].lower()) == subset:
            names.pop(0)
        if len(names) > 1 and names[0] == label:
            names.pop(0)
        last = PurePosixPath(names.pop())
        if not pd.isna(record["row"]):
            last = last.with_name(f"{last.stem}_{record['row']:06d}{ending}")
        elif self._preprocessing is not None:
            last = last.with_name(f"{last.stem}{ending}")
        return "/".join([*(_as_folder(name) for name in (subset, label) if name), *names, last.name])


def _as_folder(name: str) -> str:
    return "_" if name in (".", "..") else name.replace("/", "_")


def _write_tables(
    folder: Path, plan: CleaningPlan, cleaned: Manifest, paths: Sequence[str], steps: Sequence[AnyImageStep]
) -> None:
    if len(set(paths)) < len(paths):
        duplicate = next(path for path, count in Counter(paths).items() if count > 1)
        raise DataError(
            f"Two images would be written to {duplicate}. Rename one; names must differ by more than the suffix."
        )
    _write_csv(folder / MANIFEST, _as_source(cleaned, paths))
    _write_csv(folder / DECISIONS, plan.table)
    about = {
        "manifest digest": plan.manifest.digest,
        "subjects": {"kind": cleaned.subject_kind, "rule": cleaned.subject_rule},
        "classes": list(cleaned.classes),
        "rules": plan.rules.model_dump(),
        "steps": [step.model_dump(mode="json") for step in steps],
        "images": len(plan.manifest),
        "kept": len(cleaned),
        "removed": plan.removed,
    }
    write_json(folder / ABOUT, about)


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def _as_source(cleaned: Manifest, paths: Sequence[str]) -> pd.DataFrame:
    """A table of paths that is read like the original data.

    A column of subjects is written only if subjects are known: on reading it is taken to identify people. Scan ids
    remain in the file names.
    """
    known = ["subject", "session", "slice"] if cleaned.subject_kind == "subject" else []
    kept = ["label", *known, "subset"]
    further = [name for name in cleaned.table.columns if name not in (*COLUMNS, IMAGE_COLUMN)]
    filled = [name for name in [*kept, *further] if cleaned.table[name].notna().any()]
    return pd.concat([pd.Series(paths, name="path", dtype=str), cleaned.table[filled]], axis=1)
