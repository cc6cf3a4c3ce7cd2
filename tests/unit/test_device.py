"""Devices: a GPU that cannot be used is reported and is no error."""

import warnings

import pytest
import torch

from pytest_datasize.embedding import device as devices
from pytest_datasize.errors import BackboneError

OLD = "The NVIDIA driver on your system is too old (found version 12080)."


@pytest.fixture(autouse=True)
def unknown():
    devices.forget()
    yield
    devices.forget()


def old_driver() -> bool:
    warnings.warn(OLD, stacklevel=1)
    return False


def test_an_old_driver_is_told_and_no_error_where_warnings_are(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", old_driver)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = devices.resolve("auto")
    assert found == torch.device("cpu")
    assert OLD in devices.describe(found)
    with pytest.raises(BackboneError, match="too old"):
        devices.resolve("cuda")


def test_a_gpu_that_fails_at_its_first_use_is_not_taken(monkeypatch):
    def fails(*arguments, **options):
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", fails)
    assert devices.resolve("auto") == torch.device("cpu")
    assert "busy or unavailable" in devices.describe(torch.device("cpu"))


@pytest.mark.parametrize("worth", [True, False])
def test_auto_uses_a_gpu_for_enough_work_only(monkeypatch, worth):
    tried = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch, "ones", lambda *_, **__: tried.append(1) or torch.zeros(2))
    assert devices.resolve("auto", lambda: worth).type == ("cuda" if worth else "cpu")
    assert tried == [1] * worth  # else it is not even woken
    assert devices.resolve("cuda", lambda: worth).type == "cuda"


def test_without_a_gpu_the_work_is_not_estimated(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.resolve("auto", lambda: pytest.fail("estimated")).type != "cuda"


@pytest.mark.parametrize(("emulated", "expected"), [(True, False), (False, True)])
def test_emulated_bfloat16_does_not_count(monkeypatch, emulated, expected):
    def supported(including_emulation=True):
        return including_emulation or not emulated

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "device", lambda device: warnings.catch_warnings())
    gpu = torch.device("cuda", 0)
    assert devices.has_bfloat16(gpu) is expected
    assert devices.trained_in(gpu) == ("mixed" if expected else "float32")


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ValueError("CUDA error: out of memory"), False),
    ],
)
def test_full_memory_is_recognised_by_its_words(problem, expected):
    assert devices.out_of_memory(problem) is expected
