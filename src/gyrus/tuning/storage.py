"""Where a study is kept: a SQLite file, an Optuna journal file, or a PostgreSQL database."""

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

PATIENCE = 10
"""How often the tables of a database are tried to be made while another worker makes them."""


def open_storage(place: str | None, folder: Path) -> BaseStorage:
    """Open or make the storage of studies.

    Args:
        place: ``postgresql://user:password@host/database``; the path of a journal (``.log`` or ``.journal``), which
            workers of several machines may share over a network file system; the path of a SQLite file (``.db``); or
            None for ``study.db`` in the folder.
        folder: The folder of the study.

    Raises:
        ConfigError: The place has another form.
        GyrusError: The database cannot be reached, or the file is none.
        MissingDependencyError: The driver of PostgreSQL is not installed.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    text = str(folder / "study.db") if place is None else str(place)
    if not text.startswith(POSTGRESQL) and Path(text).suffix not in (*JOURNALS, ".db"):
        raise ConfigError(
            f"--storage '{shown(text)}' must be postgresql://user:password@host/database, a journal file (.log) or a "
            "SQLite file (.db)."
        )
    try:
        return _opened(text)
    except (OSError, ValueError, RuntimeError, SQLAlchemyError) as error:
        raise GyrusError(f"Cannot use the storage {shown(text)}: {_first_line(error)}") from error


def _opened(text: str) -> BaseStorage:
    if text.startswith(POSTGRESQL):
        # A worker trains for minutes between two questions, and holds no connection meanwhile.
        return _database(_with_driver(text), {"poolclass": NullPool})
    path = Path(text)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in JOURNALS:
        return JournalStorage(JournalFileBackend(str(path)))
    return _database(f"sqlite:///{path}", {"connect_args": {"timeout": 60}})


def _database(url: str, options: dict[str, Any]) -> BaseStorage:
    """A database, whose tables another worker may be making at this moment."""
    for _ in range(PATIENCE):
        try:
            return RDBStorage(url, engine_kwargs=options)
        except SQLAlchemyError as error:
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(0.5)
    return RDBStorage(url, engine_kwargs=options)


def shown(place: str) -> str:
    """A place without its password."""
    scheme, separator, rest = place.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{user.partition(':')[0]}{at}{host}"


def _with_driver(url: str) -> str:
    if find_spec("psycopg") is None:
        raise missing_dependency("A study in PostgreSQL", "postgresql")
    return f"postgresql+psycopg://{url.partition('://')[2]}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") + "."
