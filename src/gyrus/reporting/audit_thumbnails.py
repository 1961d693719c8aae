"""Pictures of single images in the page of an audit: of groups, of bad images, of copies."""

from __future__ import annotations

import base64
import io
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from gyrus.audit.checks import AuditContext
from gyrus.audit.duplicates import in_words
from gyrus.audit.image_quality import flag_outliers
from gyrus.audit.subjects_from_pixels import group_names
from gyrus.datasets.reader import Reader
from gyrus.transforms.preprocessing import Grayscale

GROUPS_SHOWN, SLICES_SHOWN = 6, 12
OUTLIERS_SHOWN, OUTLIERS_A_PERSON, PAIRS_SHOWN = 12, 2, 6
SHOWN_SIDE = 160
"""Pixels of the longer side of a picture of a single image."""


@dataclass(frozen=True)
class ImageStrip:
    """Pictures in a row.

    Attributes:
        title: What they are.
        note: How sure, or why.
        images: Data addresses, one a picture.
        alt: What to say instead of the pictures.
    """

    title: str
    note: str
    images: tuple[str, ...]
    alt: str


def group_strips(material: AuditContext) -> tuple[ImageStrip, ...]:
    """Some of the groups found, from the most to the least certain."""
    grouping = material.grouping
    if not grouping.found:
        return ()
    ranked = np.argsort(-grouping.confidence, kind="stable")
    chosen = ranked[np.linspace(0, len(ranked) - 1, min(GROUPS_SHOWN, len(ranked))).astype(int)]
    strips = []
    for number in chosen:
        rows = np.nonzero(grouping.groups == number)[0]
        rows = rows[np.argsort(grouping.order[rows])]
        shown = rows[np.unique(np.linspace(0, len(rows) - 1, min(SLICES_SHOWN, len(rows))).astype(int))]
        name, labels = group_names([int(number)])[0], material.manifest.table["label"].iloc[rows].dropna().unique()
        note = f"{len(rows)} images, {' and '.join(labels) or 'no label'}, confidence {grouping.confidence[number]:.2f}"
        images = tuple(data_address(material.images.thumbnails[row]) for row in shown)
        strips.append(ImageStrip(name, note, images, f"{len(shown)} images of group {name} in the order found"))
    return tuple(strips)


def outlier_strips(material: AuditContext) -> tuple[ImageStrip, ...]:
    """The images that stand out most by their quality, a few of each person, whose slices are often bad together."""
    rows = {sample: row for row, sample in enumerate(material.manifest.table["sample"])}
    shown: list[ImageStrip] = []
    seen: Counter[int] = Counter()
    for flag in flag_outliers(material.images.quality, material.manifest.table["sample"]):
        row = rows[flag.sample]
        person = row if material.people is None else int(material.people[row])
        seen[person] += 1
        if seen[person] <= OUTLIERS_A_PERSON and len(shown) < OUTLIERS_SHOWN:
            shown.append(ImageStrip(flag.sample, flag.reason, (data_address(original(material, row)),), flag.reason))
    return tuple(shown)


def pair_strips(material: AuditContext) -> tuple[ImageStrip, ...]:
    """Some of the copies found, those with different labels first."""
    targets = material.targets
    ranked = sorted(material.pairs, key=lambda pair: targets[pair.first] == targets[pair.second])
    samples = material.manifest.table["sample"]
    return tuple(
        ImageStrip(
            f"{in_words(pair).capitalize()}, correlation {pair.correlation:.4f}",
            f"{samples[pair.first]} and {samples[pair.second]}",
            (data_address(original(material, pair.first)), data_address(original(material, pair.second))),
            pair.kind,
        )
        for pair in ranked[:PAIRS_SHOWN]
    )


def original(material: AuditContext, row: int) -> NDArray[np.uint8]:
    """An image as it is, gray."""
    return Grayscale()(Reader(material.manifest).read(row))[0]


def data_address(gray: NDArray[np.uint8]) -> str:
    """A gray image as an address that holds the picture itself, at most 160 pixels wide or high."""
    image = Image.fromarray(gray)
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
