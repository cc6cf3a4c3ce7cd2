"""What was found out once and need not be again: file contents, embeddings, trials, evidence.

A key says everything that a value depends on; who makes a key decides what that is. Nothing is
pickled: values are JSON, or raw numbers. Standard library only, but for the rows of embeddings.
"""

from pytest_datasize.store.store import DEFAULT_FOLDER, Store, key_of

__all__ = ["DEFAULT_FOLDER", "Store", "key_of"]
