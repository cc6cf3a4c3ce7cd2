"""From a plan to the outcomes of its trials: subsamples, strategies, heads, networks."""
