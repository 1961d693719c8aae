"""``gyrus doctor``."""

from __future__ import annotations

from gyrus.cli.terminal import console, table


def doctor() -> None:
    """Show versions, devices, memory and missing libraries."""
    import gyrus

    console.print(table(["item", "found"], gyrus.doctor()))
