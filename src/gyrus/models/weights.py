"""Pretrained weights: where they come from, and how they are made to fit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WeightsRecord:
    """Where the weights of a model came from, for the run.

    Attributes:
        source: The file, or the repository on the hub.
        digest: SHA-256 of the file.
        licence: As the source states it, or "not stated".
        changes: What was done to make them fit: "stem: 3 to 1 channels by mean", "inflated to 3D".
        left_out: Tensors of the file that the model has no place for: the head of other classes.
    """

    source: str
    digest: str
    licence: str
    changes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
