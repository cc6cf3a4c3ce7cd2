"""One module for each format; all draw from records and compute nothing."""
