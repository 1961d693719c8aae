"""Read volumes from NIfTI, Analyze, MGH, MINC, NRRD, MetaImage and NumPy files; write them as NIfTI."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from gyrus.errors import MissingDependencyError, UnusableImageError
from gyrus.extras import missing_dependency
from gyrus.files import atomic_path
from gyrus.imaging.decoding import quiet_libraries
from gyrus.imaging.orientation import AssumedGeometry
from gyrus.imaging.volume import Volume

LARGEST_VOXEL_COUNT = 1024**3 // 2
"""Most voxels that a header may announce: 2 GiB as float32."""

_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}


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
            raise _explain(error) from error


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


def _explain(error: Exception) -> UnusableImageError:
    words = (str(error) or type(error).__name__).splitlines()[0][:200]
    short = isinstance(error, EOFError) or any(word in words.lower() for word in ("expected", "truncated", "ended"))
    return UnusableImageError("truncated" if short else "unreadable", words)


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
        raise UnusableImageError("unreadable", "MINC 2 requires h5py (pip install h5py); or convert it with mnc2nii")
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
    affine = np.diag([factor, factor, factor, 1.0]) @ image.affine if _has_orientation(image) else None
    if affine is None:
        known = spacing if len(spacing) == 3 and min(spacing) > 0 else None
        affine = assumed.affine(shape, known)
        notes.append(f"the header has no orientation; {assumed.orientation} is assumed")
    _require_size(shape)
    array = np.asarray(image.dataobj).reshape(shape)
    return Volume.from_array(array, affine, notes=tuple(notes), stored=_plain(image, kind))


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


def _require_size(shape: tuple[int, ...]) -> None:
    if np.prod([float(length) for length in shape]) > LARGEST_VOXEL_COUNT:
        raise UnusableImageError("decompression bomb", f"the header announces {' x '.join(map(str, shape))} voxels")


def _read_simpleitk(path: Path, assumed: AssumedGeometry) -> Volume:
    try:
        import SimpleITK
    except ImportError as error:
        raise missing_dependency("Reading NRRD and MetaImage files", "volumes") from error
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    shape = _three_axes(tuple(reader.GetSize()))
    _require_size(shape)
    image = reader.Execute()
    if image.GetNumberOfComponentsPerPixel() > 1:
        raise UnusableImageError("voxel type", "the voxels are vectors or colours; save one gray value per voxel")
    array = SimpleITK.GetArrayFromImage(image).transpose().reshape(shape)
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
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    shape = _three_axes(array.shape)
    _require_plain(array, shape)
    return Volume.from_array(np.asarray(array).reshape(shape), assumed.affine(shape, None))


def _read_npz(path: Path, assumed: AssumedGeometry) -> Volume:
    """A NumPy archive with one array, or one named ``array``; ``affine`` or ``spacing`` are used if present."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = [name for name in archive.files if name not in ("affine", "spacing")]
            chosen = "array" if "array" in names else names[0] if len(names) == 1 else None
            if chosen is None:
                raise UnusableImageError("several volumes", f"it holds {', '.join(names)}; name the volume 'array'")
            array = archive[chosen]
            affine = archive["affine"] if "affine" in archive.files else None
            spacing = tuple(archive["spacing"].tolist()) if "spacing" in archive.files else None
    except (zipfile.BadZipFile, zlib.error) as error:
        raise UnusableImageError("unreadable", "the archive is damaged") from error
    shape = _three_axes(array.shape)
    _require_plain(array, shape)
    return Volume.from_array(array.reshape(shape), assumed.affine(shape, spacing) if affine is None else affine)


def _require_plain(array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.dtype.kind not in "biuf":
        raise UnusableImageError("voxel type", f"the voxels are of type {array.dtype}; save one gray value per voxel")
    _require_size(shape)


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
        raise UnusableImageError("unreadable", "the header does not name one voxel file in the same folder")
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
    ".npz": Format(_read_npz, _alone),
}
"""The formats by extension."""
