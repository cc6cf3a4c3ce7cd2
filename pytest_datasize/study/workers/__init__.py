"""The tasks that a study dispatches to the workers of an engine."""
