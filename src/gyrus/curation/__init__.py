"""Clean a data set, and write it in another layout."""
