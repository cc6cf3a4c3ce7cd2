"""What it saves to fuse layers into the convolutions beside them, and to use OpenVINO, on this CPU.

    python benchmarks/fusion.py [BACKBONE ...] [--rounds 5]

Milliseconds per image in one thread, batches of eight, for each backbone (random weights) and
precision: with BatchNorm folded alone, and as a gate runs it with PyTorch and, where it is
installed, with OpenVINO. Rounds are interleaved; the least time of each counts.
"""

import argparse
import copy
import time
from importlib.util import find_spec
from typing import Any

import timm
import torch
from cost import folded

from pytest_datasize.embedding.backbone import Features
from pytest_datasize.embedding.fusion import fuse, watch
from pytest_datasize.embedding.openvino_runtime import OpenVINOModel

BACKBONES = (
    "tf_efficientnet_lite0",
    "mobilenetv3_large_100",
    "efficientnet_b0",
    "regnety_004",
    "resnet18",
    "resnet50",
    "densenet121",
    "convnext_tiny",
    "vit_tiny_patch16_224",
)
BATCH = 8


@torch.inference_mode()
def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("backbones", nargs="*", default=BACKBONES)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.backbones:
        model = Features(timm.create_model(name, pretrained=False)).eval().requires_grad_(False)
        model = model.to(memory_format=torch.channels_last)
        images = torch.rand(BATCH, 3, 224, 224).contiguous(memory_format=torch.channels_last)
        plain = copy.deepcopy(model)
        models: dict[str, Any] = {
            "folded": folded(copy.deepcopy(model), images[:1]),
            "fused": model,
        }
        fuse(model, watch(model, images[:1])[1])
        for dtype in (torch.float32, torch.bfloat16):
            precision = str(dtype).removeprefix("torch.")
            if find_spec("openvino"):
                models["openvino"] = OpenVINOModel(plain, 224, BATCH, precision)
            best = dict.fromkeys(models, float("inf"))
            for _ in range(arguments.rounds):
                for kind, one in models.items():
                    given = images
                    if isinstance(one, torch.nn.Module):
                        one.to(dtype)
                        given = images.to(dtype)
                    start = time.perf_counter()
                    one(given)
                    best[kind] = min(best[kind], time.perf_counter() - start)
            text = "  ".join(
                f"{kind} {1e3 * best[kind] / BATCH:6.2f} ms {best['folded'] / best[kind]:5.2f} x"
                for kind in models
            )
            print(f"{name:22} {precision:9} {text}", flush=True)


if __name__ == "__main__":
    main()
