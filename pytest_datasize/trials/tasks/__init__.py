"""Heads of the tasks: each module has ``prepare(work)``, which returns what fits its heads."""
