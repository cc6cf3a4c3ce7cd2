"""Find the word that was meant by a wrong one."""

from collections.abc import Collection


def nearest(word: str, allowed: Collection[str]) -> str:
    """Return a hint with the allowed word closest to a wrong one, or an empty string.

    Examples
    --------
    >>> nearest("duplicats", ["duplicates", "sizes"])
    "; did you mean 'duplicates'?"
    """
    from difflib import get_close_matches  # slow to import; needed for wrong input only

    close = get_close_matches(str(word), allowed, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
