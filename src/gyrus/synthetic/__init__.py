"""Phantom data: synthetic heads for tests and demonstrations."""
