"""HDF5 files of one scan each, as those of fastMRI: a dataset of slices, attributes, a header of ISMRMRD.

fastMRI: Zbontar et al., https://arxiv.org/abs/1811.08839; ISMRMRD: Inati et al., Magn Reson Med 77, 411 (2017),
https://doi.org/10.1002/mrm.26089.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from gyrus.errors import UnusableImageError
from gyrus.extras import missing_dependency
from gyrus.text import listed

EXTENSIONS = (".h5", ".hdf5")

KNOWN_NAMES = ("reconstruction_rss", "reconstruction_esc", "image", "volume", "data")
"""Names of the dataset with the image, in any case; the first one present is used."""

_HEADER = "ismrmrd_header"
_LARGEST_HEADER = 1 << 20
"""Bytes of a header that is parsed; those of fastMRI have a few thousand."""


@dataclass(frozen=True)
class ScanAttributes:
    """What a file states about its scan; "" where it states nothing.

    Attributes:
        patient: The attribute ``patient_id``.
        acquisition: The attribute ``acquisition``, such as "AXT2".
    """

    patient: str
    acquisition: str


def read_attributes(path: Path) -> ScanAttributes:
    """The attributes of a file, without its image.

    Raises:
        UnusableImageError: It is no HDF5 file, or damaged.
        MissingDependencyError: h5py is not installed.
    """
    with _opened(path) as file:
        return ScanAttributes(_text(file.attrs.get("patient_id")), _text(file.attrs.get("acquisition")))


@contextmanager
def image_dataset(path: Path, named: str | None = None) -> Iterator[tuple[Any, tuple[float, float, float] | None]]:
    """The dataset of the image, not yet read, and the spacing in mm along its axes if a header of ISMRMRD states it.

    Args:
        path: The file.
        named: The name of the dataset; by default one of :data:`KNOWN_NAMES`, or the only one with three axes.

    Raises:
        UnusableImageError: It is no HDF5 file, damaged, or does not tell which dataset is the image.
        MissingDependencyError: h5py is not installed.
    """
    with _opened(path) as file:
        datasets = _datasets(file)
        dataset = _image_of(datasets, named)
        if dataset.external or dataset.is_virtual:
            raise UnusableImageError(
                "unreadable", f"the values of {dataset.name} are in other files; copy them into it"
            )
        yield dataset, _spacing(datasets.get(_HEADER))


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import h5py
    except ImportError as error:
        raise missing_dependency("Reading HDF5 files", "hdf5") from error
    try:
        if not path.is_file():
            raise UnusableImageError("missing", f"the file {path.name} is missing")
        if not path.stat().st_size:
            raise UnusableImageError("empty", f"{path.name} is empty")
        if not h5py.is_hdf5(path):
            raise UnusableImageError("not an image", "the content is not HDF5")
        # Without a lock, so that files on read-only disks can be read, and by several processes.
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        ends = "truncated" in str(error)
        words = "the HDF5 content ends too early" if ends else "the HDF5 content is damaged"
        raise UnusableImageError("truncated" if ends else "unreadable", f"{words}; copy the file again") from error


def _datasets(file: Any) -> dict[str, Any]:
    """The datasets of a file by name; links, which may name other files, are not followed."""
    import h5py

    found: dict[str, Any] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    file.visititems(keep)
    return found


def _image_of(datasets: dict[str, Any], named: str | None) -> Any:
    if named is not None:
        if named.strip("/") not in datasets:
            there = f"it has {listed(list(datasets))}" if datasets else "it has none"
            raise UnusableImageError("not an image", f"there is no dataset {named}; {there}")
        return datasets[named.strip("/")]
    lowered = {name.rpartition("/")[2].lower(): one for name, one in reversed(datasets.items())}
    for name in KNOWN_NAMES:
        if name in lowered:
            return lowered[name]
    volumes = [name for name, one in datasets.items() if one.ndim == 3 and one.dtype.kind in "iuf"]
    if len(volumes) == 1:
        return datasets[volumes[0]]
    if volumes:
        raise UnusableImageError(
            "several volumes", f"the datasets {listed(volumes)} have three axes; name one with --hdf5-dataset"
        )
    if "kspace" in datasets:
        words = f"the file holds k-space without an image; reconstruct it into the dataset {KNOWN_NAMES[0]}"
        raise UnusableImageError("not an image", words)
    there = f" (datasets: {listed(list(datasets))})" if datasets else ""
    raise UnusableImageError("not an image", f"the file has no dataset with the three axes of a volume{there}")


def _spacing(header: Any) -> tuple[float, float, float] | None:
    """Millimetres along slices, rows and columns of the reconstruction; None if no header states them."""
    if header is None or header.shape != () or header.external:
        return None
    text = header[()]
    if not isinstance(text, bytes) or len(text) > _LARGEST_HEADER:
        return None
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError:
        return None
    space = root.find("{*}encoding/{*}reconSpace")
    if space is None:
        return None
    lengths = []
    for axis in "zxy":  # rows run along the readout
        extent = space.findtext(f"{{*}}fieldOfView_mm/{{*}}{axis}")
        count = space.findtext(f"{{*}}matrixSize/{{*}}{axis}")
        try:
            lengths.append(float(extent or "") / float(count or ""))
        except (ValueError, ZeroDivisionError):
            return None
    slices, rows, columns = lengths
    return (slices, rows, columns) if min(lengths) > 0 else None


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace").strip()
    return str(value).strip() if isinstance(value, str) else ""
