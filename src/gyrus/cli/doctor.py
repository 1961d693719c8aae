"""``gyrus doctor``: what is here, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
from importlib.metadata import requires

from gyrus.cli.terminal import console, table

OPTIONAL = {
    "datasets": ("huggingface", "reading hf:owner/name"),
    "SimpleITK": ("volumes", "NRRD and MetaImage, the step n4"),
    "pydicom": ("dicom", "DICOM"),
    "python-gdcm": ("dicom", "compressed DICOM"),
    "optuna": ("tuning", "gyrus tune"),
    "cmaes": ("tuning", "gyrus tune --sampler cma-es"),
    "psycopg": ("postgresql", "gyrus tune --storage postgresql://..."),
    "tensorboard": ("tensorboard", "training.loggers: tensorboard"),
    "mlflow": ("tracking", "training.loggers: mlflow"),
    "wandb": ("tracking", "training.loggers: wandb"),
    "umap-learn": ("umap", "gyrus audit --umap"),
}
"""What else can be installed: the extra that brings it, and what it is for."""


def doctor() -> None:
    """Show versions, devices, memory and what is missing."""
    import psutil
    import torch

    from gyrus.extras import DISTRIBUTION, install_command
    from gyrus.files import cache_folder
    from gyrus.runs.run_folder import installed_version

    memory = psutil.virtual_memory()
    cache = cache_folder()
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    facts = [
        ["Python", platform.python_version()],
        ["System", f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"],
        ["Memory", f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"],
        ["Store", f"{cache}, {shutil.disk_usage(existing).free / 2**30:.0f} GiB free"],
        ["Devices", ", ".join(_devices(torch))],
    ]
    names = [_name(requirement) for requirement in requires(DISTRIBUTION) or [] if "extra ==" not in requirement]
    facts += [[name, installed_version(name) or f"MISSING: reinstall {DISTRIBUTION}"] for name in names]
    facts += [
        [name, installed_version(name) or f"not installed; for {purpose}: {install_command(extra)}"]
        for name, (extra, purpose) in OPTIONAL.items()
    ]
    console.print(table(["what", "here"], facts))


def _devices(torch: object) -> list[str]:
    found = ["cpu"]
    cuda, mps = torch.cuda, torch.backends.mps  # type: ignore[attr-defined]
    found += [f"cuda:{number} ({cuda.get_device_name(number)})" for number in range(cuda.device_count())]
    return [*found, "mps"] if mps.is_available() else found


def _name(requirement: str) -> str:
    return requirement.split(">")[0].split("=")[0].split(";")[0].strip()
