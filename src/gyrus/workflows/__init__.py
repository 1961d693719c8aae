"""One module per command, from files to a report. Start with ``train``."""
