"""Parameters of every model and head: the tables of docs/models.md, by ``python -m gyrus.models.parameter_counts``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from gyrus.files import write_text
from gyrus.models.build import build
from gyrus.models.config import ModelConfig
from gyrus.models.heads import Head
from gyrus.models.model_table import HEADS, MODELS

START, END = "<!-- tables start -->\n", "<!-- tables end -->"
SIZES = {2: (128, 128), 3: (96, 96, 96)}
CHANNELS, CLASSES, FEATURES = 1, 4, 512


def count_parameters(network: nn.Module) -> tuple[int, int]:
    """The number of parameters of a network, and of those that are trained."""
    sizes = [(value.numel(), value.requires_grad) for value in network.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def tables() -> str:
    """Every model and every head with its number of parameters, as Markdown."""
    return f"{_models()}\n{_heads()}"


def with_tables(page: str) -> str:
    """A page with the tables between its two markers replaced."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{tables()}\n{END}{after}"


def _models() -> str:
    rows = []
    for name, spec in MODELS.items():
        counts = [f"{_model_size(name, dims):,}" if dims in spec.dims else "" for dims in SIZES]
        rows.append([f"`{name}`", spec.summary, spec.source, *counts])
    sizes = (f"{dims}D, {' x '.join(map(str, size))}" for dims, size in SIZES.items())
    return _table(["model", "what it is", "source", *sizes], rows)


def _model_size(name: str, dims: int) -> int:
    # the meta device has shapes but no memory, so that large networks cost nothing
    with torch.device("meta"):
        model = build(ModelConfig(name=name), in_channels=CHANNELS, num_classes=CLASSES, image_size=SIZES[dims])
    return count_parameters(model)[0]


def _heads() -> str:
    rows = []
    for name, spec in HEADS.items():
        with torch.device("meta"):
            head = Head(FEATURES, FEATURES, CLASSES, spec.options)
        rows.append([f"`{name}`", spec.summary, spec.source, f"{count_parameters(head)[0]:,}"])
    return _table(["head", "what it is", "source", f"parameters on {FEATURES} features"], rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    path = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/models.md")
    write_text(path, with_tables(path.read_text(encoding="utf-8")))
