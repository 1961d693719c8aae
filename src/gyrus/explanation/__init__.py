"""Which pixels an answer came from, by fourteen methods, and whether any of them says the truth."""
