"""Audit: subjects from pixels.

The number of groups of images against the similarity that joins them. The wide plateau is the number of people,
found without reading a file name. See [Audit](../audit.md).
"""

import shutil

import gyrus

gyrus.phantom("unnamed", layout="id-slice", subjects=16, slices=20, size=64, classes=2)
result = gyrus.audit("unnamed", out="audit", checks=["subjects"], maps=False)
shutil.copy(result.page.parent / "figures" / "groups_by_threshold.png", "d_audit.png")
