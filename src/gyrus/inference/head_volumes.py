"""Volumes of the heads of a manifest as features: measured from their files once, and kept in the cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from gyrus.datasets.manifest import Manifest
from gyrus.datasets.reader import PreparedVolumes
from gyrus.errors import GyrusError
from gyrus.executor import map_tasks
from gyrus.files import cache_folder
from gyrus.serialisation import Saved
from gyrus.text import counted
from gyrus.volumetry.measure import VERSION, measure_head
from gyrus.volumetry.template import load_template

SHOWN = 3
"""Heads whose reason is shown."""


@dataclass(frozen=True)
class HeadVolumes(Saved):
    """The features of one head.

    Attributes:
        features: By name; empty if it could not be measured.
        reason: Why it could not.
    """

    SCHEMA: ClassVar[str] = "gyrus.head_volumes/1"

    features: dict[str, float]
    reason: str = ""


def measure_heads(
    manifest: Manifest, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> dict[str, HeadVolumes]:
    """Measure the whole heads of a manifest, by sample; see :func:`gyrus.volumetry.measure.measure_head`.

    Args:
        manifest: The heads.
        progress: Called with the number of heads done and in total.

    Raises:
        MissingDependencyError: The optional dependencies ``volumetry`` are not installed.
        GyrusError: The cache cannot be written to.
    """
    load_template()  # before any head is read, and in the cache for all workers
    samples = [str(sample) for sample in manifest.table["sample"]]
    heads: list[HeadVolumes] = []
    for head in map_tasks(_measure, [manifest.select([sample]) for sample in samples]):
        heads.append(head)
        progress(len(heads), len(samples))
    return dict(zip(samples, heads, strict=True))


def unmeasured_text(heads: Mapping[str, HeadVolumes]) -> str:
    """Which heads could not be measured and why, in a sentence; empty if all could."""
    failed = {sample: head.reason for sample, head in heads.items() if head.reason}
    if not failed:
        return ""
    reasons = "; ".join(f"{sample}: {reason}" for sample, reason in [*failed.items()][:SHOWN])
    more = f"; and {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
    which = f"{len(failed)} of {counted(len(heads), 'head')} could not be measured"
    return f"Warning: {which}, so their volumes count as average ({reasons}{more})."


def _measure(manifest: Manifest) -> HeadVolumes:
    file = cache_folder() / "volumetry" / f"head-{VERSION}-{manifest.table['digest'].iloc[0]}.json"
    if file.is_file():
        try:
            return HeadVolumes.load(file)
        except GyrusError:  # damaged: measured again
            pass
    try:
        volume = PreparedVolumes(manifest, ()).volume(0)
    except GyrusError as error:
        return HeadVolumes({}, str(error))  # may succeed another time
    try:
        found = HeadVolumes(measure_head(volume, load_template()).features)
    except (GyrusError, np.linalg.LinAlgError) as error:
        found = HeadVolumes({}, str(error))
    found.save(file)
    return found


def as_rows(heads: list[HeadVolumes], names: tuple[str, ...]) -> npt.NDArray[np.float64]:
    """The features of some heads, (N, F); NaN where a head could not be measured."""
    return np.array([[head.features.get(name, np.nan) for name in names] for head in heads], dtype=np.float64).reshape(
        len(heads), len(names)
    )
