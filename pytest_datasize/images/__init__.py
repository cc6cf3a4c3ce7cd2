"""Labelled images: sources, decoding, duplicates, groups, findings."""
