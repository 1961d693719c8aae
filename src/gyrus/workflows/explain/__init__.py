"""Heat maps of a trained classifier, and checks of them."""
