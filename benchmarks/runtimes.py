"""What a cold gate costs with each runtime, against bare loops over the same images.

    python benchmarks/runtimes.py [--rounds 3] [--sides 96 224] [--cores 1]
    python benchmarks/runtimes.py --fashion-mnist DIR --images 5000

Every figure is a process of its own on the given number of cores; rounds are interleaved and the
least time of a figure counts. Imports are left out. All decode the 2,000 JPEG textiles (or the
first clothes) and push them once through the default backbone with all its stages, in bfloat16
where the processor has it:

folded      a bare loop, PyTorch's own layers, BatchNorm folded
fused       the same loop with the layers as a gate fuses them
openvino    the same loop with the converted model; its conversion is not counted
study       all of that for real, with an empty store: embedding, near-duplicates, 80 heads, curve;
            with OpenVINO, converting the model is counted
"""

import argparse
import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

FIGURES = ("folded", "fused", "openvino", "study torch", "study openvino")
BATCH = 8


def main() -> None:
    """Run all figures and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sides", type=int, nargs="+", default=[96, 224])
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--fashion-mnist", type=Path, help="folder of the four idx files")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="200 digits of 64 pixels, one round")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measured(*arguments.child, arguments)))
        return
    if arguments.quick:
        arguments.rounds, arguments.sides = 1, [64]
    for side in arguments.sides:
        best: dict[str, dict[str, Any]] = {}
        for _ in range(arguments.rounds):
            for figure in FIGURES:
                found = child(figure, side, arguments)
                if figure not in best or found["seconds"] < best[figure]["seconds"]:
                    best[figure] = found
        floor = best["openvino"]["seconds"]
        for figure, found in best.items():
            print(
                f"{side:4} pixels  {figure:15} {found['seconds']:7.2f} s "
                f"{1e3 * found['seconds'] / found['images']:7.2f} ms an image "
                f"{found['seconds'] / floor:6.2f} x openvino  {found['says']}",
                flush=True,
            )


def child(figure: str, side: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure one figure in a process of its own."""
    command = [sys.executable, __file__, "--child", figure, str(side)]
    command += ["--images", str(arguments.images)]
    if arguments.quick:
        command.append("--quick")
    if arguments.fashion_mnist:
        command += ["--fashion-mnist", str(arguments.fashion_mnist)]
    environment = {**os.environ, "PYTEST_DATASIZE_THREADS": str(arguments.cores)}
    environment["OMP_NUM_THREADS"] = str(arguments.cores)
    process = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=environment
    )
    found: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return found


def measured(figure: str, side: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Time one figure."""
    from pytest_datasize.embedding.threads import n_threads

    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: n_threads()])
    data = dataset(arguments)
    name, _, runtime = figure.partition(" ")
    if runtime:
        return study(data, int(side), runtime)
    return loop(data, int(side), name)


def dataset(arguments: argparse.Namespace) -> Any:
    """Return the textiles' folder, the first clothes or some digits."""
    import conformal_clip_data
    from cost import fashion

    if arguments.quick:
        from sklearn.datasets import load_digits

        digits = load_digits()
        return digits.images[:200] / 16, digits.target[:200]
    if arguments.fashion_mnist is None:
        return str(conformal_clip_data.textile_simulated_root())
    with tempfile.TemporaryDirectory() as place:
        text = json.dumps([str(arguments.fashion_mnist), arguments.images])
        (Path(place) / "fashion.json").write_text(text)
        return fashion(place)


def study(data: Any, side: int, runtime: str) -> dict[str, Any]:
    """Time a study with an empty store."""
    import openvino  # noqa: F401
    import timm  # noqa: F401

    import pytest_datasize.study.run
    import pytest_datasize.trials.strategies.feature_extraction  # noqa: F401
    from pytest_datasize import Study

    with tempfile.TemporaryDirectory() as store:
        start = time.perf_counter()
        asked = Study(data, store=store, runtime=runtime, image_size=side, device="cpu")
        found = asked.run()
        seconds = time.perf_counter() - start
    embedding = f"embedding {found.timings['decode_and_embed']:.2f} s, {found.precision}"
    return {"seconds": seconds, "images": found.total, "says": embedding}


def loop(data: Any, side: int, name: str) -> dict[str, Any]:
    """Time a bare loop: decode and embed once, with nothing else around it."""
    import torch
    from cost import folded

    from pytest_datasize.embedding.backbone import load
    from pytest_datasize.embedding.precision import fast_precisions, prepare, prepare_openvino
    from pytest_datasize.embedding.stages import with_stages
    from pytest_datasize.embedding.threads import n_threads
    from pytest_datasize.images.decode import decode
    from pytest_datasize.images.sources.load import load as load_images

    images = load_images(data).images
    backbone = with_stages(load("tf_efficientnet_lite0", image_size=side))
    torch.set_num_threads(1)
    first = torch.stack([backbone.preprocess(decode(images.read(row))) for row in range(4)])
    dtype = torch.bfloat16 if fast_precisions(torch.device("cpu")) else torch.float32
    model: Callable[[Any], Any]
    start = time.perf_counter()
    if name == "openvino":
        model, dtype = prepare_openvino(backbone, first, BATCH).model, torch.float32
    elif name == "fused":
        model = prepare(backbone, torch.device("cpu"), first).model
    else:
        with torch.no_grad():  # weights made in inference mode cannot be used in float32
            own = folded(copy.deepcopy(backbone.model), first)
        model = own.to(dtype, memory_format=torch.channels_last)
    prepared = time.perf_counter() - start

    @torch.inference_mode()
    def batch(first: int) -> Any:
        rows = range(first, min(first + BATCH, len(images)))
        pixels = torch.stack([backbone.crop(decode(images.read(row))) for row in rows])
        given = backbone.normalise(pixels).to(dtype, memory_format=torch.channels_last)
        return model(given).half()

    start = time.perf_counter()
    with ThreadPoolExecutor(n_threads()) as pool:
        list(pool.map(batch, range(0, len(images), BATCH)))
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "images": len(images), "says": f"prepared in {prepared:.2f} s"}


if __name__ == "__main__":
    main()
