"""``gyrus models``: what can be trained."""

from __future__ import annotations

from gyrus.cli.terminal import console, table


def models() -> None:
    """List the networks that can be trained."""
    from gyrus.models.build import MODELS

    rows = [
        [name, " ".join(f"{dims}D" for dims in spec.dims), spec.summary, spec.source] for name, spec in MODELS.items()
    ]
    console.print(table(["name", "input", "what it is", "source"], rows))
