"""Heat maps of a trained classifier, and checks of them. Read :mod:`gyrus.workflows.explain.explain` first."""
