"""Find problems of a data set before training: duplicates, leakage, shortcuts, quality."""
