"""Volumes of tissues and regions of T1-weighted heads: measured, and those that stored slices allow."""
