"""Cleaning of data sets, and conversion to other layouts."""
