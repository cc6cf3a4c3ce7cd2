"""Run a frozen backbone with OpenVINO, which is faster on most CPUs than PyTorch.

The module is traced on a batch of noise, converted and compiled in memory: nothing is written to
disk. Tracing skips PyTorch's own comparison of two runs, because the converted model is compared
with the module on real images (:func:`pytest_datasize.embedding.precision.prepare_openvino`).
Without it a conversion takes about a second instead of the three to four of
``openvino.convert_model``, so that files of converted models need not be kept, verified and pruned.
OpenVINO's telemetry is not loaded.
"""

import importlib
import platform
import sys
import threading
import warnings
import weakref
from typing import Any, Final

import torch
from torch import Tensor, nn

from pytest_datasize.curve.seeds import FIXED_NOISE
from pytest_datasize.embedding.threads import n_threads
from pytest_datasize.errors import BackboneError
from pytest_datasize.images.decode import WARNING_FILTERS
from pytest_datasize.requirement.registries import OPENVINO, TORCH
from pytest_datasize.requirement.versions import versions

WORTH: Final = 1 << 26
"""Pixels of input from which a conversion pays: 7,282 images of 96 x 96 or 1,338 of 224 x 224.

By the times in benchmarks/README.md it is repaid from 3,000 images of 96 pixels or 1,700 of 224 on,
on one core with bfloat16, and earlier in float32. The number is fixed and not timed on the machine,
so that the choice is the same in every run.
"""

MACHINES: Final = ("x86_64", "AMD64")
"""Machines on which ``auto`` chooses OpenVINO, because it was measured there."""

HINTS: Final = {"float32": "f32", "bfloat16": "bf16"}
"""Precision → name in OpenVINO. Its CPU plugin has float16 on few processors only."""


def choose(asked: str, device: torch.device, named: bool, pixels: int) -> str:
    """Choose the runtime of a frozen backbone.

    Parameters
    ----------
    asked
        The option: ``auto``, ``torch`` or ``openvino``.
    device
        Where the backbone runs; OpenVINO is used on the CPU only.
    named
        Whether the backbone is one of timm's. A trace of a user's own module might miss a branch
        that other images take, so ``auto`` leaves it to PyTorch.
    pixels
        Height times width of the model's input, times the number of images of the data set.

    Raises
    ------
    BackboneError
        OpenVINO is asked for and not installed.

    Examples
    --------
    >>> choose("torch", torch.device("cpu"), True, 10**12)
    'torch'
    >>> choose("auto", torch.device("cpu"), True, 1000)
    'torch'
    """
    if asked == TORCH or device.type != "cpu":
        return TORCH
    installed = bool(versions([OPENVINO])[OPENVINO])
    if asked == OPENVINO:
        if not installed:
            raise BackboneError(
                "runtime='openvino': OpenVINO is not installed. Run: pip install "
                "'pytest-datasize[fast]', or use runtime='auto'."
            )
        return OPENVINO
    pays = named and pixels >= WORTH and platform.machine() in MACHINES
    return OPENVINO if pays and installed else TORCH


class OpenVINOModel:
    """A converted module: (n, 3, S, S) float32 images, n at most the batch size → (n, D).

    Threads may call it at the same time; each call runs on one thread of its own, so that results
    do not depend on the number of threads.

    Parameters
    ----------
    module
        The frozen module, in evaluation mode.
    side
        S, pixels.
    batch
        Images in every call; fewer are filled up.
    precision
        ``float32`` or ``bfloat16``.

    Raises
    ------
    Exception
        Of any type, if the module cannot be traced, converted or compiled.
    """

    def __init__(self, module: nn.Module, side: int, batch: int, precision: str) -> None:
        threads = n_threads()
        self._batch = batch
        self._compiled = (
            _openvino()
            .Core()
            .compile_model(
                _converted(module, side, batch),
                "CPU",
                {
                    "INFERENCE_PRECISION_HINT": HINTS[precision],
                    "NUM_STREAMS": threads,
                    "INFERENCE_NUM_THREADS": threads,  # one for each stream
                    "ENABLE_HYPER_THREADING": True,  # n_threads has decided how many there are
                    "ENABLE_CPU_PINNING": False,  # the calling threads are not ours to pin
                    "CACHE_DIR": "",
                },
            )
        )
        self._own = threading.local()

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features of some images."""
        count = len(images)
        if count < self._batch:
            filled = images[-1:].expand(self._batch - count, -1, -1, -1)
            images = torch.cat([images, filled])
        if not hasattr(self._own, "request"):
            self._own.request = self._compiled.create_infer_request()
        rows = images.movedim(1, -1).contiguous()  # no copy of images with channels last
        found = self._own.request.infer({0: rows.numpy()}, share_inputs=True)[0]
        return torch.from_numpy(found[:count])


_CONVERTED: weakref.WeakKeyDictionary[nn.Module, dict[tuple[int, int], Any]] = (
    weakref.WeakKeyDictionary()
)
"""Models that were converted in this process: those of augmented views are the same."""


def _converted(module: nn.Module, side: int, batch: int) -> Any:
    """Convert a module for batches of images with channels last."""
    known = _CONVERTED.setdefault(module, {})
    if (side, batch) not in known:
        openvino = _openvino()
        preprocess = importlib.import_module("openvino.preprocess")
        decoder = importlib.import_module("openvino.frontend.pytorch.ts_decoder")
        frontend = importlib.import_module("openvino.frontend").FrontEndManager()
        frontend = frontend.load_by_framework("pytorch")
        # held by decoders as well: threads share the filters of warnings
        with WARNING_FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a trace warns of each constant
            trace: Any = torch.jit.trace
            traced = trace(module, _noise(side, batch), strict=False, check_trace=False)
            given = decoder.TorchScriptPythonDecoder(traced)
        model = frontend.convert(frontend.load(given))
        model.reshape([batch, 3, side, side])
        steps = preprocess.PrePostProcessor(model)
        steps.input().tensor().set_layout(openvino.Layout("NHWC"))
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        known[side, batch] = steps.build()
    return known[side, batch]


def _noise(side: int, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(FIXED_NOISE)
    images = torch.rand(batch, 3, side, side, generator=generator)
    return images.contiguous(memory_format=torch.channels_last)


_IMPORTING = threading.Lock()


def _openvino() -> Any:
    """Import OpenVINO without its telemetry, which sends an event when it is imported."""
    with _IMPORTING:
        if OPENVINO in sys.modules:
            return sys.modules[OPENVINO]
        name = "openvino_telemetry"
        before = {one: sys.modules[one] for one in (name,) if one in sys.modules}
        sys.modules[name] = None  # type: ignore[assignment]  # an import of it fails
        try:
            return importlib.import_module(OPENVINO)
        finally:
            del sys.modules[name]
            sys.modules.update(before)
