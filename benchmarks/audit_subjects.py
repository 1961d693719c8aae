"""How many slices a person it takes to find people from pixels, and how wide plateaus get by chance.

Phantom people (seed 1), as ``gyrus data phantom`` makes them: slices evenly spread over 40 mm. For chance, one slice of
each of 400 phantom people (seed 5), of whom some are drawn at random 40 times for each size of set. For the confidence,
sets of known truth in which people have few or distant slices (seeds 1 to 4). Run
``python benchmarks/audit_subjects.py``; it takes some minutes.
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


def kept_slices(kind: str, people: int, slices: int, generator: np.random.Generator) -> np.ndarray:
    """Which slices of each person are in a set, bool (people, slices)."""
    kept = np.zeros((people, slices), bool)
    for person in range(people):
        if kind.startswith("every"):
            kept[person, :: int(kind.split()[1])] = True
        elif kind == "a random half":
            kept[person] = generator.random(slices) < 0.5
        elif kind == "3 to 8 at random":
            kept[person, generator.choice(slices, generator.integers(3, 9), replace=False)] = True
        elif kind == "bottom and top, not the middle":
            kept[person] = True
            kept[person, int(0.35 * slices) : int(0.65 * slices)] = False
        elif kind == "8 neighbours anywhere":
            kept[person, (start := generator.integers(0, slices - 7)) : start + 8] = True
        elif kind == "two runs of 6 neighbours":
            for start in (generator.integers(0, slices // 2 - 6), generator.integers(slices // 2, slices - 6)):
                kept[person, start : start + 6] = True
    return kept


def few_and_distant_slices() -> None:
    kinds = ["every 1", "every 2", "every 3", "every 4", "every 8", "a random half", "3 to 8 at random"]
    kinds += ["bottom and top, not the middle", "8 neighbours anywhere", "two runs of 6 neighbours"]
    print(
        "slices of each person           sets  offered  right  confidence  people in several groups (of those offered)"
    )
    offered = []
    for kind in kinds:
        rows = []
        for people in (10, 40):
            for seed in (1, 2, 3, 4):
                volumes = generate(subjects=people, slices=32, size=64, seed=seed).volumes
                kept = kept_slices(kind, people, 32, np.random.default_rng(seed))
                owner = np.nonzero(kept)[0]
                found = grouped(volumes[kept])
                pairs = len({*zip(owner.tolist(), found.groups.tolist(), strict=True)})
                right = adjusted_rand_score(owner, found.groups) > 0.95
                rows.append((found.found, right, found.overall_confidence, (pairs - people) / people))
        chosen = [row for row in rows if row[0]]
        offered += chosen
        mean = np.mean([row[1:] for row in chosen], axis=0) if chosen else np.full(3, np.nan)
        print(f"{kind:30}  {len(rows):4}  {len(chosen):7}  {mean[0]:5.2f}  {mean[1]:10.2f}  {mean[2]:6.2f}", flush=True)
    print("confidence   sets  right")
    for low, high in ((0, 0.3), (0.3, 0.6), (0.6, 0.9), (0.9, 1)):
        inside = [row[1] for row in offered if low <= row[2] < high]
        print(f"{low:.1f} to {high:.1f}  {len(inside):5}  {np.mean(inside) if inside else np.nan:5.2f}", flush=True)


if __name__ == "__main__":
    slices_needed()
    widths_by_chance()
    few_and_distant_slices()
