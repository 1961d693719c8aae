"""Brain masks by installed programs: HD-BET and SynthStrip. Gyrus neither includes nor downloads them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gyrus.errors import DataError, MissingDependencyError
from gyrus.imaging.volume import Volume
from gyrus.imaging.volume_formats import read_volume, write_nifti
from gyrus.registry import look_up

TIMEOUT = 1800.0
"""Time limit of a program for one volume, in seconds."""


@dataclass(frozen=True)
class Tool:
    """A program that writes a brain mask.

    Attributes:
        program: Its name on the command line.
        command: Builds its arguments from the volume file and the mask file.
        mask: Maps the requested mask file to the one that the program writes.
        home: Its web page.
    """

    program: str
    command: Callable[[Path, Path], list[str]]
    mask: Callable[[Path], Path]
    home: str


TOOLS: dict[str, Tool] = {
    "hd-bet": Tool(
        "hd-bet",
        lambda volume, out: ["-i", str(volume), "-o", str(out), "-device", "cpu", "--disable_tta", "--save_bet_mask"],
        lambda out: out.with_name(out.name.replace(".nii.gz", "_bet.nii.gz")),
        "https://github.com/MIC-DKFZ/HD-BET (version 2)",
    ),
    "synthstrip": Tool(
        "mri_synthstrip",
        lambda volume, out: ["-i", str(volume), "-m", str(out)],
        lambda out: out,
        "https://surfer.nmr.mgh.harvard.edu/docs/synthstrip",
    ),
}
"""The tools by their names in configs."""


def external_mask(volume: Volume, name: str) -> NDArray[np.bool_]:
    """The brain mask that an installed program finds.

    Args:
        volume: Passed to the program without its header.
        name: One of :data:`TOOLS`.

    Returns:
        bool, of the shape of the volume.

    Raises:
        UnknownNameError: There is no such tool.
        MissingDependencyError: The program is not installed.
        DataError: The program fails, or its mask does not match the volume.
    """
    tool = look_up(name, TOOLS, "tool for brain masks")
    program = shutil.which(tool.program)
    if program is None:
        raise MissingDependencyError(
            f"The program '{tool.program}' was not found. Install it from {tool.home}, "
            "or use the built-in mask (tool: classical)."
        )
    with tempfile.TemporaryDirectory(prefix="gyrus-") as folder:
        source, out = Path(folder) / "volume.nii.gz", Path(folder) / "mask.nii.gz"
        write_nifti(volume, source)
        _run([program, *tool.command(source, out)], tool)
        return _read_mask(tool.mask(out), volume, tool)


def _run(command: list[str], tool: Tool) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise DataError(f"'{tool.program}' took longer than {TIMEOUT:.0f} s for one volume.") from error
    except OSError as error:
        raise DataError(f"'{tool.program}' cannot be run: {error.strerror}.") from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        raise DataError(f"'{tool.program}' failed with exit code {done.returncode}: {last[0]}")


def _read_mask(path: Path, volume: Volume, tool: Tool) -> NDArray[np.bool_]:
    if not path.is_file():
        raise DataError(f"'{tool.program}' finished without an error, but wrote no mask to {path.name}.")
    mask = read_volume(path)
    if mask.shape != volume.shape or not np.allclose(mask.affine, volume.affine, atol=1e-3):
        raise DataError(f"'{tool.program}' wrote a mask on another grid than the volume.")
    return np.asarray(mask.array > 0.5)
