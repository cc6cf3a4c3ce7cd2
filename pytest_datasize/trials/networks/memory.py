"""Fit batches into memory: halve the portion when a GPU's memory is full, and continue."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from pytest_datasize.embedding.device import free_memory, has_bfloat16, out_of_memory
from pytest_datasize.errors import TrainingError


@dataclass
class Portions:
    """Number of images processed at a time; it is reduced and never increased.

    The recipe's batch is not changed by this: gradients of the portions of a batch add up.

    Attributes
    ----------
    most
        Initial number of images.
    halvings
        How often memory was full.
    """

    most: int = 4096
    halvings: int = field(default=0, init=False)

    def notes(self) -> tuple[str, ...]:
        """Return a note if memory was full."""
        if not self.halvings:
            return ()
        return (f"the GPU's memory was full: {self.most} images went through at a time",)

    def run(
        self,
        rows: NDArray[np.int64],
        work: Callable[[NDArray[np.int64]], None],
        undo: Callable[[], None],
    ) -> None:
        """Call ``work`` with portions of the rows; after a full memory, ``undo`` and start again.

        Raises
        ------
        TrainingError
            Memory is full with a single image.
        """
        while True:
            try:
                for first in range(0, len(rows), self.most):
                    work(rows[first : first + self.most])
                return
            except RuntimeError as problem:
                if not out_of_memory(problem):
                    raise
                portion = min(self.most, len(rows))
                if portion <= 1:
                    raise TrainingError(
                        "the GPU's memory is too small for a single image. Use a smaller "
                        "image_size, a smaller backbone, or device='cpu'."
                    ) from None
            # outside the except block: its traceback would keep the tensors alive
            self.most = portion // 2
            self.halvings += 1
            undo()
            if torch.cuda.is_available():
                free_memory(torch.device("cuda"))
            elif torch.backends.mps.is_available():
                free_memory(torch.device("mps"))


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Mixed precision where it is safe and fast: bfloat16 on a CUDA GPU that has it."""
    if has_bfloat16(device):
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()
