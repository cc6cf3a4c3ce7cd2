"""Metrics of the tasks: the contribution of every test image to a score."""
