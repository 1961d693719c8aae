"""Heat maps of a network's predictions by fifteen attribution methods, and checks of how far they can be relied on."""
