"""From files to batches: manifest, splits, sources, samples, store, PyTorch data set."""
