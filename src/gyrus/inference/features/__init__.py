"""Features of subjects for classifiers without a network: makers that are fitted on the training set and saved.

A maker turns the samples of a manifest into numbers. What it fits (categories of a table, thresholds of random kernels)
it fits on the training set; it is saved as JSON and plain arrays, and gives the same numbers for new images.
"""
