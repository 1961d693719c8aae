"""Heat maps of a network's predictions by fourteen attribution methods, and checks of how far they can be relied on."""
