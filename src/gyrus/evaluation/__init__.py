"""Evaluation of predictions: metrics with confidence intervals, calibration, thresholds, subgroups, leaderboards."""
