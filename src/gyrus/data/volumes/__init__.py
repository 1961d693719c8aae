"""Volumes: read in any format, oriented, prepared, cut into slices, and looked at."""
