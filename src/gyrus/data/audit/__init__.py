"""Find out what is wrong with a data set before it is believed."""
