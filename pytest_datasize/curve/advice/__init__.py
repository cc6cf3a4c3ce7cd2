"""What to do about a verdict: each module answers one question from what was measured anyway."""
