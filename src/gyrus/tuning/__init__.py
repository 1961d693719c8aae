"""Hyperparameter search outside the test set, by one or more workers. Read :mod:`gyrus.tuning.tune` first."""
