"""Measure how fast threads and processes decode images, and what that costs this process.

    python benchmarks/decoding.py [--images 2000] [--rounds 3] [--quick]

Decodes, hashes and crops the textiles of `conformal-clip-data` (JPEG files of 250 x 250 pixels) for
a backbone of 224 pixels, as for a GPU, with one and with two threads, alone and with a process for
each thread. Prints images per second, and seconds of CPU time of this process per 1,000 images: the
median of some rounds in which all variants take turns. All must give the same bits.
"""

import argparse
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import conformal_clip_data
import torch

from pytest_datasize.embedding.backbone import RANDOM, load
from pytest_datasize.embedding.embedder import CPU_BATCH
from pytest_datasize.embedding.reader import Decoded, Reader
from pytest_datasize.images.decoding import Decoders
from pytest_datasize.images.image_set import ImageSet
from pytest_datasize.images.sources.load import load as load_images
from pytest_datasize.store import Store

WAYS = ((1, False), (1, True), (2, False), (2, True))


class Cost(NamedTuple):
    """Seconds of wall time and of this process's CPU time, and of starting processes."""

    wall: float
    own: float
    start: float


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="64 images, one round")
    arguments = parser.parse_args()
    n, rounds = (64, 1) if arguments.quick else (arguments.images, arguments.rounds)
    torch.set_num_threads(1)
    every = load_images(str(Path(conformal_clip_data.textile_simulated_root())))[0]
    images = every.part(range(min(n, len(every))))
    costs: dict[tuple[int, bool], list[Cost]] = {way: [] for way in WAYS}
    expected: list[Decoded] = []
    for _ in range(rounds):
        for way in WAYS:
            cost, found = measured(images, *way)
            costs[way].append(cost)
            expected = expected or found
            assert all(map(same, found, expected))
    print("| threads | processes | images/s | own CPU s per 1,000 | start, s |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    for (threads, helped), several in costs.items():
        wall, own, start = (statistics.median(one) for one in zip(*several, strict=True))
        rate, processes = len(images) / wall, threads * helped
        per = 1000 * own / len(images)
        print(f"| {threads} | {processes} | {rate:,.0f} | {per:.2f} | {start:.1f} |")


def measured(images: ImageSet, threads: int, helped: bool) -> tuple[Cost, list[Decoded]]:
    """Decode some images, once all processes are there."""
    crop = load("tf_efficientnet_lite0", RANDOM, 224).crop
    reader, start = Reader([images], crop, Store()), 0.0
    if helped:
        begin = time.perf_counter()
        reader.start_decoders(threads)
        assert isinstance(reader._decoders, Decoders)
        reader._decoders._starting.join()
        start = time.perf_counter() - begin
    chunks = [range(k, min(k + CPU_BATCH, len(images))) for k in range(0, len(images), CPU_BATCH)]
    with ThreadPoolExecutor(threads) as pool:
        wall, own = time.perf_counter(), time.process_time()
        found = [one for several in pool.map(reader.read, chunks) for one in several]
        cost = Cost(time.perf_counter() - wall, time.process_time() - own, start)
    reader.close()
    return cost, found


def same(one: Decoded, other: Decoded) -> bool:
    """Whether two images have the same hashes and pixels."""
    assert one.pixels is not None
    assert other.pixels is not None
    hashes = (one.content, one.squares) == (other.content, other.squares)
    return hashes and torch.equal(one.pixels, other.pixels)


if __name__ == "__main__":
    main()
