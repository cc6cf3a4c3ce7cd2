"""Select the device and the number of threads for computing."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pytest_datasize.embedding.threads import worker_number
from pytest_datasize.errors import BackboneError


def resolve(asked: str) -> torch.device:
    """Convert ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` to an available device.

    Raises
    ------
    BackboneError
        The requested device is not available.
    """
    if asked == "auto":
        if torch.cuda.is_available():
            return _own_gpu()
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    device = torch.device(asked)
    if asked == "cuda" and torch.cuda.is_available():
        return _own_gpu()
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BackboneError(
            f"device={asked!r}: torch sees {torch.cuda.device_count()} CUDA devices. "
            "Use device='auto' or 'cpu', or check the driver and CUDA_VISIBLE_DEVICES."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise BackboneError(f"device={asked!r} is not available. Use device='auto' or 'cpu'.")
    return device


def _own_gpu() -> torch.device:
    """Return the GPU of this process, of those that are visible to it.

    Several processes on one machine use different GPUs in turn.
    """
    number, count = worker_number(), torch.cuda.device_count()
    if number is None or count < 2:
        return torch.device("cuda")
    return torch.device("cuda", number % count)


def trained_in(device: torch.device) -> str:
    """Describe the arithmetic of training: float32, on a GPU with half-precision products."""
    return "mixed" if device.type == "cuda" else "float32"


def describe(device: torch.device) -> str:
    """Return the product name of a device."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return str(device)


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Set torch's number of threads temporarily."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
