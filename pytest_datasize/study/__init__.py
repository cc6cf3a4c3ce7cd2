"""A study: plan it, run it, store its result, and compare it with others."""
