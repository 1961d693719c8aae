"""Which subjects and files a classifier was trained with, as digests: to find them in a cohort without naming them."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from gyrus.datasets.identifiers import comparable
from gyrus.datasets.manifest import MEMBERS, VIEW
from gyrus.serialisation import Saved

if TYPE_CHECKING:
    import pandas as pd

ROUNDS = 1000
"""Rounds of PBKDF2 for an identifier: trying all identifiers of a common form takes a thousand times as long."""


@dataclass(frozen=True)
class TrainingSubjects(Saved):
    """The content of ``training_subjects.json``: subjects and files of the training and validation sets.

    Attributes:
        salt: Random, hexadecimal; digests of two bundles cannot be compared.
        subjects: A digest of each identifier in its comparable form, sorted; empty where subjects are unknown.
        files: A digest of the SHA-256 of each file, sorted.
    """

    SCHEMA: ClassVar[str] = "gyrus.training-subjects/1"

    salt: str
    subjects: tuple[str, ...]
    files: tuple[str, ...]

    @classmethod
    def from_rows(cls, rows: Iterable[pd.DataFrame]) -> TrainingSubjects:
        """Digests of the subjects and files in tables of manifests."""
        salt = secrets.token_bytes(16)
        names: set[str] = set()
        files: set[str] = set()
        for table in rows:
            names |= {comparable(str(name)) for name in table["subject"].dropna()}
            files |= file_digests(table)
        return cls(
            salt.hex(),
            tuple(sorted(_subject_digest(name, salt) for name in names)),
            tuple(sorted(_file_digest(value, salt) for value in files)),
        )

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

    @cached_property
    def _subjects(self) -> frozenset[str]:
        return frozenset(self.subjects)

    @cached_property
    def _files(self) -> frozenset[str]:
        return frozenset(self.files)


def file_digests(table: pd.DataFrame) -> set[str]:
    """The digests of the files behind the rows of a manifest; those of a volume or stack are of its own files."""
    if MEMBERS in table:
        return {member["digest"] for members in table[MEMBERS] for member in members if member["digest"]}
    if VIEW in table:
        views = zip(table[VIEW], table["digest"], strict=True)
        return {str(json.loads(view)["volume"]) if isinstance(view, str) else str(own) for view, own in views}
    return {str(value) for value in table["digest"].dropna()}


def _subject_digest(name: str, salt: bytes) -> str:
    return hashlib.pbkdf2_hmac("sha256", name.encode(), salt, ROUNDS).hex()[:32]


def _file_digest(value: str, salt: bytes) -> str:
    return hashlib.sha256(salt + value.encode()).hexdigest()[:32]
