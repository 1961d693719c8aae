"""Checkpoint files: whole or not there, and read without unpickling code."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from gyrus.errors import RunError
from gyrus.files import atomic_path

FORMAT = 1


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` (tensors, numbers, texts, and lists and dicts of them), atomically."""
    with atomic_path(path) as temporary:
        torch.save({"format": FORMAT, **content}, temporary)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read what :func:`save_checkpoint` wrote, onto the CPU. Never runs code from the file.

    Raises:
        RunError: The file is missing, damaged, not a checkpoint, or of a newer format.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise RunError(f"There is no checkpoint {path}.") from error
    except Exception as error:
        # PyTorch raises half a dozen kinds of error for damaged files, RuntimeError and EOFError among them.
        raise RunError(f"{path} is damaged or no checkpoint of Gyrus ({type(error).__name__}). Train anew.") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        raise RunError(f"{path} has format {found}, this version of Gyrus reads {FORMAT}.")
    return content


def remove_abandoned(folder: Path) -> None:
    """Remove the half-written checkpoints that killed trainings left in ``folder``."""
    for name in ("last.ckpt", "best.ckpt"):
        for abandoned in folder.glob(f".{name}-*"):
            abandoned.unlink(missing_ok=True)
