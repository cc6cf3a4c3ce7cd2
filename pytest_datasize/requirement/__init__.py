"""Options, requirements and settings of a gate; pure Python, imported at start-up."""
