"""Select the device and the number of threads for computing."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache

import torch
from torch import Tensor

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
        if gpu()[0]:
            return _own_gpu()
        if torch.backends.mps.is_available():
            return torch.device("mps")
        return torch.device("cpu")
    device = torch.device(asked)
    if device.type == "cuda":
        works, problem = gpu()
        count = torch.cuda.device_count() if works else 0
        if (device.index or 0) >= count:
            why = f" ({problem})" if problem else ""
            raise BackboneError(
                f"device={asked!r}: torch can use {count} CUDA devices{why}. "
                "Use device='auto' or 'cpu', or check the driver and CUDA_VISIBLE_DEVICES."
            )
        if asked == "cuda":
            return _own_gpu()
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise BackboneError(f"device={asked!r} is not available. Use device='auto' or 'cpu'.")
    return device


@cache
def gpu() -> tuple[bool, str]:
    """Return whether a CUDA GPU can be used, and why a present one cannot be.

    The first call tries the GPU of this process. Only then does it show that the driver is too
    old, that another process holds the GPU alone, or that this build of torch has no kernels for
    it. Torch's own warning is part of the reason and is not issued: as an error, it would end gates
    that need no GPU.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if not torch.cuda.is_available():
            return False, " ".join(str(said[-1].message).split())[:200] if said else ""
        try:
            torch.ones(2, device=_own_gpu()).add(1).cpu()
        except Exception as problem:  # CUDA's errors have many types
            return False, " ".join(str(problem).split())[:200]
    return True, ""


def out_of_memory(problem: BaseException) -> bool:
    """Whether an exception of torch says that a device's memory is full.

    Not all are of torch's own type: CUDA's context, cuBLAS and cuDNN have words of their own.

    Examples
    --------
    >>> out_of_memory(RuntimeError("CUDA error: out of memory")), out_of_memory(ValueError("x"))
    (True, False)
    """
    if isinstance(problem, torch.OutOfMemoryError):
        return True
    words = str(problem)
    return isinstance(problem, RuntimeError) and any(sign in words for sign in _MEMORY_SIGNS)


_MEMORY_SIGNS = (
    "CUDA error: out of memory",
    "CUDA out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
    "unable to find an engine",
)


def current(device: torch.device) -> AbstractContextManager[object]:
    """Make a device torch's current one for a while, so that questions about it are answered."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def free_memory(device: torch.device) -> None:
    """Give memory that torch keeps for itself back to the device, for other processes."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def fetched(rows: Tensor) -> Callable[[], Tensor]:
    """Start to copy rows to the CPU as float32; return a function that waits for them.

    It waits for these rows only, not for what the device was asked to do after them.
    """
    if rows.device.type != "cuda":
        return lambda: rows.float().cpu()
    found = torch.empty(rows.shape, dtype=torch.float32, pin_memory=True)
    found.copy_(rows.float(), non_blocking=True)
    copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
    copied.record()

    def wait() -> Tensor:
        copied.synchronize()
        return found

    return wait


def _own_gpu() -> torch.device:
    """Return the GPU of this process, of those that are visible to it.

    Several processes on one machine use different GPUs in turn.
    """
    number, count = worker_number(), torch.cuda.device_count()
    if number is None or count < 2:
        return torch.device("cuda")
    return torch.device("cuda", number % count)


def trained_in(device: torch.device, strategy: str = "fine_tuning") -> str:
    """Describe the arithmetic of training: float32, on a GPU with half-precision products."""
    if strategy == "own_training":
        return "the trainer's own"
    return "mixed" if has_bfloat16(device) else "float32"


def has_bfloat16(device: torch.device) -> bool:
    """Whether a CUDA GPU multiplies in bfloat16 itself; older ones only emulate it, slowly."""
    if device.type != "cuda":
        return False
    with current(device):
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def describe(device: torch.device) -> str:
    """Return the product name of a device."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    # only if it was tried: a gate on the CPU must not take memory on a GPU
    tried = gpu.cache_info().currsize > 0
    if device.type == "cpu" and tried and (problem := gpu()[1]):
        return f"{device} (a GPU cannot be used: {problem})"
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
