"""What stands where something is taken out of an image."""

from __future__ import annotations

from typing import Literal

import torch
from scipy import ndimage
from torch import Tensor

Eraser = Literal["blur", "black", "mean"]
"""What is put in: the image without its detail, its darkest value, or its mean. In a brain black is no neutral colour:
it is what fluid looks like, and more fluid is what atrophy looks like."""

WIDTH = 1 / 10
"""Width of the blur as a share of the image: what is taken out is gone, without an edge that was not there."""


def erased(images: Tensor, eraser: Eraser = "blur") -> Tensor:
    """Images (N, C, *spatial) with everything taken out, of the same shape."""
    if eraser == "blur":
        widths = [0, 0, *(WIDTH * length for length in images.shape[2:])]
        blurred = ndimage.gaussian_filter(images.detach().cpu().numpy(), widths, mode="nearest")
        return torch.from_numpy(blurred).to(images)
    flat = images.flatten(2)
    value = flat.amin(-1) if eraser == "black" else flat.mean(-1)
    return value.reshape(*value.shape, *(1,) * (images.ndim - 2)).expand_as(images)
