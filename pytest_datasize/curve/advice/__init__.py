"""Advice on a verdict: each module answers one question from data that were measured anyway."""
