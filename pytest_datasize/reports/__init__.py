"""Build reports from the records of a session."""
