"""``gyrus models``."""

from __future__ import annotations

from gyrus.cli.terminal import console, table


def models() -> None:
    """List the networks that can be trained."""
    import gyrus

    rows = [
        [name, " ".join(f"{dims}D" for dims in spec.dims), spec.summary, spec.source]
        for name, spec in gyrus.models().items()
    ]
    console.print(table(["name", "input", "description", "source"], rows))
