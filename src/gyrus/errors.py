"""The errors of Gyrus.

::

    GyrusError                  a mistake that the user can correct; the CLI prints it and exits with 2
    ├── ConfigError             a config or an argument is wrong; lists every mistake found
    │   └── UnknownNameError    a name is not in a table; suggests the nearest
    ├── DataError               the data cannot be used as asked
    │   ├── BadFilesError       files that cannot be used, listed in a report
    │   ├── UnusableImageError  one image or volume that cannot be used
    │   ├── UnusableSampleError one sample of a scanned data set that cannot be prepared
    │   ├── NothingUsableError  every sample of a data set is unusable
    │   └── SplitError          the data cannot be split as asked
    │       └── LeakageError    a subject is in more than one subset
    ├── RunError                a run folder is missing, damaged, or in use
    ├── WeightsError            weights cannot be found or do not fit
    └── MissingDependencyError  an optional library is not installed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class GyrusError(Exception):
    """A mistake that the user can correct. The message has what was wrong, where, and what to do.

    It can be pickled, so that an error in a worker process is raised in the process of the user.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        # Causes of other kinds belong to libraries, and cannot always be pickled.
        known = isinstance(self.__cause__, GyrusError) or (
            isinstance(self.__cause__, OSError) and type(self.__cause__).__module__ == "builtins"
        )
        return _restored, (type(self), self.args, vars(self), self.__cause__ if known else None)


class ConfigError(GyrusError):
    """A config file or an argument is wrong."""


class UnknownNameError(ConfigError):
    """A name is not in the table it was looked up in."""


class DataError(GyrusError):
    """The data cannot be used as asked."""


class BadFilesError(DataError):
    """Files that cannot be used, each with its reason.

    Attributes:
        report: One line per file.
    """

    def __init__(self, message: str, report: Sequence[str]) -> None:
        super().__init__(message)
        self.report = tuple(report)


class UnusableImageError(DataError):
    """One image that cannot be used.

    Attributes:
        kind: A key of :data:`gyrus.datasets.manifest.PROBLEM_KINDS`.
        message: What is wrong, and how to fix it.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


class UnusableSampleError(DataError):
    """One sample of a scanned data set that cannot be prepared for a network.

    Attributes:
        kind: A key of :data:`gyrus.datasets.manifest.PROBLEM_KINDS`.
        reason: What is wrong, and how to fix it, without the name of the sample.
    """

    def __init__(self, kind: str, reason: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.reason = reason


class NothingUsableError(DataError):
    """Every sample of a data set is unusable.

    Attributes:
        problems: One :class:`gyrus.datasets.manifest.Problem` per sample.
        root: The folder of the samples.
    """

    def __init__(self, message: str, problems: Sequence[Any], root: Path) -> None:
        super().__init__(message)
        self.problems = tuple(problems)
        self.root = root


class SplitError(DataError):
    """The data cannot be split as asked."""


class LeakageError(SplitError):
    """A subject is in more than one subset.

    Attributes:
        subjects: The subjects, sorted.
    """

    def __init__(self, message: str, subjects: Sequence[str]) -> None:
        super().__init__(message)
        self.subjects = tuple(sorted(subjects))


class RunError(GyrusError):
    """A run folder is missing, damaged, or in use."""


class WeightsError(GyrusError):
    """Weights cannot be found, or do not fit the model."""


class MissingDependencyError(GyrusError):
    """An optional library is not installed."""


HELP: Mapping[type[GyrusError], str] = {
    LeakageError: "docs/data.md#subjects",
    SplitError: "docs/data.md#subjects",
    NothingUsableError: "docs/data.md#unusable-images",
    WeightsError: "docs/models.md#pretrained-weights",
    MissingDependencyError: "README.md#installation",
}
"""The page of the documentation that helps with an error of a class, and of the classes below it."""


def help_page(error: GyrusError) -> str:
    """The page of :data:`HELP` for an error; empty where the message says all."""
    return next((HELP[kind] for kind in type(error).__mro__ if kind in HELP), "")


def _restored(
    kind: type[GyrusError], args: tuple[Any, ...], fields: dict[str, Any], cause: BaseException | None
) -> GyrusError:
    """A pickled error. Its class is not called, because constructors have other arguments than the message."""
    error = kind.__new__(kind, *args)
    vars(error).update(fields)
    error.__cause__ = cause
    return error
