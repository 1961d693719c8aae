"""Peak memory of reading one large image or volume, and preparing it for a small network.

Usage: python benchmarks/reading_memory.py [--edge 9400] [--voxels 500]. Set GYRUS_MEMORY to see what a budget refuses.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

READ = """
import re, sys, tempfile
from pathlib import Path
from gyrus.datasets.scan import scan
from gyrus.datasets.store import open_store
from gyrus.errors import GyrusError
from gyrus.transforms.preprocessing import PreprocessingConfig
import nibabel, scipy.ndimage

# Not ru_maxrss, which a child process inherits.
peak = lambda: int(re.search("VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
before = peak()
steps = [{"step": "grayscale"}, {"step": "resize", "size": [64, 64]}]
try:
    with tempfile.TemporaryDirectory() as cache:
        found = scan(sys.argv[1], labelled=False)
        open_store(found, PreprocessingConfig(steps=steps), cache=Path(cache))
    print(f"{peak() - before:.0f} MiB above {before:.0f} MiB before reading")
except GyrusError as error:
    print(error)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=9400, help="pixels along each edge of the image")
    parser.add_argument("--voxels", type=int, default=500, help="voxels along each edge of the volume")
    options = parser.parse_args()

    import nibabel
    import numpy as np
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        gray = Image.new("L", (options.edge, options.edge))
        gray.putpixel((0, 0), 1)
        gray.save(Path(folder) / "gray.png")
        gray.convert("RGB").save(Path(folder) / "rgb.png")
        volume = np.zeros((options.voxels,) * 3, np.uint8)
        volume[0, 0, 0] = 1
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), Path(folder) / "volume.nii.gz")
        del volume, gray
        for name in ("gray.png", "rgb.png", "volume.nii.gz"):
            found = subprocess.run(
                [sys.executable, "-c", READ, str(Path(folder) / name)], capture_output=True, text=True
            )
            print(f"{name}: {found.stdout.strip() or found.stderr[-500:]}")


if __name__ == "__main__":
    main()
