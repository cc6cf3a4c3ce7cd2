"""What may be asked: options, requirements, settings; pure Python, imported at start-up."""
