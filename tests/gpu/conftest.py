"""What is run in a process of its own is no test."""

collect_ignore = ["pretended.py", "scenarios.py"]
