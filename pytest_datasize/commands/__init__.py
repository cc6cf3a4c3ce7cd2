"""What ``python -m pytest_datasize`` can do with results; one small module a command."""
