"""Heat maps of a bundle by occlusion, without PyTorch, with a verdict measured on the image itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gyrus.export.bundle import Bundle
from gyrus.serving.errors import RequestError
from gyrus.serving.prepare import Prepared


def why_not(bundle: Bundle) -> str:
    """Why a bundle gives no heat maps; empty if it does."""
    return "heat maps are not implemented yet" if bundle else ""


def explain(bundle: Bundle, scan: Prepared, target: str | None, folder: Path, seconds: float) -> dict[str, Any]:
    """The heat map of a scan."""
    del scan, target, folder, seconds
    raise RequestError(422, why_not(bundle))
