"""Commands that work with the results of earlier runs."""
