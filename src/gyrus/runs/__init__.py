"""The run folder: everything that one training writes."""
