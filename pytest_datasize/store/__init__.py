"""Cache of content hashes, embeddings, trial results and evidence, by cache key.

A key contains everything that a value depends on; the caller decides what that is. Nothing is
pickled: values are JSON, or raw numbers. Standard library only, but for the rows of embeddings.
"""

from pytest_datasize.store.store import DEFAULT_FOLDER, Store, key_of

__all__ = ["DEFAULT_FOLDER", "Store", "key_of"]
