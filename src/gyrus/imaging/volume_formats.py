"""Volumes in files: NIfTI, Analyze, MGH, NRRD, MetaImage and NumPy, each by the library that keeps it best."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from gyrus.errors import ConfigError, MissingDependencyError
from gyrus.extras import missing_dependency
from gyrus.imaging.decoding import UnusableImageError, quiet_libraries
from gyrus.imaging.volume import Volume

LARGEST_VOXEL_COUNT = 1024**3 // 2
"""The most voxels a volume may announce: 2 GiB as float32."""

_MILLIMETRES = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}
_AXIS_WORDS = ("LR", "PA", "IS")


@dataclass(frozen=True)
class Assumption:
    """What the user states where a header says nothing; never used against what a header says.

    Attributes:
        orientation: Where the axes of the array point to, such as "RAS" or "LPS".
        spacing: Millimetres along each axis of the array.
    """

    orientation: str | None = None
    spacing: tuple[float, float, float] | None = None

    def __post_init__(self) -> None:
        letters = self.orientation or "RAS"
        if len(letters) != 3 or any(not set(letters) & set(pair) for pair in _AXIS_WORDS):
            raise ConfigError(f"An orientation has a letter of each of L|R, P|A and I|S, such as RAS; got '{letters}'.")
        if self.spacing is not None and (len(self.spacing) != 3 or min(self.spacing) <= 0):
            raise ConfigError(f"A spacing is three lengths in mm above 0, such as 1,1,1; got {self.spacing}.")

    def affine(self, shape: tuple[int, ...], spacing: tuple[float, ...] | None) -> np.ndarray:
        """From voxel numbers to mm, RAS+, centred at 0.

        Args:
            shape: Voxels along each axis.
            spacing: What the header says of it, if anything.

        Raises:
            UnusableImageError: Neither the header nor the user says it.
        """
        spacing = spacing or self.spacing
        if self.orientation is None:
            raise UnusableImageError(
                "orientation unknown", "the header does not say where the axes point to; state it by --orientation"
            )
        if spacing is None:
            raise UnusableImageError(
                "spacing unknown", "the header does not say the size of a voxel; state it by --spacing, in mm"
            )
        affine = np.zeros((4, 4))
        affine[3, 3] = 1
        for axis, letter in enumerate(self.orientation):
            world = next(number for number, pair in enumerate(_AXIS_WORDS) if letter in pair)
            affine[world, axis] = spacing[axis] * (1 if letter in "RAS" else -1)
        affine[:3, 3] = -affine[:3, :3] @ (np.array(shape) - 1) / 2
        return affine


@dataclass(frozen=True)
class Format:
    """A kind of file that holds a volume.

    Attributes:
        read: From the path and what the user states to the volume.
        files: From the path to all files that make up the volume, the one named first.
    """

    read: Callable[[Path, Assumption], Volume]
    files: Callable[[Path], list[Path]]


def is_volume(name: str) -> bool:
    """Whether the extension is that of a volume in one file, or of its header."""
    return extension_of(name) in FORMATS


def extension_of(name: str) -> str:
    """The extension in small letters, with what stands before ".gz"."""
    suffixes = PurePosixPath(name.lower()).suffixes
    return "".join(suffixes[-2:]) if suffixes[-1:] == [".gz"] else "".join(suffixes[-1:])


def read_volume(path: Path, assumption: Assumption | None = None) -> Volume:
    """Read a volume, in RAS+.

    Args:
        path: A file with one of the extensions of :data:`FORMATS`.
        assumption: What the user states where the header says nothing.

    Raises:
        UnusableImageError: The file cannot be used; it says why.
        MissingDependencyError: The format needs a library that is not installed.
    """
    kind = FORMATS.get(extension_of(path.name))
    if kind is None:
        raise UnusableImageError("not an image", f"volumes are files with {', '.join(FORMATS)}")
    for file in kind.files(path):
        if not file.is_file():
            raise UnusableImageError("missing", f"there is no file {file.name} beside it")
        if not file.stat().st_size:
            raise UnusableImageError("empty", f"there is nothing in {file.name}")
    with quiet_libraries():
        try:
            return kind.read(path, assumption or Assumption())
        except (UnusableImageError, MissingDependencyError):
            raise
        except Exception as error:  # damaged files make the libraries raise errors of many types
            raise _explain(error) from error


def _explain(error: Exception) -> UnusableImageError:
    words = (str(error) or type(error).__name__).splitlines()[0][:200]
    short = isinstance(error, EOFError) or any(word in words.lower() for word in ("expected", "truncated", "ended"))
    return UnusableImageError("truncated" if short else "unreadable", words)


def _read_nibabel(path: Path, assumption: Assumption) -> Volume:
    import nibabel

    image: Any = nibabel.load(path)
    shape, notes = _three_axes(image.shape), []
    kind = image.get_data_dtype()
    if kind.kind not in "biuf":
        words = "complex numbers" if kind.kind == "c" else "colours"
        raise UnusableImageError("voxel type", f"the voxels are {words}; save one gray value a voxel")
    spacing = tuple(float(length) for length in image.header.get_zooms()[:3])
    factor = 1.0
    if isinstance(image, nibabel.Nifti1Pair):
        unit = image.header.get_xyzt_units()[0]
        factor = _MILLIMETRES.get(unit, 1.0)
        if unit not in _MILLIMETRES:
            notes.append("the header names no unit of length; millimetres are taken")
    spacing = tuple(length * factor for length in spacing)
    affine = np.diag([factor, factor, factor, 1.0]) @ image.affine if _says_where(image) else None
    if affine is None:
        known = spacing if len(spacing) == 3 and min(spacing) > 0 else None
        affine = assumption.affine(shape, known)
        notes.append(f"the header does not say where the axes point to; stated as {assumption.orientation}")
    _require_size(shape)
    array = np.asarray(image.dataobj).reshape(shape)
    return Volume.from_array(array, affine, notes=tuple(notes), stored=_plain(image, kind))


def _says_where(image: Any) -> bool:
    """Whether a header says where the axes point to; nibabel fills in a guess where it does not."""
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
    """The type of the voxels, unless the header scales them."""
    slope = getattr(image.dataobj, "slope", 1.0)
    inter = getattr(image.dataobj, "inter", 0.0)
    return kind.newbyteorder("=") if (slope, inter) == (1.0, 0.0) else np.dtype(np.float32)


def _three_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) > 3:
        raise UnusableImageError(
            "several volumes", f"{' x '.join(map(str, shape))} voxels: a series; save the one that is meant, or a mean"
        )
    return tuple(int(length) for length in (*shape, 1, 1)[:3])


def _require_size(shape: tuple[int, ...]) -> None:
    if np.prod([float(length) for length in shape]) > LARGEST_VOXEL_COUNT:
        raise UnusableImageError("decompression bomb", f"the header announces {' x '.join(map(str, shape))} voxels")


def _read_simpleitk(path: Path, assumption: Assumption) -> Volume:
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
        raise UnusableImageError("voxel type", "the voxels are vectors or colours; save one gray value a voxel")
    array = SimpleITK.GetArrayFromImage(image).transpose().reshape(shape)
    says, spacing = _text_header_says(path, reader)
    if not says:
        return Volume.from_array(array, assumption.affine(shape, spacing))
    directions = np.array(reader.GetDirection()).reshape(reader.GetDimension(), -1)[:3, :3]
    affine = np.eye(4)
    affine[:3, :3] = directions * np.array(reader.GetSpacing()[:3])
    affine[:3, 3] = reader.GetOrigin()[:3]
    # ITK counts from right to left and from front to back.
    return Volume.from_array(array, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)


def _text_header_says(path: Path, reader: Any) -> tuple[bool, tuple[float, ...] | None]:
    """Whether a NRRD or MetaImage header says where the axes point to, and the spacing if it says that."""
    header = _text_header(path)
    nrrd = extension_of(path.name) in (".nrrd", ".nhdr")
    says = "space directions" in header and ("space" in header) if nrrd else "transformmatrix" in header
    spaced = ("spacings" in header or "space directions" in header) if nrrd else "elementspacing" in header
    return says, tuple(reader.GetSpacing()[:3]) if spaced else None


def _text_header(path: Path) -> dict[str, str]:
    """The fields of the text at the head of a NRRD or MetaImage file, names in small letters."""
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


def _read_npy(path: Path, assumption: Assumption) -> Volume:
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    shape = _three_axes(array.shape)
    _require_plain(array, shape)
    return Volume.from_array(np.asarray(array).reshape(shape), assumption.affine(shape, None))


def _read_npz(path: Path, assumption: Assumption) -> Volume:
    """A NumPy archive with one array, or one called ``array``; ``affine`` or ``spacing`` beside it are heeded."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = [name for name in archive.files if name not in ("affine", "spacing")]
            chosen = "array" if "array" in names else names[0] if len(names) == 1 else None
            if chosen is None:
                raise UnusableImageError("several volumes", f"it holds {', '.join(names)}; call the volume 'array'")
            array = archive[chosen]
            affine = archive["affine"] if "affine" in archive.files else None
            spacing = tuple(archive["spacing"].tolist()) if "spacing" in archive.files else None
    except (zipfile.BadZipFile, zlib.error) as error:
        raise UnusableImageError("unreadable", "the archive is damaged") from error
    shape = _three_axes(array.shape)
    _require_plain(array, shape)
    return Volume.from_array(array.reshape(shape), assumption.affine(shape, spacing) if affine is None else affine)


def _require_plain(array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.dtype.kind not in "biuf":
        raise UnusableImageError("voxel type", f"the voxels are of type {array.dtype}; save one gray value a voxel")
    _require_size(shape)


def _alone(path: Path) -> list[Path]:
    return [path]


def _pair(path: Path) -> list[Path]:
    """A header and its voxels: .hdr and .img; the SPM file with the affine too, where there is one."""
    stem = path.name[: -len(extension_of(path.name))]
    voxels = [path.with_name(f"{stem}{end}") for end in (".img", ".img.gz")]
    mat = path.with_name(f"{stem}.mat")
    return [path, next((file for file in voxels if file.exists()), voxels[0]), *([mat] if mat.exists() else [])]


def _named_in_header(path: Path) -> list[Path]:
    """A text header and the file of voxels that it names, which must lie beside it."""
    header = _text_header(path) if path.is_file() else {}
    name = header.get("elementdatafile") or header.get("data file") or header.get("datafile") or ""
    if name.upper() == "LOCAL":
        return [path]
    if not name or name != PurePosixPath(name).name or name.upper().startswith("LIST"):
        raise UnusableImageError("unreadable", "the header does not name one file of voxels that lies beside it")
    return [path, path.with_name(name)]


_NIBABEL, _SIMPLEITK = Format(_read_nibabel, _alone), Format(_read_simpleitk, _alone)

FORMATS: dict[str, Format] = {
    ".nii": _NIBABEL,
    ".nii.gz": _NIBABEL,
    ".hdr": Format(_read_nibabel, _pair),
    ".mgh": _NIBABEL,
    ".mgz": _NIBABEL,
    ".nrrd": _SIMPLEITK,
    ".nhdr": Format(_read_simpleitk, _named_in_header),
    ".mha": _SIMPLEITK,
    ".mhd": Format(_read_simpleitk, _named_in_header),
    ".npy": Format(_read_npy, _alone),
    ".npz": Format(_read_npz, _alone),
}
"""The formats by extension."""
