"""From files to batches: sources, manifest, splits, store, preprocessing, phantom."""

from gyrus.data.manifest import Manifest
from gyrus.data.sources import scan

__all__ = ["Manifest", "scan"]
