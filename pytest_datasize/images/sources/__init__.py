"""Load labelled images: one module for each format of a data set."""
