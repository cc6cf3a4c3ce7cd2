"""What embedding will cost, from one timed batch."""

import time

import torch

from pytest_datasize.threads import n_threads
from pytest_datasize.transfer.backbone import Backbone
from pytest_datasize.transfer.device import torch_threads
from pytest_datasize.transfer.embedding import CPU_BATCH, GPU_BATCH
from pytest_datasize.transfer.inference import prepare


@torch.inference_mode()
def seconds_per_image(backbone: Backbone, device: torch.device, precision: str = "auto") -> float:
    """Time one batch through the backbone and divide by what runs side by side.

    In half precision where the hardware is fast in it and none is asked for: whether the images
    allow it is seen when they are embedded.

    Decoding is left out: it overlaps with the backbone and is cheaper than it.
    """
    on_cpu = device.type == "cpu"
    size = CPU_BATCH if on_cpu else GPU_BATCH
    batch = torch.rand(size, 3, backbone.image_size, backbone.image_size)
    with torch_threads(1):
        inference = prepare(backbone, device, batch[:2], precision)
        model = inference.model
        batch = batch.to(device, inference.dtype, memory_format=torch.channels_last)
        model(batch)
        start = time.perf_counter()
        float(model(batch).sum())  # waits for the device
        seconds = time.perf_counter() - start
    return seconds / size / (n_threads() if on_cpu else 1)
