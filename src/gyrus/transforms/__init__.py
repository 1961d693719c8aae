"""Deterministic steps on images and volumes, intensity normalisation, and random augmentation."""
