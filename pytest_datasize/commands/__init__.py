"""What ``python -m pytest_datasize`` can do with results; one small module a command."""

from pathlib import Path

STORE = Path(".pytest_cache/d/datasize")
"""Where sessions keep what they found out, seen from pytest's root directory."""
