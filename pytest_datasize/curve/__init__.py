"""Fit learning curves to trial outcomes and judge targets; uses numpy and scipy only."""
