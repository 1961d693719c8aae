"""Configs of data and preprocessing are read without the libraries that do the work."""

import subprocess
import sys

CONFIGS = (
    "gyrus.datasets.patches",
    "gyrus.datasets.slice_stacks",
    "gyrus.datasets.splits",
    "gyrus.datasets.slices",
    "gyrus.transforms.augmentation.config",
    "gyrus.transforms.preprocessing",
)
HEAVY = ("SimpleITK", "matplotlib", "nibabel", "pandas", "pyarrow", "scipy", "skimage", "sklearn", "torch")


def test_configs_import_no_heavy_library() -> None:
    script = f"import sys, {', '.join(CONFIGS)}\nprint(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
