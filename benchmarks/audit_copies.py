"""How well altered copies are told from neighbouring slices and from other people.

``python benchmarks/audit_copies.py FOLDER`` puts 280 altered copies (seed 0) of slices among the slices of a data set
with known people, and prints the correlation of each kind of copy with its original, laid over each other.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import numpy as np
from PIL import Image
from scipy import ndimage

from gyrus.audit.duplicates import align_candidates
from gyrus.audit.image_quality import make_thumbnail
from gyrus.datasets.reader import Reader
from gyrus.datasets.scan import scan
from gyrus.transforms.image_steps import Grayscale

GENERATOR = np.random.default_rng(0)
COPIES = 280


def noisy(image: np.ndarray, deviation: float) -> np.ndarray:
    return image + GENERATOR.normal(0, deviation, image.shape)


def shifted(image: np.ndarray, most: int) -> np.ndarray:
    return ndimage.shift(image, GENERATOR.integers(-most, most + 1, 2))


def enlarged(image: np.ndarray) -> np.ndarray:
    zoomed = ndimage.zoom(image, 1.05, order=1)
    start = [(new - old) // 2 for new, old in zip(zoomed.shape, image.shape, strict=True)]
    return zoomed[start[0] : start[0] + image.shape[0], start[1] : start[1] + image.shape[1]]


def recompressed(image: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(buffer, "JPEG", quality=30)
    return np.asarray(Image.open(buffer)).astype(float)


ALTERATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "turned by 90 degrees": np.rot90,
    "turned by 180 degrees": lambda image: np.rot90(image, 2),
    "turned by 270 degrees": lambda image: np.rot90(image, 3),
    "mirrored and turned": lambda image: image.T,
    "mirrored": lambda image: image[:, ::-1],
    "shifted by up to 3 pixels": lambda image: shifted(image, 3),
    "shifted by up to 6 pixels": lambda image: shifted(image, 6),
    "brighter or darker": lambda image: image * GENERATOR.uniform(0.8, 1.2) + GENERATOR.uniform(-10, 10),
    "gamma 0.8 to 1.25": lambda image: 255 * (image / 255) ** GENERATOR.uniform(0.8, 1.25),
    "noise of 8": lambda image: noisy(image, 8),
    "noise of 15": lambda image: noisy(image, 15),
    "JPEG quality 30": recompressed,
    "turned, shifted, noise of 5": lambda image: noisy(shifted(np.rot90(image), 4), 5),
    "rotated by up to 5 degrees": lambda image: ndimage.rotate(image, GENERATOR.uniform(-5, 5), reshape=False, order=1),
    "enlarged by 5 %": enlarged,
}


def main(folder: str) -> None:
    manifest = scan(folder)
    reader = Reader(manifest)
    images = [Grayscale()(reader.read(row))[0] for row in range(len(manifest))]
    sources = GENERATOR.choice(len(images), COPIES, replace=False)
    kinds = [list(ALTERATIONS)[number % len(ALTERATIONS)] for number in range(COPIES)]
    copies = [ALTERATIONS[kind](images[row].astype(float)) for kind, row in zip(kinds, sources, strict=True)]
    both = [*images, *(np.clip(np.rint(copy), 0, 255).astype(np.uint8) for copy in copies)]
    aligned = align_candidates(np.stack([make_thumbnail(np.ascontiguousarray(image)) for image in both]))
    reached = dict(
        zip(zip(aligned.first.tolist(), aligned.second.tolist(), strict=True), aligned.correlation, strict=True)
    )
    print("alteration                     looked at   least   median")
    for kind in ALTERATIONS:
        pairs = [(int(sources[number]), len(images) + number) for number in range(COPIES) if kinds[number] == kind]
        found = [reached[pair] for pair in pairs if pair in reached]
        print(f"{kind:30} {len(found):3} of {len(pairs):2}   {min(found):.4f}   {np.median(found):.4f}")
    people = manifest.table["subject"].to_numpy()
    originals = aligned.second < len(images)
    first, second = people[aligned.first[originals]], people[aligned.second[originals]]
    others = aligned.correlation[originals]
    print(f"slices of one person: {others[first == second].max():.4f} at most")
    print(f"slices of different people: {others[first != second].max():.4f} at most")


if __name__ == "__main__":
    main(sys.argv[1])
