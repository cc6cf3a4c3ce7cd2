"""Describe, merge, prune and verify a store."""
