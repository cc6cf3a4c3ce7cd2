"""Plan and run the trials of a study: subsamples, strategies, heads, networks."""
