"""Set the process-wide settings that results depend on, and restore those of the user.

A ``conftest.py`` may allow truncated images, make numpy's warnings errors, or change torch's
default type and device. The same gate must then give the same numbers. Only packages that are
imported already can have such settings, so this module imports none of them.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import reduce
from typing import Any, Final, NamedTuple


class _Setting(NamedTuple):
    """One setting: the module it belongs to, how it is read and written, and our value."""

    module: str
    read: Callable[[Any], Any]
    write: Callable[[Any, Any], Any]
    ours: Callable[[Any], Any]


def _attribute(module: str, path: str, ours: Any) -> _Setting:
    """Return the setting that an attribute holds, such as ``backends.cudnn.benchmark``."""
    *above, name = path.split(".")

    def holder(found: Any) -> Any:
        return reduce(getattr, above, found)

    def read(found: Any) -> Any:
        try:
            return getattr(holder(found), name)
        except AttributeError:  # this version has no such setting
            return ours

    return _Setting(
        module,
        read,
        lambda found, value: setattr(holder(found), name, value),
        lambda found: ours,
    )


_PLACES: Final = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv")
"""Where torch may calculate float32 in fewer bits, such as TF32 on GPUs."""


def _float32(place: str) -> _Setting:
    return _attribute("torch", f"backends.{place}.fp32_precision", "ieee")


def _is_old(torch: Any) -> bool:
    """Whether this torch has no precision for each place."""
    return not hasattr(torch.backends.cuda.matmul, "fp32_precision")


def _autocast(device: str) -> _Setting:
    return _Setting(
        "torch",
        lambda module: module.is_autocast_enabled(device),
        lambda module, value: module.set_autocast_enabled(device, value),
        lambda module: False,
    )


SETTINGS: Final = {
    "truncated images": _attribute("PIL.ImageFile", "LOAD_TRUNCATED_IMAGES", False),
    "largest image": _attribute("PIL.Image", "MAX_IMAGE_PIXELS", None),  # max_pixels instead
    "decoder of TIFF": _attribute("PIL.TiffImagePlugin", "READ_LIBTIFF", False),
    "frames of GIF": _attribute("PIL.GifImagePlugin", "LOADING_STRATEGY", 0),
    "floating-point errors": _Setting(
        "numpy",
        lambda module: module.geterr(),
        lambda module, value: module.seterr(**value),
        lambda module: {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"},
    ),
    "default type": _Setting(
        "torch",
        lambda module: module.get_default_dtype(),
        lambda module, value: module.set_default_dtype(value),
        lambda module: module.float32,
    ),
    "default device": _Setting(
        "torch",
        lambda module: module.get_default_device(),
        lambda module, value: module.set_default_device(value),
        lambda module: module.device("cpu"),
    ),
    "gradients": _Setting(
        "torch",
        lambda module: module.is_grad_enabled(),
        lambda module, value: module.set_grad_enabled(value),
        lambda module: True,
    ),
    **{f"precision of {place}": _float32(place) for place in _PLACES},
    "precision of products": _Setting(  # before torch 2.9; mixed with the above, reading raises
        "torch",
        lambda module: module.get_float32_matmul_precision() if _is_old(module) else "highest",
        lambda module, value: module.set_float32_matmul_precision(value),
        lambda module: "highest",
    ),
    "TF32 in convolutions": _Setting(
        "torch",
        lambda module: module.backends.cudnn.allow_tf32 if _is_old(module) else False,
        lambda module, value: setattr(module.backends.cudnn, "allow_tf32", value),
        lambda module: False,
    ),
    "deterministic algorithms": _Setting(  # as an error, it forbids some of those that we use
        "torch",
        lambda module: module.get_deterministic_debug_mode(),
        lambda module, value: module.set_deterministic_debug_mode(value),
        lambda module: 0,
    ),
    "search for anomalies": _Setting(
        "torch",
        lambda module: module.is_anomaly_enabled(),
        lambda module, value: module.autograd.set_detect_anomaly(value),
        lambda module: False,
    ),
    "mixed precision on the CPU": _autocast("cpu"),
    "mixed precision on the GPU": _autocast("cuda"),
    "search for the fastest convolution": _attribute("torch", "backends.cudnn.benchmark", False),
    "deterministic convolutions": _attribute("torch", "backends.cudnn.deterministic", True),
    "oneDNN": _attribute("torch", "backends.mkldnn.enabled", True),
}
"""What is set, and to what."""

_GIVEN: ContextVar[dict[str, Any]] = ContextVar("given", default={})  # noqa: B039  (never changed)


@contextmanager
def own_settings() -> Iterator[None]:
    """Run code of this package with its own settings; those of the user are restored afterwards."""
    given: dict[str, Any] = {}
    with ExitStack() as stack:
        for name, setting in SETTINGS.items():
            module = sys.modules.get(setting.module)
            if module is None:
                continue
            before, ours = setting.read(module), setting.ours(module)
            if before == ours:
                continue
            given[name] = before
            setting.write(module, ours)
            stack.callback(setting.write, module, before)
        token = _GIVEN.set({**_GIVEN.get(), **given})
        stack.callback(_GIVEN.reset, token)
        yield


@contextmanager
def given_settings() -> Iterator[None]:
    """Run code of the user, such as a trainer, with the user's own settings."""
    with ExitStack() as stack:
        for name, value in _GIVEN.get().items():
            setting = SETTINGS[name]
            module = sys.modules[setting.module]
            stack.callback(setting.write, module, setting.read(module))
            setting.write(module, value)
        yield
