"""Publish results to external services, if they are configured."""
