"""From files to batches: sources, manifest, splits, samples, store, PyTorch data set."""
