"""Predictions of trained classifiers, pooled by subject or averaged over an ensemble."""
