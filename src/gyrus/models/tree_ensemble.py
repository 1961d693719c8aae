"""Boosted trees as plain arrays, applied without scikit-learn.

scikit-learn saves its trees by pickle, which runs code when it is loaded. These are copies of the arrays that its
documentation describes (``tree_``), so a file holds numbers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEAF = -1
"""Feature of a node without children."""


@dataclass(frozen=True)
class TreeEnsemble:
    """A sum of trees for each class; the softmax of the sums gives probabilities.

    All trees are stored one after another; a tree begins at its root.

    Attributes:
        feature: The feature that each node compares, :data:`LEAF` for leaves, int64 (nodes,).
        threshold: A row goes left if its feature, as float32, is at most this, (nodes,).
        left: The node for these rows, int64 (nodes,).
        right: The node for the others, int64 (nodes,).
        value: What a leaf adds, (nodes,).
        roots: The first node of each tree, int64 (trees,).
        outputs: The class that each tree belongs to, int64 (trees,).
        base: The sums before the first tree, (K,).
    """

    FIELDS: ClassVar[tuple[str, ...]] = ("feature", "threshold", "left", "right", "value", "roots", "outputs", "base")

    feature: npt.NDArray[np.int64]
    threshold: Floats
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    value: Floats
    roots: npt.NDArray[np.int64]
    outputs: npt.NDArray[np.int64]
    base: Floats

    def logits(self, features: Floats) -> Floats:
        """Logits (N, K) of features (N, F)."""
        compared = features.astype(np.float32)
        rows = np.arange(len(compared))
        found = np.tile(self.base, (len(compared), 1))
        for root, output in zip(self.roots, self.outputs, strict=True):
            node = np.full(len(compared), root)
            while (inner := self.feature[node] != LEAF).any():
                goes_left = compared[rows, self.feature[node]] <= self.threshold[node]
                node = np.where(inner, np.where(goes_left, self.left[node], self.right[node]), node)
            found[:, output] += self.value[node]
        return found

    @property
    def parameters(self) -> int:
        """The number of fitted numbers: thresholds and leaves."""
        return len(self.value)

    @property
    def trees_per_class(self) -> int:
        """Trees of the class with the most of them."""
        return int(np.bincount(self.outputs, minlength=1).max()) if len(self.outputs) else 0

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays to save, by name of the attribute."""
        return {name: np.ascontiguousarray(getattr(self, name)) for name in self.FIELDS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], *, features: int, classes: int) -> TreeEnsemble:
        """Load what :meth:`arrays` gave.

        Args:
            arrays: The arrays; others are ignored.
            features: F.
            classes: K.

        Raises:
            KeyError: An array is missing.
            ValueError: They are no trees for that number of features and classes.
        """
        found = {name: arrays[name] for name in cls.FIELDS}
        nodes = len(found["feature"])
        forward = all(
            np.all((found[side] > np.arange(nodes)) & (found[side] < nodes) | (found["feature"] == LEAF))
            for side in ("left", "right")
        )  # a child comes after its parent, so that following the children ends
        inside = np.all((found["feature"] >= LEAF) & (found["feature"] < features))
        roots = np.all((found["roots"] >= 0) & (found["roots"] < nodes))
        outputs = np.all((found["outputs"] >= 0) & (found["outputs"] < classes))
        lengths = all(len(found[name]) == nodes for name in ("threshold", "left", "right", "value"))
        paired = len(found["roots"]) == len(found["outputs"])
        if not (lengths and paired and forward and inside and roots and outputs and len(found["base"]) == classes):
            raise ValueError(f"the arrays are no trees for {features} features and {classes} classes")
        return cls(**found)
