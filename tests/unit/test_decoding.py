"""Images are decoded in other processes with the same bits and the same errors, or in threads."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from readers import Deadly, Stubborn
from support import shapes, stages, write_folder
from timm.data import create_transform

from pytest_datasize.embedding import embed as embed_module
from pytest_datasize.embedding import reader
from pytest_datasize.embedding.backbone import load
from pytest_datasize.embedding.embed import embed
from pytest_datasize.embedding.embedder import Embedder
from pytest_datasize.embedding.reader import plain_crop
from pytest_datasize.embedding.threads import THREADS, feeding_threads
from pytest_datasize.errors import DatasetError
from pytest_datasize.images import decoding
from pytest_datasize.images.decoding import Decoders, Place
from pytest_datasize.images.sources.load import load as load_images
from pytest_datasize.images.undecodable import UndecodableError
from pytest_datasize.store import Store

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def backbone():
    return load(stages(normed=True, cells=(1, 1)), image_size=24)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return load_images(write_folder(tmp_path_factory.mktemp("images"), *shapes(60)))[0]


@pytest.fixture
def processes(monkeypatch):
    """Decode in two processes from the first image on; lists the pools of processes made."""
    made = []

    class Ready(Decoders):
        def __init__(self, images, number, crop):
            super().__init__(images, number, crop)
            self.crops = [crop is not None]
            self._starting.join()
            self.sizes = [self._idle.qsize()]
            made.append(self)

        def close(self):
            self.sizes.append(self._idle.qsize())
            super().close()

    monkeypatch.setattr(reader, "Decoders", Ready)
    monkeypatch.setattr(decoding, "WORTH", 1)
    monkeypatch.setattr(embed_module, "n_threads", lambda: 2)
    yield made
    for pool in made:
        for process in pool._processes:
            assert process._process.returncode is not None  # ended, and waited for


def embedded(images, backbone):
    """Embed as on a GPU, where this thread feeds the device."""
    return embed([images], Embedder(backbone, CPU), Store(), forward_in_workers=False)


@pytest.mark.parametrize("there", [True, False])
def test_processes_give_the_bits_of_threads(images, backbone, processes, monkeypatch, there):
    """They crop, too, where they can without torchvision."""
    if not there:
        monkeypatch.setattr(reader, "plain_crop", lambda crop: None)
    found = embedded(images, backbone)
    assert processes[0].sizes == [2, 2]
    assert processes[0].crops == [there]
    plain = embed([images], Embedder(backbone, CPU), Store())
    assert len(processes) == 1  # where threads embed, they decode
    assert torch.equal(found.features, plain.features)
    assert found.contents == plain.contents


@pytest.mark.parametrize("how", ["bicubic", "bilinear", "squash"])
def test_a_plain_crop_has_the_bits_of_torchvision(how):
    mode, kind = ("squash", "bicubic") if how == "squash" else ("center", how)
    given = {"interpolation": kind, "crop_mode": mode, "crop_pct": 0.95}
    crop = create_transform((3, 40, 40), is_training=False, normalize=False, **given)
    found = plain_crop(crop)
    assert (found is None) is (how == "squash")  # which fits both sides
    for width, height in ((9, 200), (42, 42), (133, 57), (50, 43)) if found else ():
        noise = np.random.default_rng(width).integers(256, size=(height, width, 3), dtype=np.uint8)
        picture = Image.fromarray(noise)
        assert np.array_equal(crop(picture).permute(1, 2, 0), found(picture))


def test_pixels_hashes_and_squares_of_a_process_are_those_of_this_one(images):
    pool = Decoders([images, images.part([3, 1])], 1)
    try:
        pool._starting.join()
        [first, second, third] = pool.decode(
            [Place(0, 7, True), Place(1, 0, False), Place(1, 5, 1)]
        )
    finally:
        pool.close()
    part = decoding._Part.of(images)
    for found, expected in ((first, Place(0, 7, True)), (second, Place(0, 3, False))):
        here = part.picture(expected)
        assert (found.pixels == here.pixels).all()
        assert found[1:] == here[1:]
    assert third is None  # there is no such image


@pytest.mark.parametrize("problem", [UndecodableError, DatasetError, ZeroDivisionError])
def test_errors_are_those_of_threads(images, backbone, processes, problem):
    broken = replace(images, read=Stubborn(41, problem), stamp=lambda row: None)
    with pytest.raises((DatasetError, ZeroDivisionError)) as here:
        embed([broken], Embedder(backbone, CPU), Store())
    with pytest.raises(here.type) as there:
        embedded(replace(broken, stamp=images.stamp), backbone)
    assert str(there.value) == str(here.value)
    assert "nothing is left of image 41" in str(there.value)
    assert processes[0].sizes[0] == 2


def test_a_file_that_is_no_image_is_listed(tmp_path, backbone, processes):
    root = write_folder(tmp_path, *shapes(20))
    (root / "left" / "0004.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(30))
    with pytest.raises(DatasetError, match=r"1 of 20 images cannot be read.*\n.*0004.png"):
        embedded(load_images(root)[0], backbone)
    assert processes[0].sizes == [2, 2]


def test_what_a_dead_process_left_is_decoded_here(images, backbone, processes, capfd):
    deadly = replace(images, read=Deadly(9, os.getpid()))
    found = embedded(deadly, backbone)
    assert processes[0].sizes == [2, 1]
    plain = embed([deadly], Embedder(backbone, CPU), Store())
    assert torch.equal(found.features, plain.features)
    assert "Traceback" not in capfd.readouterr().err


def test_killed_processes_leave_all_to_the_threads(images, backbone, processes, monkeypatch):
    monkeypatch.setattr(decoding, "_CODE", "raise SystemExit({!r:.0})")
    embedded(images, backbone)
    assert processes[0].sizes == [0, 0]


def test_images_that_cannot_be_pickled_or_are_many_bytes_need_no_process(
    images, backbone, processes, monkeypatch
):
    plain = embed([images], Embedder(backbone, CPU), Store())
    local = replace(images, read=lambda row: images.read(row))
    assert torch.equal(embedded(local, backbone).features, plain.features)
    monkeypatch.setattr(decoding, "MOST_BYTES", 100)
    assert torch.equal(embedded(images, backbone).features, plain.features)
    assert [pool._processes for pool in processes] == [[], []]


def test_an_exception_ends_all_processes(images, backbone, processes):
    def interrupt(done, total):
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        embed([images], Embedder(backbone, CPU), Store(), interrupt, forward_in_workers=False)
    assert len(processes[0]._processes) == 2  # the fixture sees that they have ended


PARENT = """
import sys, time
from pytest_datasize.images.decoding import Decoders
from pytest_datasize.images.sources.load import load

if __name__ == "__main__":
    pool = Decoders([load(sys.argv[1])[0]], 2)
    print(*(process.pid for process in pool._processes), flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="processes are looked up as on POSIX")
def test_processes_end_with_their_parent(images, tmp_path):
    """A parent that is killed ends nothing itself; its script is not run again by them."""
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    folder = write_folder(tmp_path / "images", *shapes(4))
    with subprocess.Popen([sys.executable, script, folder], stdout=subprocess.PIPE) as parent:
        numbers = list(map(int, parent.stdout.readline().split()))
        parent.kill()
    assert len(numbers) == 2
    end = time.monotonic() + 60
    while any(map(runs, numbers)):
        assert time.monotonic() < end, "a process is left"
        time.sleep(0.05)


def runs(number: int) -> bool:
    """Whether there is a process of that number, which is no zombie that nobody waits for."""
    try:
        os.kill(number, 0)
        return " Z " not in Path(f"/proc/{number}/stat").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_gpu_is_fed_by_four_threads_however_many_sessions_there_are(monkeypatch):
    from pytest_datasize.embedding import threads

    monkeypatch.setattr(threads, "_cores", lambda: 16)
    monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", "16")
    monkeypatch.delenv(THREADS, raising=False)
    assert (threads.n_threads(), feeding_threads()) == (1, 4)
    monkeypatch.setenv(THREADS, "2")
    assert feeding_threads() == 2
