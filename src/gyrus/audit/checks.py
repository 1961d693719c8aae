"""The checks of an audit, by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gyrus.audit import duplicates, image_quality, labels, leakage, shortcuts, subjects_from_pixels
from gyrus.audit.context import AuditContext
from gyrus.audit.findings import Finding, Findings
from gyrus.registry import look_up

CHECKS: dict[str, Callable[[AuditContext], tuple[Finding, ...]]] = {
    "subjects": lambda context: subjects_from_pixels.check(context.manifest, context.grouping, context.neighbours),
    "leakage": leakage.check,
    "duplicates": lambda context: duplicates.check(context.manifest, context.duplicates),
    "labels": labels.check,
    "shortcuts": shortcuts.check,
    "quality": lambda context: image_quality.check(context.manifest, context.images.quality),
}
"""Name of a check to the function that reports its findings."""


def run_checks(context: AuditContext, *, title: str, checks: Sequence[str] | None = None) -> Findings:
    """Run the checks.

    Args:
        context: The result of :func:`gyrus.audit.context.gather`.
        title: Name of the data set.
        checks: Names of :data:`CHECKS`; all by default.

    Raises:
        UnknownNameError: There is no such check.
    """
    functions = [look_up(name, CHECKS, "check") for name in (CHECKS if checks is None else checks)]
    entries = [finding for function in functions for finding in function(context)]
    return Findings.from_entries(title, context.manifest.digest, len(context.manifest), entries)
