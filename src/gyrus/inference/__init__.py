"""From a trained classifier to predictions, and from slices to subjects."""
