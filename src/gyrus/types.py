"""Names that every layer shares."""

from typing import Literal, get_args

Subset = Literal["train", "val", "test"]
"""A part of a data set: to learn from, to choose by, to be judged on."""

SUBSETS: tuple[Subset, ...] = get_args(Subset)

SplitUnit = Literal["subject", "scan", "inferred", "image"]
"""What is kept whole when a data set is split; only ``subject`` is free of leakage between people."""

SPLIT_WARNINGS: dict[SplitUnit, str] = {
    "subject": "",
    "scan": "scan-level split: repeat scans of a person may be on both sides",
    "inferred": "subjects were inferred from the pixels: repeat scans of a person may be on both sides",
    "image": "image-level split: subjects may be on both sides",
}
"""The words that every result of a split carries."""
