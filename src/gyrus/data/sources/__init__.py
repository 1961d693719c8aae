"""Everything that can be scanned into a manifest."""
from gyrus.data.manifest import Manifest


def scan(path: object) -> Manifest:
    raise NotImplementedError
