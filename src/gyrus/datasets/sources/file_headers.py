"""Read what many files state about their scans, without their images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from gyrus.datasets.manifest import Problem
from gyrus.datasets.sources.listing import Progress
from gyrus.errors import UnusableImageError
from gyrus.executor import map_tasks

Header = TypeVar("Header")

_CHUNK = 64
"""Files that one task reads."""


def read_headers(
    read: Callable[[Path], Header], root: Path, names: Sequence[str], progress: Progress | None
) -> tuple[list[tuple[str, Header]], tuple[Problem, ...]]:
    """The headers of files, by several processes where there are some.

    Args:
        read: Reads a header, or raises UnusableImageError; a function of a module, which processes can be sent.
        root: Folder of the files.
        names: Their paths below it.
        progress: Called with the number of files done and the total.

    Returns:
        The names and headers of the files that could be read, in their order, and the problems of the others.
    """
    found: list[tuple[str, Header]] = []
    problems: list[Problem] = []
    chunks = [names[start : start + _CHUNK] for start in range(0, len(names), _CHUNK)]
    for chunk, results in zip(chunks, map_tasks(partial(_read_chunk, read, root), chunks), strict=True):
        for name, result in zip(chunk, results, strict=True):
            if isinstance(result, Problem):
                problems.append(result)
            else:
                found.append((name, result))
        if progress is not None:
            progress(len(found) + len(problems), len(names))
    return found, tuple(problems)


def _read_chunk(read: Callable[[Path], Header], root: Path, names: Sequence[str]) -> list[Header | Problem]:
    results: list[Header | Problem] = []
    for name in names:
        try:
            results.append(read(root / name))
        except UnusableImageError as error:
            results.append(Problem(name, error.kind, error.message))
    return results
