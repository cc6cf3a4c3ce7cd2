"""The type of stored embeddings."""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

HalfArray: TypeAlias = NDArray[np.float16]
"""Embeddings of shape (N, D)."""
