"""Names that every layer shares."""

from typing import Literal, get_args

Subset = Literal["train", "val", "test"]
"""A subset of a data set: for training, for model selection, for evaluation."""

SUBSETS: tuple[Subset, ...] = get_args(Subset)

SUBSET_TITLES: dict[Subset, str] = {"train": "training set", "val": "validation set", "test": "test set"}
"""The subsets in prose."""

SplitUnit = Literal["subject", "scan", "inferred", "image", "copy"]
"""The unit that a split keeps together, from the safest to none: only ``subject`` is free of leakage between subjects.
With ``copy`` even the copies of one image were left in several subsets, as the user asked."""

SPLIT_WARNINGS: dict[SplitUnit, str] = {
    "subject": "",
    "scan": "scan-level split: repeat scans of a subject may be in both training and test sets",
    "inferred": "subjects were inferred from pixels: repeat scans of a subject may be in both training and test sets",
    "image": "image-level split: subjects may be in both training and test sets",
    "copy": "copies kept: the same images are in more than one of the training, validation and test sets",
}
"""The warning that every result of a split carries."""

MissingChannel = Literal["refuse", "leave-out", "learn"]
"""What happens to a session without a file of a channel: it is a problem; it is left out, with a note; or it is used
with an empty channel."""
