"""Which subjects and files a classifier was made with, as digests: to find them in a cohort without naming them."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from gyrus.datasets.identifiers import comparable
from gyrus.datasets.manifest import MEMBERS, VIEW
from gyrus.serialisation import Saved

if TYPE_CHECKING:
    import pandas as pd

    from gyrus.datasets.manifest import Manifest
    from gyrus.datasets.store import Progress
    from gyrus.transforms.preprocessing import PreprocessingConfig

ROUNDS = 1000
"""Rounds of PBKDF2 for an identifier: trying all identifiers of a common form takes a thousand times as long."""


@dataclass(frozen=True)
class TrainingSubjects(Saved):
    """The content of ``training_subjects.json``: subjects and files of the training and validation sets, and others.

    Attributes:
        salt: Random, hexadecimal; digests of two bundles cannot be compared.
        subjects: A digest of each identifier in its comparable form, sorted; empty where subjects are unknown.
        files: A digest of the SHA-256 of each file, sorted.
        held_out_subjects: The same of the test set and of images in no subset; subjects who are in both are above.
        held_out_files: The same of their files.
        pixels: A digest of each prepared image, sorted: it stays the same where a file is saved again without loss.
            Empty where the images were not at hand at export, and in bundles of earlier versions.
        held_out_pixels: The same of the other images.
    """

    SCHEMA: ClassVar[str] = "gyrus.training-subjects/1"

    salt: str
    subjects: tuple[str, ...]
    files: tuple[str, ...]
    held_out_subjects: tuple[str, ...] = ()
    held_out_files: tuple[str, ...] = ()
    pixels: tuple[str, ...] = ()
    held_out_pixels: tuple[str, ...] = ()

    @classmethod
    def from_rows(
        cls,
        used: Iterable[pd.DataFrame],
        held_out: Iterable[pd.DataFrame] = (),
        pixels: set[str] | frozenset[str] = frozenset(),
        held_out_pixels: set[str] | frozenset[str] = frozenset(),
    ) -> TrainingSubjects:
        """Digests of the subjects and files in tables of manifests.

        Args:
            used: Rows of training and validation sets.
            held_out: The other rows.
            pixels: From :func:`pixel_digests`, of the training and validation sets.
            held_out_pixels: The same of the other rows.
        """
        salt = secrets.token_bytes(16)
        names, files = _names_and_files(used)
        other_names, other_files = _names_and_files(held_out)

        def digests(values: Iterable[str], digest: Callable[[str, bytes], str]) -> tuple[str, ...]:
            return tuple(sorted(digest(value, salt) for value in values))

        return cls(
            salt.hex(),
            digests(names, _subject_digest),
            digests(files, _file_digest),
            digests(other_names - names, _subject_digest),
            digests(other_files - files, _file_digest),
            digests(pixels, _file_digest),
            digests(held_out_pixels - pixels, _file_digest),
        )

    @property
    def held_out(self) -> TrainingSubjects:
        """The digests of the test set and of images in no subset, to be looked up in the same way."""
        return TrainingSubjects(self.salt, self.held_out_subjects, self.held_out_files, pixels=self.held_out_pixels)

    def seen_subjects(self, identifiers: Iterable[str]) -> tuple[str, ...]:
        """Those of some identifiers that were in the training or validation set, sorted."""
        salt = bytes.fromhex(self.salt)
        known = self._subjects
        return tuple(
            sorted(name for name in {*identifiers} if known and _subject_digest(comparable(name), salt) in known)
        )

    def seen_files(self, digests: Iterable[str]) -> tuple[str, ...]:
        """Those of some SHA-256 digests whose files were in the training or validation set, sorted."""
        salt = bytes.fromhex(self.salt)
        return tuple(sorted(value for value in {*digests} if _file_digest(value, salt) in self._files))

    def seen_pixels(self, digests: Iterable[str]) -> tuple[str, ...]:
        """Those of some :func:`pixel_digests` whose images were in the training or validation set, sorted."""
        salt, known = bytes.fromhex(self.salt), {*self.pixels}
        return tuple(sorted(value for value in {*digests} if known and _file_digest(value, salt) in known))

    @cached_property
    def _subjects(self) -> frozenset[str]:
        return frozenset(self.subjects)

    @cached_property
    def _files(self) -> frozenset[str]:
        return frozenset(self.files)


def file_digests(table: pd.DataFrame) -> list[set[str]]:
    """The digests of the files behind each row of a manifest; those of a volume or stack are of its own files."""
    if MEMBERS in table:
        return [{member["digest"] for member in members if member["digest"]} for members in table[MEMBERS]]
    if VIEW in table:
        views = zip(table[VIEW], table["digest"], strict=True)
        return [{str(json.loads(view)["volume"]) if isinstance(view, str) else str(own)} for view, own in views]
    return [{value} if isinstance(value, str) else set() for value in table["digest"]]


def pixel_digests(
    manifest: Manifest,
    preprocessing: PreprocessingConfig,
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> list[str | None]:
    """A digest of each prepared image; None for one without contrast, which many scans have.

    Args:
        manifest: The images.
        preprocessing: The steps.
        cache: As for :func:`gyrus.datasets.store.open_store`.
        progress: As there.

    Raises:
        DataError: An image cannot be read or prepared.
    """
    from gyrus.datasets.store import open_store

    found: list[str | None] = []
    for image in open_store(manifest, preprocessing, cache=cache, progress=progress).pixels:
        content = hashlib.sha256(str(image.shape).encode() + np.ascontiguousarray(image).tobytes())
        found.append(content.hexdigest() if image.min() < image.max() else None)
    return found


def _names_and_files(tables: Iterable[pd.DataFrame]) -> tuple[set[str], set[str]]:
    """The comparable identifiers and the file digests in tables of manifests."""
    names: set[str] = set()
    files: set[str] = set()
    for table in tables:
        names |= {comparable(str(name)) for name in table["subject"].dropna()}
        files = files.union(*file_digests(table))
    return names, files


def _subject_digest(name: str, salt: bytes) -> str:
    return hashlib.pbkdf2_hmac("sha256", name.encode(), salt, ROUNDS).hex()[:32]


def _file_digest(value: str, salt: bytes) -> str:
    return hashlib.sha256(salt + value.encode()).hexdigest()[:32]
