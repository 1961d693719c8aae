"""Write what a plan of preparation keeps: as a folder of images with a table, or as a table only."""

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
from gyrus.datasets.manifest import COLUMNS, Manifest
from gyrus.datasets.reader import IMAGE_COLUMN, EncodedImages, Reader
from gyrus.datasets.sources.build_manifest import in_order
from gyrus.datasets.sources.listing import SUBSET_WORDS
from gyrus.errors import DataError
from gyrus.files import new_folder, write_json, write_text
from gyrus.registry import look_up
from gyrus.transforms.preprocessing import IMAGE_STEPS, AnyImageStep, PreprocessingConfig

MANIFEST, DECISIONS, ABOUT = "manifest.csv", "decisions.csv", "preparation.json"
"""The files that are written beside the images."""


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
    """Write the kept images as ``[part/]class/...``, with a table that holds what is known of each.

    Without steps the files are copied as they are; with steps their pixels are written as PNG. The folder appears when
    it is whole, and an existing one is never written into.

    Args:
        plan: What is kept.
        folder: A new folder.
        steps: Applied to each image, in order.
        progress: Called with the number of images done and of all.

    Returns:
        The folder.

    Raises:
        GyrusError: The folder is there already, or cannot be written to.
        DataError: An image is not the one any more that was looked at.
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
    """Write the table of the kept images, which stay where they are.

    Raises:
        GyrusError: The folder is there already, or cannot be written to.
        DataError: The images are rows of parquet files, which a table of paths cannot name.
    """
    cleaned = plan.cleaned
    if cleaned.table["row"].notna().any():
        raise DataError("These images are rows of parquet files, which no table of paths can name. Write a copy.")
    folder = folder.resolve()
    with new_folder(folder) as temporary:
        root = cleaned.root.resolve()
        paths = [Path(os.path.relpath(root / path, folder)).as_posix() for path in cleaned.table["path"]]
        _write_tables(temporary, plan, cleaned, paths, ())
    return folder


def how_to_read(cleaned: Manifest) -> str:
    """The options with which a command reads the prepared data as these were read; "" where none is needed."""
    options = []
    if cleaned.classes != in_order(cleaned.classes):
        options.append(f'--classes "{",".join(cleaned.classes)}"')
    if cleaned.subject_kind == "scan":
        options.append(f"--subject-rule {cleaned.subject_rule}")
    return " ".join(options)


class _Copier:
    """Writes images under their new names."""

    def __init__(self, manifest: Manifest, steps: Sequence[AnyImageStep]) -> None:
        self._encoded = EncodedImages(manifest.root, manifest.table)
        self._reader = Reader(manifest)
        self._table = manifest.table
        self._preprocessing = PreprocessingConfig(steps=tuple(steps)) if steps else None

    def __call__(self, row: int, folder: Path) -> str:
        """Write one image below ``folder``; gives its path there."""
        content = self._content(row)
        with Image.open(io.BytesIO(content)) as image:
            ending = f".{str(image.format).lower()}"
        path = self._path(row, ending)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        return path

    def _content(self, row: int) -> bytes:
        # Reading the pixels also sees to it that the image is still the one that was looked at.
        pixels = self._reader.read(row)
        if self._preprocessing is None:
            return self._encoded.read(row)
        pixels = self._preprocessing.apply(pixels)
        buffer = io.BytesIO()
        Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)).save(buffer, "PNG")
        return buffer.getvalue()

    def _path(self, row: int, ending: str) -> str:
        """Part and class as folders, and below them what the path has further."""
        about = self._table.iloc[row]
        subset, label = (None if pd.isna(about[column]) else str(about[column]) for column in ("subset", "label"))
        names = list(PurePosixPath(about["path"]).parts)
        if subset and len(names) > 1 and SUBSET_WORDS.get(names[0].lower()) == subset:
            names.pop(0)
        if len(names) > 1 and names[0] == label:
            names.pop(0)
        last = PurePosixPath(names.pop())
        if not pd.isna(about["row"]):
            last = last.with_name(f"{last.stem}_{about['row']:06d}{ending}")
        elif self._preprocessing is not None:
            last = last.with_name(f"{last.stem}{ending}")
        return "/".join([*(_as_folder(name) for name in (subset, label) if name), *names, last.name])


def _as_folder(name: str) -> str:
    return "_" if name in (".", "..") else name.replace("/", "_")


def _write_tables(
    folder: Path, plan: CleaningPlan, cleaned: Manifest, paths: Sequence[str], steps: Sequence[AnyImageStep]
) -> None:
    if len(set(paths)) < len(paths):
        twice = next(path for path, count in Counter(paths).items() if count > 1)
        raise DataError(f"Two images would become {twice}. Give them names that differ by more than their ending.")
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
    """A table of paths that is read as the manifest was.

    A column of subjects is believed to hold people, so it is written for people only; names of scans stay in the
    names of the files.
    """
    known = ["subject", "session", "slice"] if cleaned.subject_kind == "subject" else []
    kept = ["label", *known, "subset"]
    further = [name for name in cleaned.table.columns if name not in (*COLUMNS, IMAGE_COLUMN)]
    filled = [name for name in [*kept, *further] if cleaned.table[name].notna().any()]
    return pd.concat([pd.Series(paths, name="path", dtype=str), cleaned.table[filled]], axis=1)
