"""What embedding will cost, from one timed batch."""

import time

import torch

from pytest_datasize.transfer.backbone import Backbone
from pytest_datasize.transfer.device import n_threads, torch_threads
from pytest_datasize.transfer.embedding import CPU_BATCH, GPU_BATCH


@torch.inference_mode()
def seconds_per_image(backbone: Backbone, device: torch.device) -> float:
    """Time one batch through the backbone and divide by what runs side by side.

    Decoding is left out: it overlaps with the backbone and is cheaper than it.
    """
    on_cpu = device.type == "cpu"
    size = CPU_BATCH if on_cpu else GPU_BATCH
    batch = torch.zeros(size, 3, backbone.image_size, backbone.image_size, device=device)
    batch = batch.contiguous(memory_format=torch.channels_last)
    model = backbone.model.to(device)
    with torch_threads(1):
        model(batch)
        start = time.perf_counter()
        float(model(batch).sum())  # waits for the device
        seconds = time.perf_counter() - start
    return seconds / size / (n_threads() if on_cpu else 1)
