"""Select the device and the number of threads for computing."""

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache

import torch
from torch import Tensor

from pytest_datasize.embedding.threads import worker_number
from pytest_datasize.errors import BackboneError


def resolve(asked: str, worth: Callable[[], bool] = lambda: True) -> torch.device:
    """Convert ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps`` to an available device.

    Parameters
    ----------
    asked
        The option.
    worth
        Called for ``auto`` if there is a CUDA GPU: whether there is enough work for it.

    Raises
    ------
    BackboneError
        The requested device is not available.
    """
    if asked == "auto":
        if visible()[0] and worth() and gpu()[0]:
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
def visible() -> tuple[bool, str]:
    """Return whether torch finds a CUDA GPU, without using it; and why not, if torch says so.

    Torch's own warning is the reason and is not issued: as an error, it would end gates that need
    no GPU.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = torch.cuda.is_available()
    why = " ".join(str(said[-1].message).split())[:200] if said and not found else ""
    return found, why


@cache
def gpu() -> tuple[bool, str]:
    """Return whether a CUDA GPU can be used, and why a present one cannot be.

    The first call tries the GPU of this process. Only then does it show that another process
    holds the GPU alone, or that this build of torch has no kernels for it.
    """
    if not visible()[0]:
        return visible()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.ones(2, device=_own_gpu()).add(1).cpu()
        except Exception as problem:  # CUDA's errors have many types
            return False, " ".join(str(problem).split())[:200]
    return True, ""


def forget() -> None:
    """Look for a GPU again."""
    visible.cache_clear()
    gpu.cache_clear()


@contextmanager
def starting_gpu(device: torch.device) -> Iterator[None]:
    """Let a GPU load its libraries in a thread meanwhile, which takes a second or more."""
    thread = threading.Thread(target=_start_gpu, args=(device,), daemon=True)
    if device.type == "cuda":
        thread.start()
    try:
        yield
    finally:
        if thread.ident is not None:
            thread.join()


def _start_gpu(device: torch.device) -> None:
    with suppress(RuntimeError):  # what fails here fails again where it is needed
        use(device)


def use(device: torch.device) -> None:
    """Run each kind of operation once that embedding and heads need."""
    with current(device), torch.inference_mode():
        images = torch.ones(1, 3, 8, 8, device=device)
        torch.nn.functional.conv2d(images, torch.ones(3, 3, 3, 3, device=device))
        square = torch.eye(8, device=device)
        torch.linalg.eigh(square @ square)


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


def repeatable_attention(device: torch.device) -> AbstractContextManager[object]:
    """Let attention on a GPU add its gradients in a fixed order.

    Of torch's implementations only the plain one does so in training; the faster ones add in the
    order in which blocks of the GPU end. To forward passes alone this makes no difference.
    """
    if device.type != "cuda":
        return nullcontext()
    return torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)


def free_bytes(device: torch.device) -> int:
    """Return the free memory of a CUDA GPU, with what torch keeps for itself."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def free_memory(device: torch.device) -> None:
    """Give memory that torch keeps for itself back to the device, for other processes."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def sent(values: Tensor, device: torch.device) -> Tensor:
    """Copy values to a device, asynchronously to a GPU."""
    if device.type != "cuda":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)


def fetched(rows: Tensor) -> Callable[[], Tensor]:
    """Start to copy rows to the CPU as float32; return a function that waits for them.

    It waits for these rows only, not for later work of the device.
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
    tried = gpu.cache_info().currsize > 0 or (visible.cache_info().currsize and not visible()[0])
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
