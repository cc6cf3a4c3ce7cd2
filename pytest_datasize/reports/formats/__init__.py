"""One module per format; all draw from records and compute nothing."""
