"""Frozen dataclasses as JSON files, and back: one way for every result that Gyrus saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import AliasChoices, Field, TypeAdapter, ValidationError

from gyrus.errors import DataError
from gyrus.files import read_json, write_json


def renamed(name: str, *former: str) -> Any:
    """Metadata of a dataclass field that older files hold under another name.

    ::

        @dataclass(frozen=True)
        class Result(Saved):
            SCHEMA = "gyrus.result/1"
            subset: Annotated[str, renamed("subset", "part")]  # files written before version 0.2 hold "part"
    """
    return Field(validation_alias=AliasChoices(name, *former))


class Saved:
    """A frozen dataclass of plain fields and other dataclasses that saves and loads itself as JSON.

    Attributes:
        SCHEMA: What the file holds, with the version of its form, such as "gyrus.calibrator/1".
        FORMER_SCHEMAS: Its names in files of older versions that can still be read; None for files that name none.
    """

    SCHEMA: ClassVar[str]
    FORMER_SCHEMAS: ClassVar[tuple[str | None, ...]] = ()

    def to_document(self) -> dict[str, Any]:
        """The fields as plain values for JSON."""
        content = TypeAdapter(type(self)).dump_python(self, mode="json")
        return {"schema": self.SCHEMA, **content}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """The value that :meth:`to_document` turned into plain values.

        Raises:
            ValidationError: A field is missing or has another type.
        """
        return TypeAdapter(cls).validate_python({name: value for name, value in document.items() if name != "schema"})

    def save(self, path: Path) -> None:
        """Write as JSON, atomically."""
        write_json(Path(path), self.to_document())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file holds something else, another version of it, or is damaged.
        """
        document = read_json(Path(path))
        found = document.get("schema") if isinstance(document, dict) else None
        if found not in (cls.SCHEMA, *cls.FORMER_SCHEMAS):
            raise DataError(f"{path} is not a file of schema {cls.SCHEMA}; its schema is {found!r}. Create it again.")
        try:
            return cls.from_document(document)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            raise DataError(f"{path} is damaged: field '{where}': {first['msg']}. Create it again.") from error
