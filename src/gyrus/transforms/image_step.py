"""What a deterministic step of preprocessing is; the table of them is in :mod:`gyrus.transforms.preprocessing`."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict


class Step(BaseModel):
    """One deterministic step; every field is part of the store's key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    whole_stack: ClassVar[bool] = False
    """Whether the slices of a stack are given at once, (C, slices, rows, columns), and not one after the other."""

    shows_head: ClassVar[bool] = True
    """Whether the head can still be seen afterwards; pictures of it, and its mask, leave out a step that hides it."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Apply to an image (C, rows, columns); gives a new array of the same type."""
        raise NotImplementedError
