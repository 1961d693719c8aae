"""From a scan to what the networks of a bundle take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gyrus.errors import BadFilesError, GyrusError, NothingUsableError, UnusableImageError, UnusableSampleError
from gyrus.export.bundle import Bundle, LoadedMember
from gyrus.files import temporary_folder
from gyrus.imaging.decoding import GrayWindow, decode_with_notes
from gyrus.inference.acquisition_facts import facts_of, measure_facts
from gyrus.inference.unlike_training import Measured
from gyrus.serving.scans import SLICE_NAMES, Scan
from gyrus.workflows.display import SILENT
from gyrus.workflows.predict_bundle import beside_image, bundle_reading

NO_NUMBERS = np.empty((1, 0), np.float32)
"""The numbers of a sample without any."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan that the networks can take.

    Attributes:
        scan: The scan.
        members: Pixels uint8 (N, C, *spatial) of its N samples, their statistics, and numbers beside the image (N, T),
            for each network.
        fact_names: Of the columns of ``facts``.
        facts: What the files say about the acquisition (N, F); empty where no network compares them.
        notes: Decisions of reading it.
    """

    scan: Scan
    members: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]
    fact_names: tuple[str, ...]
    facts: np.ndarray
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.members[0][0])

    def measured(self, number: int, embeddings: np.ndarray) -> Measured:
        """What is compared with the training data of a network."""
        return Measured.from_pixels(embeddings, self.members[number][0], self.facts, self.fact_names)


def prepare(bundle: Bundle, scan: Scan) -> Prepared:
    """Decode a scan and apply the preprocessing of each network.

    Raises:
        GyrusError: It cannot be used; :func:`reason` has the words.
    """
    about = bundle.manifest
    if scan.kind == "image" and about.spatial_dims == 2 and not about.stack and not about.slices:
        return _prepare_image(bundle, scan)
    return _prepare_volume(bundle, scan)


def reason(error: GyrusError, scan: Scan) -> str:
    """Why a scan has no answer, without the places of files."""
    if isinstance(error, NothingUsableError) and error.problems:
        text = error.problems[0].message
    elif isinstance(error, UnusableImageError):
        text = error.message
    elif isinstance(error, UnusableSampleError):
        text = error.reason
    elif isinstance(error, BadFilesError) and error.report:
        text = error.report[0].partition(": ")[2] or error.report[0]
    else:
        text = str(error)
    for place in (str(scan.path), str(scan.path.parent)):
        text = text.replace(place, scan.name)
    return text.replace(scan.path.name, scan.name)


def _prepare_image(bundle: Bundle, scan: Scan) -> Prepared:
    window = bundle.manifest.window
    pixels, notes = decode_with_notes(scan.path.read_bytes(), GrayWindow(*window) if window else None)
    if all(channel.min() == channel.max() for channel in pixels):
        raise UnusableImageError("constant", "every pixel has the same value; remove the image, or export it again")
    found = []
    for member in bundle.members:
        prepared, statistics = member.prepare(pixels)
        member.require_size(prepared.shape)
        found.append((prepared[None], statistics[None], NO_NUMBERS))
    facts = measure_facts(pixels.mean(axis=0, dtype=np.float32)) if _compares(bundle.members) else {}
    return Prepared(scan, tuple(found), tuple(facts), np.array([list(facts.values())]), notes)


def _prepare_volume(bundle: Bundle, scan: Scan) -> Prepared:
    """As :func:`gyrus.workflows.predict_bundle.predict_bundle` reads an input of any kind."""
    from gyrus.datasets.manifest import require_dimensions
    from gyrus.datasets.store import open_store
    from gyrus.workflows.experiment_config import DataConfig
    from gyrus.workflows.load_data import scan_unlabelled

    sources = {"image": "folder", "slices": "folder", "volume": "volumes", "series": "dicom"}
    subjects = {"subject_pattern": SLICE_NAMES} if scan.kind == "slices" else {"subject_rule": "none"}
    reading = bundle_reading(bundle.manifest, DataConfig(source=sources[scan.kind], **subjects))
    manifest = scan_unlabelled(scan.path, reading, SILENT)
    require_dimensions(manifest, bundle.manifest.spatial_dims, "bundle")
    found = []
    with temporary_folder() as cache:
        for member in bundle.members:
            beside = beside_image(member, manifest)
            numbers = np.repeat(NO_NUMBERS, len(manifest), axis=0) if beside is None else beside
            if not member.about.in_channels:
                found.append((*member.without_image(len(manifest)), numbers))
                continue
            store = open_store(manifest, member.about.preprocessing, cache=cache)
            member.require_size(store.pixels.shape[1:])
            found.append((np.array(store.pixels), store.statistics, numbers))
    nothing: tuple[tuple[str, ...], np.ndarray] = ((), np.empty((len(manifest.table), 0)))
    names, facts = facts_of(manifest, range(len(manifest.table))) if _compares(bundle.members) else nothing
    return Prepared(scan, tuple(found), names, facts, tuple(manifest.notes))


def _compares(members: Sequence[LoadedMember]) -> bool:
    return any(member.unlike for member in members)
