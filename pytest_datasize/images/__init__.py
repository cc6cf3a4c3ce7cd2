"""Labelled images: sources, decoding, copies, groups, findings."""
