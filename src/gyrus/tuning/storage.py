"""Where a study is kept: a SQLite file, an Optuna journal file, or a PostgreSQL database."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from gyrus.errors import ConfigError, GyrusError, MissingDependencyError

JOURNALS = (".log", ".journal")
POSTGRESQL = ("postgresql://", "postgres://", "postgresql+psycopg://")


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
    try:
        if text.startswith(POSTGRESQL):
            return RDBStorage(_with_driver(text), engine_kwargs={"pool_pre_ping": True})
        path = Path(text)
        if path.suffix in JOURNALS:
            path.parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(str(path)))
        if path.suffix == ".db":
            path.parent.mkdir(parents=True, exist_ok=True)
            return RDBStorage(f"sqlite:///{path}", engine_kwargs={"connect_args": {"timeout": 60}})
    except (OSError, ValueError, RuntimeError, _database_error()) as error:
        raise GyrusError(f"Cannot use the storage {shown(text)}: {_first_line(error)}") from error
    raise ConfigError(
        f"--storage '{shown(text)}' must be postgresql://user:password@host/database, a journal file (.log) or a "
        "SQLite file (.db)."
    )


def shown(place: str) -> str:
    """A place without its password."""
    scheme, separator, rest = place.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{user.partition(':')[0]}{at}{host}"


def _with_driver(url: str) -> str:
    if find_spec("psycopg") is None:
        raise MissingDependencyError("PostgreSQL needs a driver: pip install 'gyrus[postgresql]'.")
    return f"postgresql+psycopg://{url.partition('://')[2]}"


def _database_error() -> type[Exception]:
    from sqlalchemy.exc import SQLAlchemyError

    return SQLAlchemyError


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".") + "."
