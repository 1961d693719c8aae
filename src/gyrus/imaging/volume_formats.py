"""Read volumes from NIfTI, Analyze, MGH, MINC, NRRD, MetaImage, NumPy, PyTorch and HDF5 files; write them as NIfTI."""

from __future__ import annotations

import errno
import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import IO, Any

import numpy as np

from gyrus.errors import MissingDependencyError, UnusableImageError
from gyrus.extras import missing_dependency
from gyrus.files import atomic_path
from gyrus.imaging.hdf5 import EXTENSIONS as HDF5_EXTENSIONS
from gyrus.imaging.hdf5 import image_dataset
from gyrus.imaging.orientation import AssumedGeometry
from gyrus.imaging.quiet_libraries import quiet_libraries, silent_stderr
from gyrus.imaging.volume import Volume
from gyrus.memory import reading_memory

LARGEST_VOXEL_COUNT = 1024**3 // 2
"""Most voxels that a header may announce: 2 GiB as float32."""

BYTES_PER_VOXEL = 24
"""Largest memory per voxel while a volume is read and prepared, beyond its own file: float32 values, and copies of them
in the steps; see benchmarks/reading_memory.py."""

_SAME_DIRECTION = 0.5
"""Smallest cosine between an axis by sform and by qform that counts as the same axis: 60 degrees."""

_SAME_PLACE = 1.0
"""Largest distance in mm between a voxel by sform and by qform that rounding explains."""

_SCALED_AT_ONCE = 1 << 22
"""Voxels that are scaled at a time, in double precision."""

_allowed_kinds = Lock()
"""Held while PyTorch is told which kinds of objects a file may hold, because all threads share that list."""

_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}

_NAMES = {".nii": "NIfTI", ".nii.gz": "NIfTI", ".hdr": "NIfTI or Analyze", ".mgh": "MGH", ".mgz": "MGH"}
_NAMES |= {".nrrd": "NRRD", ".nhdr": "NRRD", ".mha": "MetaImage", ".mhd": "MetaImage", ".npy": "NumPy", ".npz": "NumPy"}
_NAMES |= {".pt": "PyTorch"}
_ENDS_EARLY = (
    *("truncated", "ended before", "got 0 bytes", "too small for requested", "greater than file size", "eof:"),
    *("cannot read data", "not read completely", "less than the expected", "hit end of file", "bytes, got"),
)
"""Words, in lower case, of messages of nibabel, NumPy and ITK about content that ends too early."""

_ERRORS_OF_DISKS = (errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)


@dataclass(frozen=True)
class Format:
    """A file format of volumes.

    Attributes:
        read: Reads the volume at a path, with an assumed geometry where the header lacks it.
        files: Lists all files of the volume at a path, that path first.
    """

    read: Callable[[Path, AssumedGeometry], Volume]
    files: Callable[[Path], list[Path]]


def is_volume(name: str) -> bool:
    """Whether the extension is that of a volume file or of its header."""
    return extension_of(name) in FORMATS


def extension_of(name: str) -> str:
    """The extension in lower case; ".gz" with the extension before it."""
    suffixes = PurePosixPath(name.lower()).suffixes
    return "".join(suffixes[-2:]) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])


def read_volume(path: Path, assumed: AssumedGeometry | None = None) -> Volume:
    """Read a volume, in RAS+; ``assumed`` has orientation and spacing where the header lacks them.

    Raises:
        UnusableImageError: The file cannot be used; the message has the reason.
        MissingDependencyError: The format needs a library that is not installed.
    """
    kind = FORMATS.get(extension_of(path.name))
    if kind is None:
        raise UnusableImageError("not an image", f"volume files end in {', '.join(FORMATS)}")
    for file in kind.files(path):
        if not file.is_file():
            raise UnusableImageError("missing", f"the file {file.name} is missing")
        if not file.stat().st_size:
            raise UnusableImageError("empty", f"{file.name} is empty")
    with quiet_libraries():
        try:
            return kind.read(path, assumed or AssumedGeometry())
        except (UnusableImageError, MissingDependencyError):
            raise
        except Exception as error:  # the libraries raise many types of errors on damaged files
            raise _explain(error, path) from error


def write_nifti(volume: Volume, path: Path) -> None:
    """Write a volume as NIfTI-1 (.nii or .nii.gz), atomically: exact values and grid, and no text in the header.

    Voxels keep the type of the file that they were read from if it holds every value; else they become float32.

    Raises:
        GyrusError: The file cannot be written.
    """
    import nibabel

    image = nibabel.Nifti1Image(_in_stored_type(volume), volume.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner", strip_shears=True)
    with atomic_path(path) as temporary:
        # Compressed without time and file name, so that equal volumes give equal files.
        data = image.to_bytes()
        temporary.write_bytes(gzip.compress(data, compresslevel=6, mtime=0) if path.name.endswith(".gz") else data)


def _in_stored_type(volume: Volume) -> np.ndarray:
    kind = volume.stored
    if kind.kind in "iu" and kind.itemsize <= 4:
        cast = volume.array.astype(kind)
        if np.array_equal(cast.astype(np.float32), volume.array):
            return cast
    return volume.array


def _explain(error: Exception, path: Path) -> UnusableImageError:
    """The reason in words; messages of the libraries name temporary paths, lines of C++ and types of Python."""
    words = f"{type(error).__name__} {error}".lower()
    name = _NAMES.get(extension_of(path.name), "volume")
    if isinstance(error, MemoryError):
        return UnusableImageError("too large", "there is not enough memory to read it")
    if isinstance(error, OSError) and error.errno in _ERRORS_OF_DISKS:
        return UnusableImageError("unreadable", error.strerror or "the file cannot be opened")
    if any(word in words for word in ("not a gzip file", "badgzipfile")):
        return UnusableImageError(
            "not an image", f"{path.name} is not compressed, or damaged; remove '.gz' from its name"
        )
    if isinstance(error, EOFError) or any(word in words for word in _ENDS_EARLY):
        return UnusableImageError("truncated", f"the {name} content ends too early; copy the file again")
    if "imagefileerror" in words:
        return UnusableImageError("not an image", f"the content is not {name}, or its header is damaged")
    if any(word in words for word in ("zlib", "decompress", "crc check")):
        return UnusableImageError("unreadable", "the compressed content is damaged; copy the file again")
    return UnusableImageError("unreadable", f"the {name} content is damaged; copy the file again")


def _read_nibabel(path: Path, assumed: AssumedGeometry) -> Volume:
    with _nibabel_image(path) as image:
        return _volume_of(image, assumed)


@contextmanager
def _nibabel_image(path: Path) -> Iterator[Any]:
    """The image of a file that nibabel reads; whether it is compressed is decided by its content, not by its name."""
    import nibabel

    with path.open("rb") as file:
        start = file.read(8)
    named, compressed = path.name.lower().endswith((".gz", ".mgz")), start.startswith(b"\x1f\x8b")
    if start.startswith(b"\x89HDF") and find_spec("h5py") is None:
        raise missing_dependency("Reading MINC 2 files", "hdf5")
    if named == compressed or extension_of(path.name) == ".hdr":
        yield nibabel.load(path)
        return
    with gzip.open(path) if compressed else path.open("rb") as stream:
        size = stream.read(4)
        stream.seek(0)
        second = (540).to_bytes(4, "little") in (size, size[::-1])
        kind: Any = nibabel.Nifti2Image if second else nibabel.Nifti1Image
        if extension_of(path.name) in (".mgh", ".mgz"):
            kind = nibabel.MGHImage
        yield kind.from_stream(stream)


def _volume_of(image: Any, assumed: AssumedGeometry) -> Volume:
    import nibabel

    if isinstance(image, nibabel.Cifti2Image):
        raise UnusableImageError(
            "not an image", "the file holds values on surfaces or in parcels (CIFTI), not a volume"
        )
    shape, notes = _three_axes(image.shape), []
    kind = image.get_data_dtype()
    if kind.kind not in "biuf":
        words = "complex numbers" if kind.kind == "c" else "colours"
        raise UnusableImageError("voxel type", f"the voxels are {words}; save one gray value per voxel")
    spacing = tuple(float(length) for length in image.header.get_zooms()[:3])
    factor = 1.0
    if isinstance(image, nibabel.Nifti1Pair):
        unit = image.header.get_xyzt_units()[0]
        factor = _MILLIMETRES.get(unit, 1.0)
        if unit not in _MILLIMETRES:
            notes.append("the header has no unit of length; millimetres are assumed")
    spacing = tuple(length * factor for length in spacing)
    with np.errstate(all="ignore"):  # a damaged header holds any numbers, and Volume refuses those that are not finite
        affine = np.diag([factor, factor, factor, 1.0]) @ image.affine if _has_orientation(image) else None
        conflict = _conflict(image) if affine is not None else ""
    if conflict and assumed.orientation is None and "orientation" in conflict:
        raise UnusableImageError(
            "orientation unknown", f"{conflict}; correct the header, or give the orientation with --orientation"
        )
    notes += [conflict] if conflict and "orientation" not in conflict else []
    if affine is None or "orientation" in conflict:
        known = spacing if len(spacing) == 3 and min(spacing) > 0 else None
        affine = assumed.affine(shape, known)
        lacking = "contradicts itself on the orientation" if conflict else "has no orientation"
        notes.append(f"the header {lacking}; {assumed.orientation} is assumed")
    with _reserve(shape, kind.itemsize):
        return Volume.from_array(_values(image, shape), affine, notes=tuple(notes), stored=_plain(image, kind))


def _conflict(image: Any) -> str:
    """How the two affines of a NIfTI header contradict each other; "" if they do not."""
    import nibabel

    if not isinstance(image, nibabel.Nifti1Pair):
        return ""
    (sform, own), (qform, other) = image.get_sform(coded=True), image.get_qform(coded=True)
    if not (own and other) or not (np.isfinite(sform).all() and np.isfinite(qform).all()):
        return ""
    directions = [affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0) for affine in (sform, qform)]
    if (np.sum(directions[0] * directions[1], axis=0) < _SAME_DIRECTION).any():
        letters = ["".join(str(axis) for axis in nibabel.aff2axcodes(affine)) for affine in (sform, qform)]
        return (
            f"the header contradicts itself: sform and qform give another orientation ({letters[0]} and {letters[1]})"
        )
    corners = np.array(list(np.ndindex(2, 2, 2))) * (np.array(_three_axes(image.shape)) - 1)
    apart = nibabel.affines.apply_affine(sform, corners) - nibabel.affines.apply_affine(qform, corners)
    far = np.linalg.norm(apart, axis=1).max() > _SAME_PLACE
    return "sform and qform of the header place the volume differently; the sform is used" if far else ""


def _values(image: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The voxels of an image, scaled as its header states in double precision, but a part at a time."""
    unscaled = image.dataobj.get_unscaled() if hasattr(image.dataobj, "get_unscaled") else np.asarray(image.dataobj)
    unscaled = unscaled.reshape(shape)
    slope, inter = getattr(image.dataobj, "slope", 1.0), getattr(image.dataobj, "inter", 0.0)
    if (slope, inter) == (1.0, 0.0):
        return unscaled
    values = np.empty(shape, np.float32, order="F")
    step = max(1, _SCALED_AT_ONCE // max(1, shape[0] * shape[1]))
    for start in range(0, shape[2], step):
        part = np.s_[..., start : start + step]
        values[part] = unscaled[part] * float(slope) + float(inter)
    return values


def _has_orientation(image: Any) -> bool:
    """Whether the header has an orientation; nibabel guesses one where it does not."""
    import nibabel

    if isinstance(image, nibabel.Nifti1Pair):
        return int(image.header["sform_code"]) > 0 or int(image.header["qform_code"]) > 0
    if isinstance(image, nibabel.freesurfer.MGHImage):
        return bool(image.header["goodRASFlag"])
    if isinstance(image, nibabel.AnalyzeImage):
        mat = image.file_map.get("mat")
        return mat is not None and mat.filename is not None and Path(mat.filename).exists()
    return True


def _plain(image: Any, kind: np.dtype) -> np.dtype:
    """The type of the voxels; float32 if the header scales them."""
    import nibabel

    if isinstance(image, nibabel.Minc1Image):  # scaled slice by slice
        return np.dtype(np.float32)
    slope = getattr(image.dataobj, "slope", 1.0)
    inter = getattr(image.dataobj, "inter", 0.0)
    return kind.newbyteorder("=") if (slope, inter) == (1.0, 0.0) else np.dtype(np.float32)


def _three_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        raise UnusableImageError(
            "several volumes", f"{' x '.join(map(str, shape))} voxels: a series; save one volume of it, or their mean"
        )
    return tuple(int(length) for length in (*shape, 1, 1)[:3])


def _reserve(shape: tuple[int, ...], stored: int) -> AbstractContextManager[None]:
    """Reserve the memory of a volume with so many bytes per voxel in its file.

    Raises:
        UnusableImageError: The header announces too many voxels, or they need more than the whole budget.
    """
    _require_size(shape)
    needed = int(np.prod([float(length) for length in shape])) * (stored + BYTES_PER_VOXEL)
    return reading_memory.reserve(needed, f"{' x '.join(map(str, shape))} voxels")


def _require_size(shape: tuple[int, ...]) -> None:
    if min(shape) < 1:
        raise UnusableImageError("geometry", f"the header announces {' x '.join(map(str, shape))} voxels")
    if np.prod([float(length) for length in shape]) > LARGEST_VOXEL_COUNT:
        raise UnusableImageError("decompression bomb", f"the header announces {' x '.join(map(str, shape))} voxels")


def _read_simpleitk(path: Path, assumed: AssumedGeometry) -> Volume:
    try:
        import SimpleITK
    except ImportError as error:
        raise missing_dependency("Reading NRRD and MetaImage files", "volumes") from error
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    # ITK and its libraries write to standard error.
    with silent_stderr():
        reader.ReadImageInformation()
    if reader.GetNumberOfComponents() > 1:
        raise UnusableImageError("voxel type", "the voxels are vectors or colours; save one gray value per voxel")
    shape = _three_axes(tuple(reader.GetSize()))
    with _reserve(shape, 8):
        with silent_stderr():
            image = reader.Execute()
        array = SimpleITK.GetArrayViewFromImage(image).transpose().reshape(shape)
        oriented, spacing = _orientation_and_spacing(path, reader)
        if not oriented:
            return Volume.from_array(array, assumed.affine(shape, spacing))
        directions = np.array(reader.GetDirection()).reshape(reader.GetDimension(), -1)[:3, :3]
        affine = np.eye(4)
        affine[:3, :3] = directions * np.array(reader.GetSpacing()[:3])
        affine[:3, 3] = reader.GetOrigin()[:3]
        # ITK uses LPS: from right to left and from front to back.
        return Volume.from_array(array, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)


def _orientation_and_spacing(path: Path, reader: Any) -> tuple[bool, tuple[float, ...] | None]:
    """Whether a NRRD or MetaImage header has an orientation, and the spacing if it has one."""
    header = _text_header(path)
    nrrd = extension_of(path.name) in (".nrrd", ".nhdr")
    oriented = "space directions" in header and ("space" in header) if nrrd else "transformmatrix" in header
    spaced = ("spacings" in header or "space directions" in header) if nrrd else "elementspacing" in header
    return oriented, tuple(reader.GetSpacing()[:3]) if spaced else None


def _text_header(path: Path) -> dict[str, str]:
    """The fields of the text header of a NRRD or MetaImage file, names in lower case."""
    fields = {}
    with path.open("rb") as file:
        for line in iter(lambda: file.readline(4096), b""):
            text = line.decode("latin-1").strip()
            if not text:
                break
            name, _, value = text.replace(":=", "=").replace("=", ":", 1).partition(":")
            fields[name.strip().lower()] = value.strip()
            if fields.keys() & {"elementdatafile"}:
                break
    return fields


def _read_npy(path: Path, assumed: AssumedGeometry) -> Volume:
    with path.open("rb") as file:
        shape, kind = _array_header(file)
    with _reserve(shape, kind.itemsize):
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return Volume.from_array(np.asarray(array).reshape(shape), assumed.affine(shape, None))


def _read_tensor(path: Path, assumed: AssumedGeometry) -> Volume:
    """A tensor (1, X, Y, Z) as ClinicaDL 1 saves it, or the images with their affines of ClinicaDL 2.

    The file is read without executing anything that it contains.
    """
    import pickle

    import torch
    from torch.serialization import safe_globals

    # Affines are arrays of NumPy; these are all that is needed to read arrays of numbers.
    kinds = [type(np.dtype(name)) for name in ("float32", "float64")]
    rebuild: Any = np.empty(0).__reduce__()[0]
    try:
        with _allowed_kinds, safe_globals([rebuild, np.ndarray, np.dtype, *kinds]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = "it contains more than tensors and numbers, and would have to be executed; save the image alone"
        raise UnusableImageError("unreadable", reason) from error
    affine = None
    if isinstance(content, dict) and isinstance(content.get("images"), dict):
        content, affine = content["images"].get("image", (None, None))
    if not isinstance(content, torch.Tensor) or content.is_complex() or content.layout != torch.strided:
        raise UnusableImageError("not an image", "the file holds no tensor of an image")
    shape = tuple(content.shape[1:] if content.ndim == 4 and len(content) == 1 else content.shape)
    if len(shape) != 3:
        words = f"the tensor has the shape {' x '.join(map(str, content.shape))}; a volume is 1 x X x Y x Z"
        raise UnusableImageError("several volumes" if len(shape) > 3 else "not an image", words)
    with _reserve(shape, content.element_size()):
        array = content.reshape(shape).to(torch.float32).numpy()
        return Volume.from_array(array, assumed.affine(shape, None) if affine is None else np.asarray(affine))


def _read_npz(path: Path, assumed: AssumedGeometry) -> Volume:
    """A NumPy archive with one array, or one named ``array``; ``affine`` or ``spacing`` are used if present."""
    try:
        # NumPy leaves a file that it opened itself open when the archive is damaged.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as archive:
            names = [name for name in archive.files if name not in ("affine", "spacing")]
            chosen = "array" if "array" in names else names[0] if len(names) == 1 else None
            if chosen is None:
                raise UnusableImageError("several volumes", f"it holds {', '.join(names)}; name the volume 'array'")
            with archive.zip.open(f"{chosen}.npy") as file:
                shape, kind = _array_header(file)
            with _reserve(shape, kind.itemsize):
                array = archive[chosen].reshape(shape)
                affine = archive["affine"] if "affine" in archive.files else None
                spacing = tuple(archive["spacing"].tolist()) if "spacing" in archive.files else None
                return Volume.from_array(array, assumed.affine(shape, spacing) if affine is None else affine)
    except (zipfile.BadZipFile, zlib.error, KeyError) as error:
        raise UnusableImageError("unreadable", "the archive is damaged; copy the file again") from error


def _read_hdf5(path: Path, assumed: AssumedGeometry) -> Volume:
    """The dataset of the image of an HDF5 file; its header, if it has one, states the spacing and no orientation."""
    with image_dataset(path, assumed.dataset) as (dataset, spacing):
        shape = _three_axes(dataset.shape)
        if dataset.dtype.kind not in "biuf":
            words = f"the values of {dataset.name} are of type {dataset.dtype}; save one gray value per voxel"
            raise UnusableImageError("voxel type", words)
        with _reserve(shape, dataset.dtype.itemsize):
            return Volume.from_array(dataset[()].reshape(shape), assumed.affine(shape, spacing))


def _array_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    """Shape, with three axes, and type of an array, before any of its values is read."""
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, kind = reader(file)
    shape = _three_axes(shape)
    if kind.kind not in "biuf":
        raise UnusableImageError("voxel type", f"the voxels are of type {kind}; save one gray value per voxel")
    return shape, kind


def _alone(path: Path) -> list[Path]:
    return [path]


def _pair(path: Path) -> list[Path]:
    """A header and its voxels, .hdr and .img, and SPM's file with the affine if there is one."""
    stem = path.name[: -len(extension_of(path.name))]

    def beside(*ends: str) -> list[Path]:
        names = [f"{stem}{cased}" for end in ends for cased in (end, end.upper())]
        return [path.with_name(name) for name in names if path.with_name(name).exists()][:1]

    return [path, *(beside(".img", ".img.gz") or [path.with_name(f"{stem}.img")]), *beside(".mat")]


def _named_in_header(path: Path) -> list[Path]:
    """A text header and the voxel file that it names, in the same folder."""
    header = _text_header(path) if path.is_file() else {}
    name = header.get("elementdatafile") or header.get("data file") or header.get("datafile") or ""
    if name.upper() == "LOCAL":
        return [path]
    if not name or name != PurePosixPath(name).name or name.upper().startswith("LIST"):
        raise UnusableImageError("unreadable", "its header does not name one voxel file in the same folder")
    return [path, path.with_name(name)]


_NIBABEL, _SIMPLEITK = Format(_read_nibabel, _alone), Format(_read_simpleitk, _alone)

FORMATS: dict[str, Format] = {
    ".nii": _NIBABEL,
    ".nii.gz": _NIBABEL,
    ".hdr": Format(_read_nibabel, _pair),
    ".mgh": _NIBABEL,
    ".mgz": _NIBABEL,
    ".mnc": _NIBABEL,
    ".nrrd": _SIMPLEITK,
    ".nhdr": Format(_read_simpleitk, _named_in_header),
    ".mha": _SIMPLEITK,
    ".mhd": Format(_read_simpleitk, _named_in_header),
    ".npy": Format(_read_npy, _alone),
    ".pt": Format(_read_tensor, _alone),
    ".npz": Format(_read_npz, _alone),
    **dict.fromkeys(HDF5_EXTENSIONS, Format(_read_hdf5, _alone)),
}
"""The formats by extension."""
