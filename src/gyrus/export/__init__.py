"""Bundles: trained classifiers to use elsewhere, with proof that they give the same probabilities."""
