"""Optional dependencies: how to install them, and the error that is raised where one is missing."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution

from gyrus.errors import MissingDependencyError

DISTRIBUTION = "gyrus-mri"
"""The name on the package index; the name ``gyrus`` there belongs to another program."""


@cache
def install_command(extra: str) -> str:
    """The command that installs the optional dependencies ``extra``, also for an editable install from a clone."""
    return f"pip install -e '.[{extra}]'" if _is_editable() else f"pip install '{DISTRIBUTION}[{extra}]'"


def missing_dependency(purpose: str, extra: str) -> MissingDependencyError:
    """The error for a missing optional dependency.

    Args:
        purpose: What needs it, as the subject of a sentence: "Reading DICOM files".
        extra: The optional dependencies of ``pyproject.toml`` that contain it.
    """
    return MissingDependencyError(
        f"{purpose} requires an optional dependency. Install it with: {install_command(extra)}"
    )


def _is_editable() -> bool:
    try:
        address = distribution(DISTRIBUTION).read_text("direct_url.json")
    except PackageNotFoundError:
        return False
    return address is not None and bool(json.loads(address).get("dir_info", {}).get("editable"))
