"""Phantom subjects with several visits, some of whom convert: a study over time, with a known truth.

All subjects have mild impairment (MCI) at their first visit. Every second one converts to dementia (AD): its atrophy is
larger at the first visit and grows. Some subjects are lost before the end. So the image of the first visit tells who
converts, up to the overlap of the two groups, and the follow-up of some is too short to tell.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gyrus.synthetic.phantom import Phantom, described, draw_subject, outline, render
from gyrus.synthetic.phantom_nifti import affine_of, save_volume, voxels_of, write_tables

MONTHS = (0, 12, 24, 36)
"""The visits, in months after the first."""

BEFORE, AFTER = "MCI", "AD"

_STABLE, _CONVERTING = (0.05, 0.35), (0.55, 0.85)
"""Ranges of the atrophy at the first visit."""

_GROWTH = 0.004
"""Growth of the atrophy of converters per month."""

_LOST = 0.25
"""Probability that a subject has only the first two visits."""


@dataclass(frozen=True, eq=False)
class VisitPhantom:
    """Synthetic subjects over time.

    Attributes:
        first: The volumes of the first visit, subjects and spacing.
        later: Gray values of the other visits, uint8 (visits, slices, size, size) for each subject.
        converts_at: Month at which a subject is first seen with dementia, whether it comes to that visit or not; None
            for subjects that do not convert.
    """

    first: Phantom
    later: tuple[NDArray[np.uint8], ...]
    converts_at: tuple[int | None, ...]

    def visits(self, subject: int) -> list[tuple[int, str]]:
        """The month and the label of each visit of a subject."""
        month = self.converts_at[subject]
        came = MONTHS[: 1 + len(self.later[subject])]
        return [(each, BEFORE if month is None or each < month else AFTER) for each in came]


def generate_visits(subjects: int = 60, slices: int = 16, size: int = 128, seed: int = 0) -> VisitPhantom:
    """Generate synthetic subjects over time; arguments as for :func:`gyrus.synthetic.phantom.generate`.

    Raises:
        ConfigError: An argument is out of range.
    """
    first = replace(outline(subjects, slices, 2, size, seed), class_names=(BEFORE, AFTER))
    first.labels[:] = 0  # all have mild impairment at the first visit
    later: list[NDArray[np.uint8]] = []
    converts_at: list[int | None] = []
    drawn = []
    for number in range(subjects):
        generator = np.random.default_rng([seed, number, 2])
        converts = number % 2 == 1
        subject = draw_subject(generator, float(generator.uniform(*(_CONVERTING if converts else _STABLE))))
        month = int(generator.choice(MONTHS[1:])) if converts else None
        came = MONTHS[:2] if generator.uniform() < _LOST else MONTHS
        state = generator.bit_generator.state
        seen = []
        for after in came:
            again = np.random.default_rng()
            again.bit_generator.state = state  # the same anatomy at every visit
            growth = _GROWTH * after if converts else 0.0
            older = replace(subject, ventricles=subject.ventricles + 5.6 * growth, sulci=subject.sulci + 2.4 * growth)
            again_seen = render(older, again, slices, size)
            seen.append(again_seen[0])
            if after == 0:
                first.structures[number] = again_seen[1]
        first.volumes[number] = seen[0]
        later.append(np.stack(seen[1:]))
        converts_at.append(month)
        drawn.append(subject)
    return VisitPhantom(described(first, drawn), tuple(later), tuple(converts_at))


def write_visits(phantom: VisitPhantom, folder: Path) -> None:
    """BIDS with one session per visit, and the diagnosis of each visit in ``sub-P001_sessions.tsv``.

    Files: ``sub-P001/ses-M12/anat/sub-P001_ses-M12_T1w.nii.gz``.
    """
    import pandas as pd

    first = phantom.first
    affine = affine_of(first)
    for number, name in enumerate(first.subjects):
        visits = phantom.visits(number)
        volumes = [first.volumes[number], *phantom.later[number]]
        for (month, _), volume in zip(visits, volumes, strict=True):
            stem = f"sub-{name}_ses-M{month:02d}"
            path = folder / f"sub-{name}" / f"ses-M{month:02d}" / "anat" / f"{stem}_T1w.nii.gz"
            save_volume(voxels_of(volume), affine, path)
        table = pd.DataFrame(
            {"session_id": [f"ses-M{month:02d}" for month, _ in visits], "diagnosis": [label for _, label in visits]}
        )
        file = folder / f"sub-{name}" / f"sub-{name}_sessions.tsv"
        table.to_csv(file, sep="\t", index=False, lineterminator="\n")
    participants = [f"sub-{name}" for name in first.subjects]
    write_tables(folder, {"participant_id": participants, "age": first.age, "sex": first.sex})
