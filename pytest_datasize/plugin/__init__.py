"""pytest's side: hooks, marker, fixtures, gates, terminal report."""
