"""The storage of a study: a SQLite file, an Optuna journal file, or a PostgreSQL database."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import NullPool
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from gyrus.errors import ConfigError, GyrusError
from gyrus.extras import missing_dependency

JOURNALS = (".log", ".journal")
POSTGRESQL = ("postgresql://", "postgres://", "postgresql+psycopg://")

ATTEMPTS = 10
"""Attempts to create the tables of a database while another worker creates them."""


def open_storage(place: str | None, folder: Path) -> BaseStorage:
    """Open or create the storage of studies.

    Args:
        place: ``postgresql://user:password@host/database``; the path of a journal (``.log`` or ``.journal``), which
            workers on several machines can share over a network file system; the path of a SQLite file (``.db``); or
            None for ``study.db`` in the folder.
        folder: The folder of the study.

    Raises:
        ConfigError: The place has another form.
        GyrusError: The database cannot be reached, or the file is not a database.
        MissingDependencyError: The PostgreSQL driver is not installed.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    text = str(folder / "study.db") if place is None else str(place)
    if not text.startswith(POSTGRESQL) and Path(text).suffix not in (*JOURNALS, ".db"):
        raise ConfigError(
            f"--storage '{without_password(text)}' must be postgresql://user:password@host/database, a journal file "
            "(.log) or a SQLite file (.db)."
        )
    try:
        return _open(text)
    except (OSError, ValueError, RuntimeError, SQLAlchemyError) as error:
        raise GyrusError(f"Cannot use the storage {without_password(text)}: {_first_line(error)}") from error


def _open(text: str) -> BaseStorage:
    if text.startswith(POSTGRESQL):
        # A worker trains for minutes between two queries, and keeps no connection open meanwhile.
        return _database(_with_driver(text), {"poolclass": NullPool})
    path = Path(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in JOURNALS:
        return JournalStorage(JournalFileBackend(str(path)))
    return _database(f"sqlite:///{path}", {"connect_args": {"timeout": 60}})


def _database(url: str, options: dict[str, Any]) -> BaseStorage:
    """Open a database whose tables another worker may be creating at this moment."""
    for _ in range(ATTEMPTS):
        try:
            return RDBStorage(url, engine_kwargs=options)
        except SQLAlchemyError as error:
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(0.5)
    return RDBStorage(url, engine_kwargs=options)


def without_password(place: str) -> str:
    """The address of a storage without the password."""
    scheme, separator, rest = place.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{user.partition(':')[0]}{at}{host}"


def _with_driver(url: str) -> str:
    if find_spec("psycopg") is None:
        raise missing_dependency("A study in PostgreSQL", "postgresql")
    return f"postgresql+psycopg://{url.partition('://')[2]}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") + "."
