"""What to do about a verdict: which images to collect, and whether these are the right ones.

Every module answers one question from what a study has measured anyway; numpy and scipy alone.
"""
