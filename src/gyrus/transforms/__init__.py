"""Deterministic steps of images and volumes, and random augmentation."""
