"""How many slices a person it takes to find people from pixels, and how wide plateaus get by chance.

Phantom people (seed 1), as ``gyrus data phantom`` makes them: slices evenly spread over 40 mm. For chance, one slice of
each of 400 phantom people (seed 5), of whom some are drawn at random 40 times for each size of set. Run
``python benchmarks/audit_subjects.py``; it takes a minute.
"""

from __future__ import annotations

import numpy as np
from sklearn.metrics import adjusted_rand_score

from gyrus.audit.image_quality import make_thumbnail
from gyrus.audit.nearest_neighbours import find_neighbours
from gyrus.audit.subjects_from_pixels import SubjectGroups, find_groups, required_width
from gyrus.synthetic.phantom import generate


def grouped(pictures: np.ndarray) -> SubjectGroups:
    return find_groups(find_neighbours(pictures), pictures)


def width(found: SubjectGroups) -> float:
    return found.plateau.width if found.plateau else 0.0


def slices_needed() -> None:
    print("size  people  slices  gap (mm)  found  width  needed  adjusted Rand index")
    for size in (64, 128):
        for people in (10, 40):
            for slices in (6, 8, 12, 16, 24, 32):
                volumes = generate(subjects=people, slices=slices, size=size, seed=1).volumes
                pictures = np.stack([make_thumbnail(image) for image in volumes.reshape(-1, size, size)])
                found = grouped(pictures)
                agreement = adjusted_rand_score(np.repeat(np.arange(people), slices), found.groups)
                print(
                    f"{size:4}  {people:6}  {slices:6}  {40 / slices:8.1f}  {found.strength:5}  {width(found):5.2f}"
                    f"  {required_width(len(pictures)):6.2f}  {agreement if found.found else float('nan'):.3f}",
                    flush=True,
                )


def widths_by_chance() -> None:
    print("images  widest plateau of 40 draws  needed")
    pictures = generate(subjects=400, slices=3, size=64, seed=5).volumes
    generator = np.random.default_rng(0)
    for count in (12, 24, 48, 96, 200, 400):
        widths = [
            width(grouped(pictures[generator.permutation(400)[:count], int(generator.integers(3))])) for _ in range(40)
        ]
        print(f"{count:6}  {max(widths):26.2f}  {required_width(count):6.2f}", flush=True)


if __name__ == "__main__":
    slices_needed()
    widths_by_chance()
