"""The pytest plugin: hooks, marker, fixtures, gates, terminal report."""
